# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine of production whose engine is down, with what ran on it: one repair brings all back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
from docker import DockerClient

from tests.support.machine import machine, play_on
from tests.support.plays import ROOT, PlayResult

HEAL, PROXY, SERVICE = (ROOT / "playbooks" / f"{name}.yml" for name in ("heal", "proxy", "service"))
# The engine of a network that only this machine has, so there is nobody to hide from.
LISTEN = """[Service]
ExecStart=
ExecStart=/usr/sbin/dockerd -H fd:// -H tcp://0.0.0.0:2375 --tls=false
"""
PATIENCE = 30.0


def test_an_engine_that_is_down_is_started_and_all_answers_again(
    engine: DockerClient, prefix: str, app_image: Callable[[str], str], tmp_path: Path
) -> None:
    images = {name: app_image(name) for name in ("proxy-service", "demo-service")}
    with machine(engine, f"{prefix}-prod") as prod:
        prod.write("/etc/systemd/system/docker.service.d/listen.conf", LISTEN)
        prod.run("systemctl", "daemon-reload")
        prod.run("systemctl", "restart", "docker")
        for image in images.values():
            prod.load(image)
        proxy = f"http://{prod.address}:8000"

        def play(book: Path, **options: Any) -> PlayResult:
            variables = {
                "proxy_image": images["proxy-service"],
                "proxy_address": prod.address,
                "service_name": "demo",
                "service_image": images["demo-service"],
                "service_pull": "never",
                "service_docker_host": f"tcp://{prod.address}:2375",
                "service_container_port": 8080,
                "service_address": prod.address,
                "service_router": "registry",
                "service_api_url": proxy,
                **options.pop("extra_vars", {}),
            }
            return play_on({"prod": prod}, book, tmp_path, extra_vars=variables, **options)

        both = tmp_path / "both.yml"
        both.write_text(f"- import_playbook: {PROXY}\n- import_playbook: {SERVICE}\n")
        play(both).ok()
        before = requests.get(f"{proxy}/services/demo", timeout=PATIENCE).json()
        requests.post(f"{proxy}/services/other/http%3A%2F%2F127.0.0.1%3A9", timeout=PATIENCE)

        prod.run("sh", "-c", "docker stop --time 5 $(docker ps --quiet --filter name=demo)")
        prod.run("systemctl", "stop", "docker.socket", "docker.service")
        refused = play(HEAL, extra_vars={"heal_start_engine": False})
        assert refused.rc != 0 and "heal_start_engine is false" in refused.failures[0].msg
        would = play(HEAL, check=True).ok()
        assert would.task("Start it").changed
        assert prod.run("systemctl", "is-active", "docker", check=False).stdout != "active\n"

        healed = play(HEAL).ok()
        assert healed.task("Start it").changed
        assert requests.get(f"{proxy}/demo/1", timeout=PATIENCE).ok
        after = requests.get(f"{proxy}/services/demo", timeout=PATIENCE).json()
        assert len(after["urls"]) == len(before["urls"]) == 1
        other = requests.get(f"{proxy}/services/other", timeout=PATIENCE).json()
        assert other["url"]["url"].endswith(":9")
        # Nobody logs in to the machine of an engine that answers.
        again = play(HEAL).ok()
        assert not again.changed and again.task("Start it").skipped
