# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a strategy cannot do with a project, refused before anything is done."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from .cli import ComposeError
from .project import Project

KEY = re.compile(r"""(\s*)["']?([^\s"'#:]+)["']?\s*:""")


class Unsuitable(ComposeError):
    """The compose files hold what the strategy cannot do."""

    kind = "unsuitable"


def check_startable(project: Project) -> None:
    """Make sure that starting a container is all there is to starting each service.

    :raises Unsuitable: a service needs more.
    """
    for service in project.services.values():
        if service.spec.get("provider"):
            raise Unsuitable(
                f"service {service.name} has a provider, so it is no container; only strategy "
                "blue_green can do that"
            )


def check_repeatable(project: Project, folder: Path, strategies: Mapping[str, str]) -> None:
    """Make sure that two containers of each service can run side by side where they have to.

    :param strategies: how each service is replaced.
    :raises Unsuitable: the files fix what only one of them can have.
    """
    for service in project.services.values():
        strategy = strategies[service.name]
        if strategy == "recreate":
            continue
        in_turn = f"write `x-delivery: {{strategy: recreate}}` below {service.name}"
        if service.container_name:
            raise Unsuitable(
                f"service {service.name} has container_name {service.container_name}"
                f"{_place(project, folder, service.name, 'container_name')}, so strategy "
                f"{strategy} cannot run a second container beside it",
                next_step="Remove container_name; others reach the containers by the service's "
                f"name. To have it stopped before the next one starts, {in_turn}.",
            )
        if service.shares and strategy == "rolling":
            kind, other = next(iter(service.shares.items()))
            raise Unsuitable(
                f"service {service.name} shares {kind} with a container of {other}"
                f"{_place(project, folder, service.name, kind)}, which strategy rolling would take "
                "from it",
                next_step=f"Use a network of both, or {in_turn} and {other}.",
            )
        if service.fixed_ports:
            port = service.fixed_ports[0]
            raise Unsuitable(
                f"service {service.name} publishes the fixed port {port}"
                f"{_place(project, folder, service.name, 'ports')}, so strategy {strategy} cannot "
                "run a second container beside it",
                next_step="Give the container's port alone, so that the engine picks the host's, "
                "and let a router hold the fixed one. To have it stopped before the next one "
                f"starts, {in_turn}.",
            )


def _place(project: Project, folder: Path, service: str, key: str) -> str:
    """Return the file and line of a service's *key*, where they are found."""
    for name in project.files:
        try:
            lines = (folder / name).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        number = line_of(lines, service, key)
        if number:
            return f" ({name}, line {number})"
    return ""


def line_of(lines: Sequence[str], service: str, key: str) -> int | None:
    """Return the number of the line of services.SERVICE.KEY in block-style YAML, or None."""
    path = ["services", service, key]
    above: list[tuple[int, str]] = []
    for number, line in enumerate(lines, 1):
        found = KEY.match(line)
        if not found:
            continue
        indent = len(found[1])
        while above and indent <= above[-1][0]:
            above.pop()
        above.append((indent, found[2]))
        if [name for _indent, name in above] == path:
            return number
    return None
