# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole portal as one compose project: updates, refusals, rehearsals, backups."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from tests.support.engine import build
from tests.support.lab import kill_at
from tests.support.portal_compose import (
    API_HOST,
    APPS,
    ARCHIVE,
    KEY,
    PASSWORD,
    PORTAL_HOST,
    STATIC,
    Stack,
    now,
    static_with,
)
from tests.support.shipped import Shipped

UPDATE = "playbooks/portal_update_config.yml"
COMPONENTS = "playbooks/portal_update_components.yml"
REHEARSE = "playbooks/portal_test_deploy.yml"
BACKUP = "playbooks/portal_backup.yml"
RESTORE = "playbooks/portal_restore.yml"
REDEPLOY = "Replace what changed"
IMAGES = {
    "haproxy": "immutable-test/haproxy:latest",
    "portal-api": "immutable-test/portal:latest",
    "portal-api-data-dynamic": "immutable-test/portal:latest",
    **dict.fromkeys(
        ("portal-kong-adapter", "portal-mailer", "portal-chatbot"),
        "immutable-test/webhook-listener:latest",
    ),
    "kong": "immutable-test/gateway:latest",
    "kong-database": "immutable-test/postgres:latest",
}
ENDED = {"portal-api-data-static", "portal-api-data-dynamic"}
RUNNING = {
    "haproxy",
    "portal",
    "portal-api",
    "portal-kong-adapter",
    "portal-mailer",
    "portal-chatbot",
    "kong",
    "kong-database",
}


