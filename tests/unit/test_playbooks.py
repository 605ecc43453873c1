# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every playbook is run by tests as it is shipped: in a checkout, and from the built tarball."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
LOCAL, DOCKER = "tests/integration_local", "tests/integration_docker"
LAB, SHIPPED = "tests/support/lab.py", f"{LOCAL}/test_shipped.py"
STAGED, FLEET = f"{LOCAL}/test_deploy_staged.py", f"{LOCAL}/test_fleet.py"
COMPOSE, CANARY = f"{DOCKER}/test_portal_compose.py", f"{DOCKER}/test_service_canary.py"
BLUE_GREEN, HEAL = f"{DOCKER}/test_portal_compose_blue_green.py", f"{DOCKER}/test_heal.py"
BASE, IMAGE = f"{DOCKER}/test_base_image.py", f"{DOCKER}/test_image_role.py"
PROXY, WALK = f"{DOCKER}/test_proxy_role.py", "docs/walk.md"
# Where each playbook is run, and by which words: in a checkout, and from the installed tarball.
RUN: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "base_image": (
        (BASE, "again = play(name, source=source).ok()"),
        (BASE, "made = play(name, shipped=tarball, source=source).ok()"),
    ),
    "build": (
        (IMAGE, 'CHECKOUT.play(\n        "playbooks/build.yml"'),
        (IMAGE, 'tarball.play(\n        "playbooks/build.yml"'),
    ),
    "deploy": ((LAB, 'self.play("deploy.yml"'), (SHIPPED, '"playbooks/deploy.yml",\n')),
    # From the tarball without hosts; each of its parts is run by itself.
    "deploy_services": (
        (WALK, "ansible-playbook -i inventories/vagrant deploy.yml"),
        (SHIPPED, 'lab.play("deploy.yml", shipped=tarball'),
    ),
    "docker_lab_down": (
        (BLUE_GREEN, 'stack.play("playbooks/docker_lab_down.yml").ok()'),
        (BLUE_GREEN, 'stack.play("playbooks/docker_lab_down.yml", shipped=tarball)'),
    ),
    "docker_lab_up": (
        ("molecule/portal/converge.yml", "immutable.delivery.docker_lab_up"),
        (BLUE_GREEN, 'stack.play("playbooks/docker_lab_up.yml", shipped=tarball)'),
    ),
    "fleet_canary": (
        (FLEET, 'fleet.play("canary", fleet_canary_alarms'),
        (FLEET, 'fleet.play(\n        "canary",\n        shipped=tarball'),
    ),
    "fleet_deploy": (
        (FLEET, 'fleet.play("deploy", again=True)'),
        (FLEET, 'fleet.play("deploy", fleet_listener=by_port, shipped=tarball)'),
    ),
    "fleet_promote": (
        (FLEET, 'fleet.play("promote", again=True, fleet_version="1")'),
        (FLEET, '"promote", fleet_version="2", fleet_listener=by_port, shipped=tarball'),
    ),
    "fleet_retire": (
        (FLEET, 'fleet.play("retire", again=True, fleet_retire_mode="standby")'),
        (FLEET, 'fleet.play("retire", again=True, fleet_listener=by_port, shipped=tarball)'),
    ),
    "fleet_rollback": (
        (FLEET, 'fleet.play("rollback", again=True)'),
        (FLEET, '"rollback", fleet_listener=by_port, fleet_lock_path=lock, shipped=tarball'),
    ),
    "heal": (
        (HEAL, "production.play(HEAL).ok()"),
        (HEAL, "production.play(HEAL, tarball).ok()"),
    ),
    "lab_down": (
        (LAB, 'lab.play("playbooks/lab_down.yml", shipped=shipped)'),
        (SHIPPED, "lab_at(tmp_path, tarball)"),
    ),
    "lab_up": (
        (LAB, 'lab.play("playbooks/lab_up.yml", shipped=shipped)'),
        (SHIPPED, "lab_at(tmp_path, tarball)"),
    ),
    "portal_backup": (
        (COMPOSE, "stack.play(BACKUP)"),
        (COMPOSE, "stack.play(BACKUP, shipped=tarball"),
    ),
    "portal_promote": (
        (STAGED, 'lab.step(\n            "portal_promote", portal_version="v24"'),
        (STAGED, 'lab.step("portal_promote", shipped=tarball'),
    ),
    "portal_restore": (
        (COMPOSE, "stack.play(RESTORE, **good)"),
        (COMPOSE, "stack.play(RESTORE, shipped=tarball)"),
    ),
    "portal_rollback": (
        (STAGED, 'lab.step("portal_rollback").ok()'),
        (STAGED, 'lab.step("portal_rollback", shipped=tarball)'),
    ),
    "portal_stage": (
        (STAGED, 'lab.step("portal_stage", portal_version="v24")'),
        (STAGED, 'lab.step("portal_stage", shipped=tarball'),
    ),
    "portal_test_deploy": (
        (COMPOSE, "stack.play(REHEARSE, portal_compose_static_src=incompatible)"),
        (COMPOSE, "stack.play(REHEARSE, shipped=tarball, **good)"),
    ),
    "portal_update_components": (
        (COMPOSE, 'stack.play(COMPONENTS, portal_compose_pull="never")'),
        (COMPOSE, "stack.play(COMPONENTS, shipped=tarball"),
    ),
    "portal_update_config": (
        (COMPOSE, "stack.play(UPDATE)"),
        (COMPOSE, "stack.play(UPDATE, shipped=tarball)"),
    ),
    "proxy": ((HEAL, "made.play(PROXY).ok()"), (HEAL, "production.play(PROXY, tarball).ok()")),
    "proxy_host": (
        (PROXY, 'ROLE = [have(kind) for kind in ("haproxy", "nginx")]'),
        (PROXY, 'have("all:!localhost", tarball)'),
    ),
    "service": (
        (HEAL, "made.play(SERVICE).ok()"),
        (HEAL, "production.play(SERVICE, tarball).ok()"),
    ),
    **{
        f"service_{phase}": (
            (CANARY, f'front.play(\n            "{phase}",\n            CHECKOUT')
            if phase == "canary"
            else (CANARY, f'front.play("{phase}", CHECKOUT'),
            (CANARY, f'front.play("{phase}", tarball'),
        )
        for phase in ("canary", "promote", "rollback", "stage")
    },
}
# On machines, which have the checkout only.
ON_MACHINES = {
    "provision": ("Vagrantfile", "playbooks/provision.yml"),
}
# The folder of a page's project.
ENTERED = re.compile(r"^host\$ cd (\S+)$", re.MULTILINE)
STARTED = re.compile(r"ansible-playbook ([^\n]*(?:\\\n[^\n]*)*)")
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("tools/*"))]


