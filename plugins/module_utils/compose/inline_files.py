# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Configs and secrets that are no files of the host: ``content`` and ``environment``.

Compose copies them into a container between its creation and its start. A container that is
started by the engine's API gets them here, in the same way. It keeps them when it is stopped and
started again. Their values are shown nowhere.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..engine.errors import Missing, engine_errors, refusals
from ..engine.inspect import SECOND, Container, parse_time
from ..redaction import KNOWN
from .cli import READ_SECONDS, Compose, ComposeError, Limit
from .host_files import KINDS, target_of
from .model import parse_model
from .project import Project

if TYPE_CHECKING:
    from docker import DockerClient

MODE = 0o444
# Compose rounds the time of a file that it copies to a whole second.
ROUNDED = 2 * SECOND


@dataclass(frozen=True)
class InlineFile:
    """One such file in the containers of a service.

    :param kind: ``config`` or ``secret``.
    :param source: its name in the compose files.
    """

    kind: str
    source: str
    target: str
    data: bytes = field(repr=False)
    mode: int = MODE
    uid: int = 0
    gid: int = 0


def read_inline(compose: Compose, project: Project) -> dict[str, tuple[InlineFile, ...]]:
    """Return these files by service; services that have none are left out.

    :raises ComposeError: the environment has no variable of that name.
    """
    entries = [
        (name, kind, entry, (project.model.get(kind) or {}).get(entry["source"]) or {})
        for name, service in project.services.items()
        for kind in KINDS
        for entry in service.spec.get(kind) or ()
    ]
    variables = {
        definition["environment"]
        for _name, _kind, _entry, definition in entries
        if definition.get("environment")
    }
    values = _ask_values(compose, variables)
    found: dict[str, tuple[InlineFile, ...]] = {}
    for name, kind, entry, definition in entries:
        value = _value(kind, entry["source"], definition, values)
        if value is not None:
            if kind == "secrets" and value not in {project.name, *project.services}:
                KNOWN.learn([value])
            found[name] = (*found.get(name, ()), _file(kind, entry, value))
    return found


def _value(
    kind: str, source: str, definition: Mapping[str, Any], values: Mapping[str, str | None]
) -> str | None:
    if variable := definition.get("environment"):
        value = values.get(variable)
        if value is None:
            raise ComposeError(
                f"the {kind[:-1]} {source} is the variable {variable}, which is not set",
                next_step="Set it in environment, variables or an env file.",
            )
    elif definition.get("content") is None:
        return None
    else:
        value = str(definition["content"]).replace("$$", "$")
    return value


def _file(kind: str, entry: Mapping[str, Any], value: str) -> InlineFile:
    mode = entry.get("mode")
    return InlineFile(
        kind=kind[:-1],
        source=entry["source"],
        target=target_of(kind, entry),
        data=value.encode(),
        # Versions of compose differ: a number, or its octal digits as text.
        mode=MODE if mode is None else int(mode, 8) if isinstance(mode, str) else int(mode),
        uid=int(entry.get("uid") or 0),
        gid=int(entry.get("gid") or 0),
    )


def _ask_values(compose: Compose, variables: Iterable[str]) -> dict[str, str | None]:
    """Return what compose takes variables for: it also reads env files."""
    names = sorted(variables)
    if not names:
        return {}
    model = {"name": "asked", "services": {"asked": {"image": "asked", "environment": names}}}
    limit = Limit(READ_SECONDS, "Check the env files.")
    doing = "read the variables of configs and secrets"
    text = compose.run(model, "config", "--format", "json", doing=doing, limit=limit)
    found = parse_model(text)["services"]["asked"].get("environment") or {}
    return {
        name: None if value is None else str(value).replace("$$", "$")
        for name, value in found.items()
    }


def put_files(client: DockerClient, container: Container, files: Sequence[InlineFile]) -> None:
    """Copy files into a container that was not started yet.

    :raises Refused: the engine refused, as it does for a read-only root file system.
    """
    for file in files:
        doing = f"copy the {file.kind} {file.source} into {container.name}"
        with refusals(doing):
            client.api.put_archive(container.id, "/", _archive(file))


def _archive(file: InlineFile) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        entry = tarfile.TarInfo(file.target.lstrip("/"))
        entry.size, entry.mode = len(file.data), file.mode
        entry.uid, entry.gid = file.uid, file.gid
        archive.addfile(entry, io.BytesIO(file.data))
    return written.getvalue()


def find_changed(
    client: DockerClient, container: Container, files: Sequence[InlineFile]
) -> InlineFile | None:
    """Return the first file that is not what the container was started with.

    Nothing is claimed of one that the container has written itself since, or that is not there.
    """
    for file in files:
        try:
            with engine_errors(f"read the {file.kind} {file.source} in {container.name}"):
                stream, told = client.api.get_archive(container.id, file.target)
                written = b"".join(stream)
        except Missing:
            continue
        if parse_time(str(told.get("mtime") or "")) > container.started + ROUNDED:
            continue
        with tarfile.open(fileobj=io.BytesIO(written)) as archive:
            entry = archive.next()
            data = archive.extractfile(entry) if entry is not None and entry.isfile() else None
            if data is not None and data.read() != file.data:
                return file
    return None
