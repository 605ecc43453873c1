# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The label by which compose tells whether a container is up to date. Compose itself is asked.

How the label is computed is compose's own affair, and differs between its versions. Each is asked
for with the ids of other containers in place of the services, as ``docker compose up`` has them
then. The name of a service is no part of its label, so a service can be asked for several times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .cli import Compose, ComposeError, Limit
from .engine_state import Instance
from .service import Service

ASK_SECONDS = 60.0
# Returns the label of each of several services.
Ask = Callable[[Sequence[Mapping[str, Any]]], list[str]]


def ask_compose(
    compose: Compose, model: Mapping[str, Any], specs: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Return the label that ``docker compose up`` gives the containers of each of *specs*.

    :param model: the project; its own services do not matter.
    :raises ComposeError: compose does not tell.
    """
    if not specs:
        return []
    named = {f"s{number}": spec for number, spec in enumerate(specs)}
    told = compose.run(
        {**model, "services": named},
        *("config", "--no-consistency", "--no-normalize", "--hash", "*"),
        doing="ask for the configuration hashes",
        limit=Limit(ASK_SECONDS, "Run this again."),
    )
    found = dict(line.split() for line in told.splitlines() if len(line.split()) == 2)
    if set(found) != set(named):
        raise ComposeError(
            f"docker compose told {len(found)} configuration hashes of {len(named)}",
            next_step="Use another version of docker compose, and report this one.",
        )
    return [found[name] for name in named]


def with_due(
    ask: Ask, services: Mapping[str, Service], found: Mapping[str, Sequence[Instance]]
) -> dict[str, list[Instance]]:
    """Return the containers, each with the label that compose would give it now.

    Compose is asked once, and only if a service refers to containers of others.
    """
    variants: dict[tuple[str, str], dict[str, Any]] = {}
    keys: dict[str, tuple[str, str]] = {}
    for name, service in services.items():
        for one in found.get(name, ()) if service.references else ():
            refers = references(service, one)
            if refers is not None:
                keys[one.id] = (name, repr(sorted(refers.items())))
                variants[keys[one.id]] = service.resolved(refers)
    labels = dict(zip(variants, ask(list(variants.values())), strict=True)) if variants else {}

    def due(one: Instance) -> str:
        service = services.get(one.service)
        if service is None:
            return ""
        return labels.get(keys.get(one.id, ("", "")), "") if service.references else service.hash

    return {name: [replace(one, due=due(one)) for one in ones] for name, ones in found.items()}


def references(service: Service, one: Instance) -> dict[str, str] | None:
    """Return the ids that a container refers to, by service; None if it has other ones."""
    written = service.spec.get("volumes_from") or ()
    if len(written) != len(one.volumes_from) or set(service.shares) - set(one.shares):
        return None
    found = {
        entry.split(":")[0]: container_id
        for entry, container_id in zip(written, one.volumes_from, strict=True)
        if not entry.startswith("container:")
    }
    found.update({name: one.shares[kind] for kind, name in service.shares.items()})
    return found
