# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes a project of the corpus from its first run to its end, by the module and by compose."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from docker import DockerClient
from docker.errors import APIError

from ansible_collections.immutable.delivery.plugins.module_utils.compose.run import redeploy
from ansible_collections.immutable.delivery.plugins.module_utils.errors import as_delivery_error
from tests.support.container_diff import comparable, comparable_places, differences
from tests.support.corpus import IMAGE, CorpusProject, version_of
from tests.support.engine import PROJECT, UNNAMED, remove_all
from tests.support.specs import spec_of

SERVICE = "com.docker.compose.service"
COMPOSE_SECONDS = 120
SETTLE_SECONDS = 2.0
JOB_SECONDS = 20.0
BUILDS = "build the image"
# Options of the module, and how compose is told the same.
FLAGS = {"files": "--file", "env_files": "--env-file", "profiles": "--profile"}
FIRST, SECOND, THIRD = "revision-1", "revision-2", "revision-3"


class _Stop(Exception):
    """What follows makes no sense."""


@dataclass(frozen=True)
class Seen:
    """What a project has on the engine at one moment."""

    containers: list[dict[str, Any]]
    networks: list[dict[str, Any]]
    volumes: list[dict[str, Any]]
    jobs: set[str]

    def identity(self, *, started: bool = True) -> dict[str, list[str]]:
        """Return what a container's replacement or restart changes, by service."""
        found: dict[str, list[str]] = {}
        for one in self.containers:
            service = one["Config"]["Labels"][SERVICE]
            again = one["State"]["StartedAt"] if started and service not in self.jobs else ""
            found.setdefault(service, []).append(f"{one['Name']} {one['Id'][:12]} {again}")
        return {service: sorted(ones) for service, ones in found.items()}

    def changed_since(self, before: Seen, *, started: bool = True) -> set[str]:
        """Return the services whose containers are others than before."""
        old, new = before.identity(started=started), self.identity(started=started)
        return {service for service in {*old, *new} if old.get(service) != new.get(service)}

    @property
    def names(self) -> list[str]:
        """The names of the containers."""
        return sorted(one["Name"].lstrip("/") for one in self.containers)

    def anonymous(self) -> set[str]:
        """Return the names of its anonymous volumes."""
        names = (mount.get("Name", "") for one in self.containers for mount in one["Mounts"])
        return {name for name in names if UNNAMED.fullmatch(name)}