@pytest.fixture(scope="module")
def stack(
    engine: DockerClient,
    prefix: str,
    app_image: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    """The project that all tests of this file share, filled with the sample export."""
    for app in APPS:
        app_image(app)
    folder = tmp_path_factory.mktemp("portal")
    static = static_with(folder / "static")
    stack = Stack(engine, folder / "lab", prefix, {"portal_compose_static_src": str(static)})
    for result in stack.plays((UPDATE, {}), (RESTORE, from_archive(ARCHIVE))):
        result.ok()
    yield stack
    for output in stack.outputs:
        assert KEY not in output
        assert PASSWORD not in output


def from_archive(archive: Path) -> dict[str, Any]:
    return {
        "portal_compose_restore_src": str(archive),
        "portal_compose_restore_sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
    }


def static_of(stack: Stack) -> Path:
    return Path(stack.settings["portal_compose_static_src"])


def project_dir(stack: Stack) -> Path:
    return stack.folder / stack.prefix


def files_of(stack: Stack) -> dict[str, bytes]:
    """What the role has written down."""
    return {
        str(file.relative_to(stack.folder)): file.read_bytes()
        for file in stack.folder.rglob("*")
        if file.is_file()
    }


def test_the_whole_topology_is_up_and_answers_to_its_two_names(stack: Stack) -> None:
    containers = stack.containers()
    assert set(containers) == RUNNING | ENDED
    for name in RUNNING:
        assert containers[name].attrs["State"]["Health"]["Status"] == "healthy", name
    for name in ENDED:
        assert containers[name].attrs["State"]["ExitCode"] == 0
    began = {name: one.attrs["State"]["StartedAt"] for name, one in containers.items()}
    assert began["kong-database"] < began["kong"] < began["haproxy"]
    assert began["portal-api-data-static"] < began["portal-api"] < began["portal"]
    assert stack.ask("/", PORTAL_HOST).status_code == 200
    assert stack.ask("/health").json()["version"] == "v23"
    assert stack.ask("/health", API_HOST.upper() + ":80").status_code == 200
    for host in ("127.0.0.1", "example.org", f"x{API_HOST}"):
        assert stack.ask("/health", host).status_code == 503
    # The deploy API is there, behind the gateway, and wants its key.
    assert stack.ask("/deploy/v1/export/none/status").status_code == 403


def test_secrets_are_in_one_private_file_and_in_those_containers_that_need_them(
    stack: Stack,
) -> None:
    folder = project_dir(stack)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    holding = [name for name, data in files_of(stack).items() if KEY.encode() in data]
    assert holding == [f"{stack.prefix}/portal.env"]
    assert stat.S_IMODE((folder / "portal.env").stat().st_mode) == 0o600
    for name, one in stack.containers().items():
        config = one.attrs["Config"]
        assert any(KEY in value for value in config["Env"] or []) == (name == "portal-api")
        assert KEY not in str(config["Cmd"]) + str(config["Entrypoint"]) + str(config["Labels"])


def test_a_new_static_configuration_keeps_the_data_and_touches_only_what_uses_it(
    stack: Stack, tarball: Shipped
) -> None:
    user = stack.sign_up("kept")
    before = stack.ids()
    static_with(static_of(stack), "added")
    result = stack.play(UPDATE).ok().task(REDEPLOY)
    assert result.changed
    after = stack.ids()
    touched = {name for name in before if before[name] != after[name]}
    assert touched == {"portal-api-data-static", "portal-api"}
    assert "added" in stack.apis()
    assert stack.has_user(user)
    assert result["downtimes"]["kong"] == 0
    assert result["downtimes"]["portal-api"] > 0
    # An installed collection finds what a checkout deployed.
    assert not stack.play(UPDATE, shipped=tarball).ok().changed


def test_a_configuration_that_does_not_fit_is_named_and_the_previous_one_put_back(
    stack: Stack,
) -> None:
    user = stack.sign_up("refusal")
    before = (stack.ids(), stack.apis(), files_of(stack))
    refused = stack.play(UPDATE, portal_compose_static_src=str(STATIC / "static-incompatible"))
    assert refused.rc != 0
    message = refused.failures[-1].msg
    assert "The portal refused to start" in message
    assert "(API brilliant, plan basic)" in message
    assert "answers at" in message
    assert (stack.ids(), stack.apis(), files_of(stack)) == before
    assert stack.has_user(user)


def test_only_those_components_that_changed_are_replaced(
    stack: Stack, tarball: Shipped, tmp_path: Path
) -> None:
    before = stack.ids()
    (tmp_path / "Dockerfile").write_text("FROM immutable-test/portal-web:latest\nLABEL new=1\n")
    new = build(tmp_path, f"{stack.prefix}/portal-web:new")
    stack.settings["portal_compose_images"] = {**IMAGES, "portal": new}
    # It is here only.
    stack.play(COMPONENTS, portal_compose_pull="never").ok()
    after = stack.ids()
    # What was refused before is not taken with them.
    assert {name for name in before if before[name] != after[name]} == {"portal"}
    assert stack.ask("/", PORTAL_HOST).status_code == 200
    again = stack.play(COMPONENTS, shipped=tarball, portal_compose_pull="never").ok()
    assert not again.changed


def test_a_second_run_and_what_is_refused_change_nothing(stack: Stack, tmp_path: Path) -> None:
    user = stack.sign_up("standing")
    broken = tmp_path / "broken.tgz.enc"
    broken.write_bytes(ARCHIVE.read_bytes()[:-1] + b"x")
    here = {"portal_compose_api_url": stack.url(), "portal_compose_restore_src": str(broken)}
    whole = from_archive(ARCHIVE)["portal_compose_restore_sha256"]
    # Nobody listens there.
    away = "127.0.0.1:9"
    images = {**IMAGES, "portal": f"{away}/{stack.prefix}/portal-web:new"}
    before = (stack.ids(), files_of(stack))
    began = now()
    again, *bad = stack.plays(
        (UPDATE, {}),
        (COMPONENTS, {"portal_compose_images": images}),
        (RESTORE, here),
        (RESTORE, {**here, "portal_compose_restore_sha256": whole}),
        (RESTORE, {**here, "portal_compose_restore_sha256": "abc"}),
        (RESTORE, {**here, **from_archive(broken)}),
    )
    assert not again.ok().changed
    said = (away, "Give it as", "SHA-256", "not a SHA-256", "")
    for result, words in zip(bad, said, strict=True):
        assert result.rc != 0
        assert words in result.failures[-1].msg
    assert stack.events(began, now()) == []
    assert (stack.ids(), files_of(stack)) == before
    assert stack.has_user(user)
    assert not stack.ask("/health").json()["locked"]


def test_a_check_changes_nothing(stack: Stack, tmp_path: Path) -> None:
    user = stack.sign_up("checked")
    before = (stack.ids(), files_of(stack))
    began = now()
    changed = {"portal_compose_static_src": str(static_with(tmp_path / "static", "added", "more"))}
    update, rehearsal, backup, restore = stack.plays(
        (UPDATE, changed),
        (REHEARSE, changed),
        (BACKUP, {}),
        (RESTORE, from_archive(ARCHIVE)),
        check=True,
        diff=True,
    )
    # What the new configuration changes is known to the builder alone.
    assert "portal-api-data-static" in str(update.ok().task(REDEPLOY)["would_build"])
    assert "portal-api-data-static" in update.stdout + update.stderr
    rehearsal.ok().task("Prove without a change that the live portal could be exported")
    assert "Would write" in backup.ok().task("Say where it is").msg
    assert "Would restore" in restore.ok().task("Say what was restored").msg
    assert stack.events(began, now()) == []
    assert (stack.ids(), files_of(stack)) == before
    assert stack.projects == [stack.prefix]
    assert not (project_dir(stack) / "backups").exists()
    assert stack.has_user(user)


def test_a_rehearsal_leaves_the_live_portal_as_it_was(
    stack: Stack, tarball: Shipped, tmp_path: Path
) -> None:
    user = stack.sign_up("rehearsed")
    before = (stack.ids(), stack.ask("/counts").json(), files_of(stack))
    began = now()
    good: dict[str, Any] = {
        "portal_compose_static_src": str(static_with(tmp_path / "static", "added", "more")),
        "portal_compose_test_checks": [{"path": f"/users/{user}"}, {"path": "/users/1"}],
    }
    with stack.start(REHEARSE, **good) as play:
        kill_at(play, "Give the temporary project the live data")
    assert len(stack.projects) == 2
    # It removes what was left of the one before, a copy of the live data.
    passed = stack.play(REHEARSE, shipped=tarball, **good)
    assert passed.ok().changed
    incompatible = str(STATIC / "static-incompatible")
    failed = stack.play(REHEARSE, portal_compose_static_src=incompatible)
    assert failed.rc != 0
    assert any("API 'brilliant' with plan 'basic'" in failure.msg for failure in failed.failures)
    assert stack.projects == [stack.prefix]
    assert (stack.ids(), stack.ask("/counts").json(), files_of(stack)) == before
    assert not stack.ask("/health").json()["locked"]
    assert stack.events(began, now()) == []
    left = [volume.name for volume in stack.engine.volumes.list()]
    assert not [name for name in left if name.startswith(f"{stack.prefix}-test")]


def test_backups_are_kept_so_many_and_restored_whole(stack: Stack, tarball: Shipped) -> None:
    folder = project_dir(stack) / "backups"
    old = stack.sign_up("saved")
    stack.play(BACKUP).ok()
    first = next(folder.glob("*.tgz.enc"))
    for file in folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    # As a backup that was killed leaves it.
    part = folder / f".{first.name}.abcdefgh.portal-part"
    part.touch()
    new = stack.sign_up("unsaved")
    kept = first.with_name("kept.tgz.enc")
    kept.write_bytes(first.read_bytes())
    checksum = Path(f"{first}.sha256").read_text().split()[0]

    # The newest is what is restored where none is given, and it has both.
    backup = stack.play(BACKUP, shipped=tarball, portal_compose_backup_keep=1)
    assert backup.ok().changed
    restored = stack.play(RESTORE, shipped=tarball)
    assert not first.exists() and not part.exists()
    (newest,) = folder.glob(f"{stack.prefix}-*.tgz.enc")
    assert str(newest) in restored.ok().task("Say what was restored").msg
    assert stack.has_user(old)
    assert stack.has_user(new)

    good: dict[str, Any] = {
        "portal_compose_restore_src": str(kept),
        "portal_compose_restore_sha256": checksum,
    }
    assert stack.play(RESTORE, **good).ok().changed
    assert stack.has_user(old)
    assert not stack.has_user(new)
