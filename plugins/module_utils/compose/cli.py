# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``docker compose`` as a program: its arguments, its environment, and its failures as ours."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..engine.errors import EngineAway
from ..engine.options import Connection
from ..errors import DeliveryError, cut_log
from ..lock.work import descriptors
from ..redaction import redact

# These would lead the program to another engine or project than the options name.
STRAY = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
STRAY_COMPOSE = ("COMPOSE_FILE", "COMPOSE_PROJECT_NAME", "COMPOSE_REMOVE_ORPHANS")
AWAY = ("Cannot connect to the Docker daemon", "error during connect", "connection refused")
AWAY_STEP = "Make sure that the engine runs and lets this user in, then run this again."
END_SECONDS = 5.0
ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
WARNING = re.compile(r'level=warning msg=("(?:[^"\\]|\\.)*")')
# Compose files may include others from afar.
READ_SECONDS = 120.0


class ComposeError(DeliveryError):
    """``docker compose`` refused, or its files cannot be used."""

    kind = "compose"


class TooSlow(ComposeError):
    """``docker compose`` took longer than it was given, and was ended."""

    kind = "timeout"


@dataclass(frozen=True)
class Limit:
    """How long a command may take, and what to do if that is not enough."""

    seconds: float
    next_step: str


@dataclass(frozen=True)
class Compose:
    """How to call ``docker compose`` for one project.

    :param folder: the project's folder; relative paths of its files mean this one.
    :param environment: added to the program's environment; never shown.
    :param variables: added likewise; no secrets.
    """

    connection: Connection
    folder: Path
    name: str | None = None
    files: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    variables: Mapping[str, str] = field(default_factory=dict)

    def read(self, *arguments: str) -> tuple[str, tuple[str, ...]]:
        """Run a command on the project's own files; return what it prints, and its warnings."""
        limit = Limit(READ_SECONDS, "Check what the compose files include from afar.")
        doing = "read the compose files"
        out, said = self._run([*self._own_files(), *arguments], "", doing, limit)
        return out, warnings_in(said)

    def run(
        self,
        model: Mapping[str, Any],
        *arguments: str,
        doing: str,
        limit: Limit,
    ) -> str:
        """Run a command on *model*, which is given on standard input: it may hold secrets.

        :param doing: what is tried, for the message.
        :param limit: how long it may take; it is ended then, and all that it has started.
        :raises ComposeError: it refused.
        :raises EngineAway: the engine gave it no answer.
        """
        return self._run(["--file", "-", *arguments], as_yaml(model), doing, limit)[0]

    def _own_files(self) -> list[str]:
        return [part for name in self.files for part in ("--file", str(self.folder / name))]

    def _command(self, arguments: Sequence[str]) -> list[str]:
        command = ["docker", *self.connection.cli_flags(), "compose", "--ansi", "never"]
        command += ["--progress", "plain", "--project-directory", str(self.folder)]
        if self.name:
            command += ["--project-name", self.name]
        for name in self.env_files:
            command += ["--env-file", str(self.folder / name)]
        for name in self.profiles:
            command += ["--profile", name]
        return [*command, *arguments]

    def _environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in STRAY and name not in STRAY_COMPOSE
        }
        return {**kept, **self.variables, **self.environment}

    def _run(
        self, arguments: Sequence[str], text: str, doing: str, limit: Limit
    ) -> tuple[str, str]:
        try:
            process = subprocess.Popen(
                self._command(arguments),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                cwd=self.folder,
                env=self._environment(),
                # The program starts the plugin as a child: both must be ended together.
                start_new_session=True,
                # If this process is killed, what it started is still at work.
                pass_fds=descriptors(),
            )
        except FileNotFoundError as error:
            raise ComposeError(
                "the program docker is not installed where this task runs",
                next_step="Install the Docker client with its compose plugin.",
            ) from error
        with _ended(process):
            try:
                out, said = process.communicate(text, limit.seconds)
            except subprocess.TimeoutExpired as error:
                raise TooSlow(
                    f"could not {doing}: docker compose did not end within {limit.seconds:.0f} s",
                    next_step=limit.next_step,
                ) from error
        if process.returncode == 0:
            return out, said
        raise self._failure(doing, said or out, process.returncode)

    def _failure(self, doing: str, said: str, code: int) -> DeliveryError:
        log = cut_log(redact(said).splitlines())
        text = f"could not {doing}: docker compose ended with {code}"
        # The last line sums it up.
        text = f"{text}: {log[-1].strip()}" if log else text
        if any(words in said for words in AWAY):
            return EngineAway(text, log=log, next_step=AWAY_STEP)
        if "is not a docker command" in said or "unknown shorthand flag" in said:
            return ComposeError(
                text, log=log, next_step="Install the compose plugin, version 2.24 or newer."
            )
        return ComposeError(text, log=log, next_step="Fix what the log says, then run this again.")


def warnings_in(said: str) -> tuple[str, ...]:
    """Return the warnings among what the program logs: ``level=warning msg="..."``, each once."""
    found = {}
    for line in said.splitlines():
        if match := WARNING.search(line):
            with suppress(ValueError):
                found[redact(json.loads(match[1]))] = True
    return tuple(found)


def as_yaml(model: Mapping[str, Any]) -> str:
    """Return JSON that is YAML as well.

    YAML does not know the pairs by which JSON escapes an emoji, forbids some characters, and takes
    others for the end of a line.
    """
    text = json.dumps(model, ensure_ascii=False)
    return ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


@contextmanager
def _ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """End the program and its children where it is not waited for to its end."""
    try:
        yield
    except BaseException:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
                break
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        raise