@dataclass
class Walk:
    """One project on the engine.

    :param number: makes addresses and networks its own.
    """

    engine: DockerClient
    project: CorpusProject
    name: str
    folder: Path
    number: int
    faults: list[str] = field(default_factory=list)
    revision: str = FIRST
    volumes: set[str] = field(default_factory=set)

    def run(self) -> list[str]:
        """Return what is not as it must be."""
        self.project.copy_to(self.folder)
        self._make_outside()
        try:
            if self.project.settings.get("refused"):
                self._refused()
            else:
                self._walk()
        except _Stop:
            pass
        finally:
            code, said = self.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")
            self.expect(code == 0, f"docker compose down ended with {code}: {said[-600:]}")
            self._nothing_is_left()
            remove_all(self.engine, self.name)
        return self.faults

    def _walk(self) -> None:
        self.use(FIRST)
        if self.project.settings.get("may be refused") and self.compose("up", "--detach")[0]:
            self._refused()
            return
        made = self.up("compose's first run")
        self.compose("down", "--volumes", "--timeout", "5")

        first = self.redeploy("first run")
        self.expect(first.get("changed"), "first run: it says that nothing changed")
        seen = self.see()
        self.same("first run", made, seen, (FIRST, FIRST))

        again = self.redeploy("second run")
        self.unchanged("second run", again, seen)
        seen = self.see()
        self.untouched("docker compose up after the first run", seen, self.up("compose up"))

        seen = self.see()
        self.use(SECOND)
        self.redeploy("one change")
        changed = self.see()
        self.expect(
            set(seen.names) <= set(changed.names),
            f"one change: the containers are called {changed.names}, and were {seen.names}",
        )
        replaced = changed.changed_since(seen, started=False)
        self.expect(
            replaced == self.project.replaces,
            f"one change: it replaced {sorted(replaced)}, not {sorted(self.project.replaces)}",
        )
        self.expect(
            changed.anonymous() == seen.anonymous(),
            "one change: the anonymous volumes are others than before",
        )
        self.untouched("docker compose up after one change", changed, self.up("compose up"))

        self.use(THIRD)
        theirs = self.up("compose's change", *self.project.settings.get("flags", ()))
        # Not every version sees each change, and none that of a file; it may start one again only.
        left = self.project.replaces - theirs.changed_since(changed)
        if not left and not self.project.settings.get("compose loses data"):
            self.same("one change", theirs, changed, (THIRD, SECOND))
        result = self.redeploy("run after compose's change")
        if not left:
            self.unchanged("run after compose's change", result, theirs)
            return
        replaced = self.see().changed_since(theirs, started=False)
        self.expect(
            replaced == left,
            f"run after compose's change: it replaced {sorted(replaced)}, not {sorted(left)}",
        )

    def _refused(self) -> None:
        self.use(FIRST)
        code, said = self.compose("up", "--detach")
        self.expect(code != 0, "compose does not refuse it")
        self.compose("down", "--volumes", "--timeout", "5")
        try:
            self._call()
        except Exception as error:
            found = as_delivery_error(error)
            self.expect(found.kind != "unexpected", f"first run: {found.result()}")
        else:
            self.faults.append(f"first run: it does not refuse what compose does: {said[-300:]}")
        self.expect(not self.see().containers, "first run: it refused, and left containers")

    def use(self, revision: str) -> None:
        """Change the revision."""
        self.revision = revision
        self.project.write_revision(self.folder, revision)

    @property
    def variables(self) -> dict[str, str]:
        """The variables of the compose files."""
        number = os.getpid() * 256 + self.number
        high, low = number // 256 % 128, number % 256
        return {
            "REVISION": self.revision,
            "ADDRESS": f"127.{1 + number // 32768 % 120}.{high}.{1 + low % 254}",
            "SUBNET": f"10.{64 + high}.{low}",
            "NUMBER": f"{number % 65536:x}",
            "PORT": str(21000 + number % 10000),
            "LEFT": "21001" if self.revision == FIRST else "21002",
            "RIGHT": "21002" if self.revision == FIRST else "21001",
            "GROWING": str(1 + [FIRST, SECOND, THIRD].index(self.revision)),
            **self.project.options.get("variables", {}),
        }

    def compose(self, *arguments: str) -> tuple[int, str]:
        """Run docker compose; return its exit code and what it said."""
        command = ["docker", "compose", "--ansi", "never", "--progress", "plain"]
        command += ["--project-name", self.name]
        for option, flag in FLAGS.items():
            command += [
                part for one in self.project.options.get(option, ()) for part in (flag, one)
            ]
        secret = self.project.options.get("environment", {})
        done = subprocess.run(
            [*command, *arguments],
            cwd=self.folder,
            env={**os.environ, **self.variables, **secret},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMPOSE_SECONDS,
            check=False,
        )
        return done.returncode, done.stdout

    def up(self, stage: str, *flags: str) -> Seen:
        """Bring the project up by compose."""
        code, said = self.compose("up", "--detach", *flags)
        if code:
            self.faults.append(f"{stage}: docker compose up ended with {code}: {said[-600:]}")
            raise _Stop
        return self.see()

    def redeploy(self, stage: str) -> dict[str, Any]:
        """Bring the project up by the module."""
        try:
            result = self._call()
        except Exception as error:
            found = as_delivery_error(error).result()
            told = {name: value for name, value in found.items() if value}
            self.faults.append(
                f"{stage}: {json.dumps(told, ensure_ascii=False, default=str)[:1200]}"
            )
            raise _Stop from error
        # Ansible writes it down.
        json.dumps(result).encode()
        return result

    def _call(self) -> dict[str, Any]:
        given = {
            "project_src": str(self.folder),
            "project_name": self.name,
            "wait_timeout": 30,
            "keep_releases": 0,
            "soak": 0,
            **self.project.options,
            "variables": self.variables,
        }
        return redeploy(parameters(given), False, lambda _text: None)

    def see(self) -> Seen:
        """Return the project's containers, once its jobs have ended and nothing is restarted."""
        if self.project.settings.get("settles"):
            # Between two restarts a container runs for a moment.
            time.sleep(SETTLE_SECONDS)
        deadline = time.monotonic() + JOB_SECONDS
        while True:
            found = self._inspect()
            working = [
                one["Name"]
                for one in found
                if one["State"]["Status"] == "restarting"
                or (
                    one["State"]["Status"] == "running"
                    and one["Config"]["Labels"].get(SERVICE) in self.project.jobs
                )
            ]
            if not working or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        networks, volumes = self._networks(), self._volumes()
        seen = Seen(found, networks, volumes, self.project.jobs)
        self.volumes |= seen.anonymous()
        return seen

    def _inspect(self) -> list[dict[str, Any]]:
        return [
            dict(self.engine.api.inspect_container(one["Id"]))
            for one in self.engine.api.containers(all=True, filters=self._filters)
        ]

    @property
    def _filters(self) -> dict[str, str]:
        return {"label": f"{PROJECT}={self.name}"}

    def _networks(self) -> list[dict[str, Any]]:
        return list(self.engine.api.networks(filters=self._filters))

    def _volumes(self) -> list[dict[str, Any]]:
        return list(self.engine.api.volumes(filters=self._filters)["Volumes"] or ())

    def expect(self, right: Any, fault: str) -> None:
        if not right:
            self.faults.append(fault)

    def unchanged(self, stage: str, result: Mapping[str, Any], before: Seen) -> None:
        """Expect a run that did nothing; what the builder finds in its cache is nothing."""
        steps = [
            one["step"] for one in result.get("steps", ()) if not one["step"].startswith(BUILDS)
        ]
        if result.get("changed") or steps:
            self.faults.append(f"{stage}: it is no repetition, but did {steps or 'something'}")
        self.untouched(stage, before, self.see())

    def untouched(self, stage: str, before: Seen, after: Seen) -> None:
        """Expect the same containers, none of them started again."""
        if replaced := after.changed_since(before, started=False):
            self.faults.append(f"{stage}: replaced {sorted(replaced)}")
        elif again := after.changed_since(before):
            self.faults.append(f"{stage}: started {sorted(again)} again")

    def same(self, stage: str, compose: Seen, ours: Seen, revisions: tuple[str, str]) -> None:
        """Expect what compose makes.

        :param revisions: those of both; an image that holds another one is another image.
        """
        theirs = comparable(compose.containers, revisions[0])
        own = comparable(ours.containers, revisions[1])
        if revisions[0] != revisions[1]:
            for one in (*theirs.values(), *own.values()):
                del one["Image"]
        for kind in ("networks", "volumes"):
            theirs.update(comparable_places(kind, getattr(compose, kind)))
            own.update(comparable_places(kind, getattr(ours, kind)))
        # One that is scaled grows by each change.
        if set(own) - set(theirs) or (set(theirs) != set(own) and revisions[0] == revisions[1]):
            self.faults.append(f"{stage}: compose makes {sorted(theirs)}, this {sorted(own)}")
        for name in sorted({*theirs} & {*own}):
            self.faults += [f"{stage}: {one}" for one in differences(theirs[name], own[name], name)]

    def _make_outside(self) -> None:
        if key := self.project.settings.get("ssh key"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key]
            subprocess.run(command, cwd=self.folder, check=True)
        outside = self.project.settings.get("outside", {})
        for name in outside.get("networks", ()):
            self.engine.networks.create(f"{self.name}-{name}")
        for name in outside.get("volumes", ()):
            self.engine.volumes.create(f"{self.name}-{name}")
        for name in outside.get("containers", ()):
            self.engine.containers.run(IMAGE, detach=True, name=f"{self.name}-{name}")

    def _nothing_is_left(self) -> None:
        left = [one["Name"] for one in (*self._inspect(), *self._networks(), *self._volumes())]
        # Compose itself leaves those that a container took over from its predecessor.
        for name in self.volumes:
            with suppress(APIError):
                self.engine.api.remove_volume(name, force=True)
        if left:
            self.faults.append(f"docker compose down left {', '.join(left)}")


@cache
def _validator() -> ArgumentSpecValidator:
    return ArgumentSpecValidator(spec_of("compose_redeploy"))


def parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the module's options as Ansible gives them to it."""
    checked = _validator().validate(dict(given))
    assert not checked.error_messages, checked.error_messages
    found: dict[str, Any] = checked.validated_parameters
    return found


@cache
def compose_version() -> tuple[int, ...]:
    """Return the version of compose that tests use."""
    command = ["docker", "compose", "version", "--short"]
    return version_of(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
