# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers that behave like machines: systemd, sshd and an engine of their own, or less.

They stand in for the machines of an inventory where no hypervisor is. Play against one with the
variables of :attr:`Machine.variables`, which need the ``docker`` program on this side, no ssh.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from docker import DockerClient
from docker.errors import NotFound
from docker.models.containers import Container

from tests.support.engine import BUILD_SECONDS, IMAGES, one_at_a_time
from tests.support.plays import PlayResult, run_play
from tests.support.waiting import eventually

__all__ = (
    "Kind",
    "Machine",
    "Output",
    "machine",
    "machine_image",
    "play_on",
    "start_machine",
)

FOLDER = Path(__file__).with_name("machine")
BOOT_SECONDS = 120

# The stages of the Dockerfile: no systemd; systemd and no engine yet; systemd and an engine; what
# builds with it as well.
Kind = Literal["plain", "systemd", "machine", "vagrant"]

# All that --privileged would give, but what the host itself may lack (SYS_RESOURCE), and cgroups of
# its own. Never --cgroupns=host with /sys/fs/cgroup writable: systemd would rearrange the host's.
FLAGS = (
    "--cap-add=ALL",
    "--cap-drop=SYS_RESOURCE",
    "--cgroupns=private",
    "--device-cgroup-rule=a *:* rwm",
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
    "--security-opt=systempaths=unconfined",
)


@dataclass(frozen=True)
class Output:
    """What a command on a machine came to."""

    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Machine:
    """A machine that runs; :meth:`remove` ends it and all that it kept."""

    engine: DockerClient
    container: Container
    volume: str

    @property
    def name(self) -> str:
        """The container's name, by which its network's other machines resolve it."""
        return str(self.container.name)

    @property
    def address(self) -> str:
        """Its address in the first of its networks; changes when it is restarted."""
        self.container.reload()
        networks = self.container.attrs["NetworkSettings"]["Networks"]
        return str(next(iter(networks.values()))["IPAddress"])

    def port(self, number: int) -> int:
        """The host's port on which its port *number* is published."""
        self.container.reload()
        published = self.container.ports[f"{number}/tcp"]
        assert published, f"{self.name} does not publish {number}"
        return int(published[0]["HostPort"])

    @property
    def variables(self) -> dict[str, str]:
        """The inventory's variables that lead Ansible to it."""
        return {
            "ansible_connection": "community.docker.docker",
            # No user: the container's own is root, and to name one costs two programs more a task.
            "ansible_host": self.name,
            "ansible_python_interpreter": "/usr/bin/python3",
        }

    def run(self, *command: str, check: bool = True, stdin: str = "") -> Output:
        """Run *command* on it as root; fails the test for an exit other than 0 where *check*."""
        done = subprocess.run(
            ["docker", "exec", "--interactive", self.name, *command],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=BOOT_SECONDS,
            check=False,
        )
        output = Output(done.returncode, done.stdout, done.stderr)
        assert output.code == 0 or not check, f"{command} on {self.name}: {output}"
        return output

    def read(self, path: str) -> str:
        """Return the text of a file on it."""
        return self.run("cat", path).stdout

    def write(self, path: str, text: str) -> None:
        """Write a file on it, and the folder above it."""
        self.run("sh", "-c", 'mkdir -p "$(dirname "$1")"; cat >"$1"', "sh", path, stdin=text)

    def load(self, image: str) -> None:
        """Give its engine an image that the engine outside has, by the same name."""
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saved:
            subprocess.run(
                ["docker", "exec", "--interactive", self.name, "docker", "load", "--quiet"],
                stdin=saved.stdout,
                capture_output=True,
                timeout=BOOT_SECONDS,
                check=True,
            )
        assert saved.returncode == 0, f"{image} could not be saved"

    def remove(self) -> None:
        """End it; its volume goes with it."""
        self.container.remove(force=True, v=True)
        self.engine.volumes.get(self.volume).remove(force=True)


