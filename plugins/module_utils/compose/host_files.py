# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of the host that containers mount, and whether they changed since a container started.

Compose's configuration names a file, not what is in it, so a changed file is found out here.

What a running container has mounted is a file's inode, not its path. ``template`` and ``copy`` put
a new file in its place, and the container goes on with the former one. The engine does not tell:
its archive of a container reads the path anew. Where this process may look at the container's own
mounts (``/proc/PID/root``, for which it must be root on the engine's host), the two are compared:

- another inode: the file was replaced. It changed if its content did.
- the same inode: the content is the same, but the process may have read it before it was written.
  A file that is mounted read-only changed if it was written after the start. One that is mounted
  writable may have been written by the container itself, so nothing is claimed.

Otherwise the times decide: a read-only file changed if its inode did after the container's start.
That may replace a container once too often, after a ``chmod``, and never again and again.

Folders are not compared: they may hold data. Engines at another host (TCP) have files of their
own, of which nothing is known.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KINDS = {"configs": "/", "secrets": "/run/secrets/"}
CHUNK = 1 << 20
# More than a configuration has. Beyond it the size decides.
MOST_COMPARED = 64 * CHUNK
OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class HostFile:
    """A file that containers of a service mount.

    :param path: on the host.
    :param target: in the container.
    """

    path: Path
    target: str
    read_only: bool

    def shown(self, folder: Path) -> str:
        """Return its name for people: relative to the project's folder if it is there."""
        if self.path.is_relative_to(folder):
            return f"./{self.path.relative_to(folder)}"
        return str(self.path)

    def changed(self, container_id: str, pid: int, started: int) -> bool:
        """Tell whether it changed since the container started, as the module's text says.

        :param pid: the container's process; 0 if it does not run.
        :param started: when that was, in nanoseconds since 1970.
        """
        try:
            seen = self.path.stat()
            if not stat.S_ISREG(seen.st_mode):
                return False
            touched = max([seen.st_ctime_ns, *map(link_time, (self.path, *self.path.parents))])
            mounted = find_mounted(container_id, pid, self.target)
            if mounted is None:
                return self.read_only and touched > started
            theirs = mounted.stat()
            if (theirs.st_dev, theirs.st_ino) == (seen.st_dev, seen.st_ino):
                return self.read_only and seen.st_mtime_ns > started
            return not same_content(self.path, mounted)
        except OSError:
            return False  # it is missing, or may not be read: compose will say so


def host_files(model: Mapping[str, Any], spec: Mapping[str, Any]) -> list[HostFile]:
    """Return the paths that containers of a service mount by themselves; some may be folders.

    :param model: what ``docker compose config`` renders.
    :param spec: the service of it.
    """
    found = [
        HostFile(Path(volume["source"]), volume["target"], bool(volume.get("read_only")))
        for volume in spec.get("volumes") or ()
        if volume.get("type") == "bind" and volume.get("source")
    ]
    for kind in KINDS:
        for entry in spec.get(kind) or ():
            definition = (model.get(kind) or {}).get(entry["source"]) or {}
            if definition.get("file"):
                found.append(HostFile(Path(definition["file"]), target_of(kind, entry), True))
    return found


def target_of(kind: str, entry: Mapping[str, Any]) -> str:
    """Return where a container has a config or secret."""
    target = str(entry.get("target") or entry["source"])
    return target if target.startswith("/") else f"{KINDS[kind]}{target}"


def link_time(path: Path) -> int:
    """Return when a symbolic link was made, in nanoseconds since 1970; 0 for anything else."""
    seen = path.lstat()
    return seen.st_ctime_ns if stat.S_ISLNK(seen.st_mode) else 0


def find_mounted(container_id: str, pid: int, target: str) -> Path | None:
    """Return the path of what a container has mounted at *target*, or None if it is not known.

    Only a place that is a mount itself is followed: a link in it would lead out of the container.
    """
    if not pid:
        return None
    process = Path("/proc") / str(pid)
    try:
        mounts = (process / "mountinfo").read_text(errors="surrogateescape")
        # The number may be another process's: this one may run in a container itself.
        if container_id not in mounts + (process / "cgroup").read_text():
            return None
        places = {line.split(" ")[4] for line in mounts.splitlines()}
    except (OSError, IndexError):
        return None
    normal = os.path.normpath(target)
    if normal not in {OCTAL.sub(lambda found: chr(int(found[1], 8)), one) for one in places}:
        return None
    mounted = process / "root" / normal.lstrip("/")
    with suppress(OSError):
        mounted.stat()
        return mounted
    return None


def same_content(one: Path, other: Path) -> bool:
    """Compare two files."""
    with one.open("rb") as mine, other.open("rb") as theirs:
        size = os.fstat(mine.fileno()).st_size
        if size != os.fstat(theirs.fileno()).st_size or size > MOST_COMPARED:
            return False
        while True:
            data = mine.read(CHUNK)
            if data != theirs.read(CHUNK):
                return False
            if not data:
                return True
