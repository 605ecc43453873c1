# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Types the lines of a page as a reader would, in shells that stay open.

A line to type stands in a ``console`` block and begins with the machine that it is typed on, as in
``cd$ curl ...``. ``vagrant ssh NAME`` opens a shell on that machine, and ``exit`` ends it.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

HOST = "host"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^## +(.*)$", re.MULTILINE)
LINE = re.compile(r"^(\w+)\$ (.+)$")
OPENS = re.compile(r"^vagrant ssh (\w+)$")
# Vagrant asks the engine for all containers there are, then for each, and gives up where another
# test's is gone by then. Whoever reads that types the line once more.
VAGRANT_LOST_ONE = re.compile(r"executed by Vagrant didn't complete.*No such object", re.DOTALL)


@dataclass(frozen=True)
class Typed:
    """A line, and what came of it: the exit code, and what was printed, errors as well."""

    where: str
    line: str
    code: int
    output: str

    def ok(self) -> str:
        """Return what was printed; fails the test where the line failed."""
        assert self.code == 0, f"{self.where}$ {self.line}\nended with {self.code}:\n{self.output}"
        return self.output


def read_page(page: Path, instead: Mapping[str, str]) -> dict[str, list[tuple[str, str]]]:
    """The lines to type, as (machine, line), by the heading that they stand under ('' at first)."""
    parts = HEADING.split(replace_all(page.read_text(), instead))
    sections = {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}
    read: dict[str, list[tuple[str, str]]] = {}
    for heading, text in sections.items():
        read[heading] = []
        for block in BLOCK.findall(text):
            for line in block.splitlines():
                match = LINE.match(line)
                assert match, f"{page.name}: {line!r} does not say where it is typed"
                read[heading].append((match[1], match[2]))
    return read


def replace_all(text: str, instead: Mapping[str, str]) -> str:
    """Return *text* with each of *instead* replaced."""
    for old, new in instead.items():
        text = text.replace(old, new)
    return text


class Shell:
    """A shell that lines are typed into, one after the other."""

    def __init__(self, command: list[str], folder: Path, env: Mapping[str, str]) -> None:
        self.count = 0
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def type(self, line: str, timeout: float) -> tuple[int, str]:
        """Type *line* and wait for its end; returns its exit code and what was printed.

        :raises AssertionError: when it did not end within *timeout* seconds, or the shell did.
        """
        assert self.process.stdin and self.process.stdout
        self.count += 1
        mark = f"--- typed {self.count}: "
        # On one line, so that a command that reads its input does not take the mark for it. The
        # shell's own words must not look like the mark.
        self.process.stdin.write(f"{line}; printf '\\n%s%s\\n' '{mark}' $?\n".encode())
        self.process.stdin.flush()
        printed, deadline = b"", time.monotonic() + timeout
        while not (found := re.search(rf"\n{mark}(\d+)\n".encode(), printed)):
            left = deadline - time.monotonic()
            ready = left > 0 and select.select([self.process.stdout], [], [], left)[0]
            said = printed.decode(errors="replace")
            assert ready, f"{line!r} did not end within {timeout} s:\n{said}"
            more = os.read(self.process.stdout.fileno(), 65536)
            assert more, f"the shell ended at {line!r}:\n{said}"
            printed += more
        return int(found[1]), printed[: found.start()].decode(errors="replace")

    def close(self) -> None:
        """End it, with what it waits for."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Walk:
    """A walk along a page, from the folder that holds its project.

    :param instead: names and ports of the page, and what they are here.
    """

    def __init__(
        self,
        page: Path,
        folder: Path,
        env: Mapping[str, str],
        timeout: float,
        instead: Mapping[str, str] | None = None,
    ) -> None:
        self.page = read_page(page, instead or {})
        self.folder = folder
        self.env = env
        self.timeout = timeout
        self.shells: dict[str, Shell] = {}

    def __enter__(self) -> Walk:
        self._open(HOST, ["bash"])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for shell in self.shells.values():
            shell.close()

    def _open(self, where: str, command: list[str]) -> None:
        self.shells[where] = Shell(command, self.folder, self.env)

    def type(self, where: str, line: str) -> Typed:
        """Type one line into the shell on that machine."""
        assert where in self.shells, f"nobody has logged in to {where} to type {line!r}"
        if line == "exit":
            self.shells.pop(where).close()
            return Typed(where, line, 0, "")
        typed = Typed(where, line, *self.shells[where].type(line, self.timeout))
        if typed.code and VAGRANT_LOST_ONE.search(typed.output):
            typed = Typed(where, line, *self.shells[where].type(line, self.timeout))
        return typed

    def section(self, heading: str) -> list[Typed]:
        """Type all lines under a heading; returns what came of each, but for opening and exits."""
        typed = []
        for where, line in self.page[heading]:
            if where == HOST and (opens := OPENS.match(line)):
                self._open(opens[1], ["vagrant", "ssh", opens[1]])
                # Over ssh the two come by ways of their own, and errors after the end of a line.
                self.type(opens[1], "exec 2>&1").ok()
            elif (done := self.type(where, line)).line != "exit":
                typed.append(done)
        return typed