def test_each_playbook_is_run_as_it_is_shipped() -> None:
    there = {file.stem for file in ROOT.glob("playbooks/*.yml")}
    assert there == {*RUN, *ON_MACHINES}, "say here which test runs it"


@pytest.mark.parametrize("name", [*RUN, *ON_MACHINES])
def test_it_is_run_where_this_says(name: str) -> None:
    places = RUN[name] if name in RUN else (ON_MACHINES[name],)
    missing = [(file, by) for file, by in places if by not in (ROOT / file).read_text()]
    assert missing == []


@pytest.mark.parametrize("name", [*RUN, *ON_MACHINES])
def test_it_fails_if_the_inventory_lacks_its_hosts(name: str) -> None:
    text = (ROOT / "playbooks" / f"{name}.yml").read_text()
    plays = yaml.safe_load(text)
    hosts = {play["hosts"] for play in plays if "hosts" in play} - {"localhost"}
    first = plays[0]
    if hosts:
        assert first["ansible.builtin.import_playbook"] == "imported/require_hosts.yml"
        assert set(first["vars"]["require_hosts"]) == hosts


def test_pages_start_playbooks_with_inventories_that_exist() -> None:
    missing, seen = [], 0
    for page in PAGES:
        if not page.is_file():
            continue
        text = page.read_text(errors="replace")
        folders = [ROOT, *(ROOT / entered for entered in ENTERED.findall(text))]
        for line in STARTED.findall(text):
            words = line.replace("\\\n", " ").split()
            paths = [word for word in words if word.endswith(".yml") and not word.startswith("@")]
            paths += [after for word, after in pairwise(words) if word == "-i"]
            # Those that the reader writes.
            paths = [path for path in paths if not path.startswith("inventories/prod")]
            seen += len(paths)
            missing += [
                (page.name, path)
                for path in paths
                if not any((folder / path).exists() for folder in folders)
            ]
    assert missing == []
    assert seen > 30