def _docker(*arguments: str) -> None:
    done = subprocess.run(
        ["docker", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"docker {arguments[0]}: {done.stdout}\n{done.stderr}"[-4000:]


def machine_image(kind: Kind = "machine") -> str:
    """Build the image of machines of that kind where the Dockerfile changed; returns its tag."""
    name = kind if kind in ("machine", "vagrant") else f"machine-{kind}"
    tag = f"{IMAGES}/{name}:latest"
    with one_at_a_time("image-machine"):
        _docker("build", "--target", kind, "--tag", tag, str(FOLDER))
    return tag


def start_machine(
    engine: DockerClient,
    name: str,
    *,
    kind: Kind = "machine",
    network: str | None = None,
    aliases: Sequence[str] = (),
    publish: Sequence[str] = (),
    hostname: str | None = None,
) -> Machine:
    """Start a machine and wait until it has booted, its engine included where it has one.

    :param name: of the container and, with ``-docker``, of the volume that its engine keeps all in;
        begin it with the test's prefix.
    :param network: the network to join, which must exist; the engine's default one otherwise, where
        machines do not resolve each other's names.
    :param aliases: further names for it in *network*, such as ``cd`` and ``prod``.
    :param publish: its ports, as ``docker run --publish`` wants them: ``127.0.0.1::2376`` is its
        2376 on a free port of the loopback; see :meth:`Machine.port`.
    """
    volume = f"{name}-docker"
    # By the program: the SDK cannot unmask the paths that systempaths=unconfined unmasks.
    _docker(
        *("create", "--name", name, "--hostname", hostname or name, *FLAGS),
        *("--volume", f"{volume}:/var/lib/docker"),
        *(["--init"] if kind == "plain" else []),
        *(["--network", network] if network else []),
        *(f"--network-alias={alias}" for alias in aliases),
        *(f"--publish={port}" for port in publish),
        machine_image(kind),
    )
    started = Machine(engine, engine.containers.get(name), volume)
    try:
        started.container.start()
        _wait_until_booted(started, kind)
    except BaseException:
        remove_quietly(started)
        raise
    return started


@contextmanager
def machine(engine: DockerClient, name: str, **options: Any) -> Iterator[Machine]:
    """As :func:`start_machine`, and remove it at the end."""
    started = start_machine(engine, name, **options)
    try:
        yield started
    finally:
        remove_quietly(started)


def play_on(
    machines: Mapping[str, Machine],
    play: Path | Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    extra_vars: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 1200,
    **options: Any,
) -> PlayResult:
    """Run a playbook or plays against machines; what is left out is as in :func:`run_play`.

    :param machines: by the names that the inventory shall have for them, besides localhost.
    :param folder: where the inventory is written.
    """
    inventory = folder / "machines.json"
    hosts: dict[str, Any] = {name: machine.variables for name, machine in machines.items()}
    hosts["localhost"] = {"ansible_connection": "local"}
    inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
    return run_play(
        play,
        # One word for both Pythons, which are not in one place: this one's and the machine's.
        extra_vars={"ansible_python_interpreter": "python3", **(extra_vars or {})},
        env={
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            # One `docker exec` a task instead of four.
            "ANSIBLE_PIPELINING": "1",
            **(env or {}),
        },
        args=["--inventory", str(inventory)],
        timeout=timeout,
        **options,
    )


def remove_quietly(started: Machine) -> None:
    """Remove a machine that may be gone already."""
    try:
        started.remove()
    except NotFound:
        return


def _wait_until_booted(started: Machine, kind: Kind) -> None:
    if kind == "plain":
        return

    def systemd_answers() -> bool:
        assert started.run("true", check=False).code == 0, started.container.logs().decode()
        return started.run("test", "-S", "/run/systemd/private", check=False).code == 0

    eventually(systemd_answers, f"systemd of {started.name}", BOOT_SECONDS)
    state = started.run("systemctl", "is-system-running", "--wait", check=False).stdout.strip()
    failed = "" if state == "running" else started.run("systemctl", "--failed", check=False).stdout
    assert state == "running", f"{started.name} is {state}:\n{failed}"
