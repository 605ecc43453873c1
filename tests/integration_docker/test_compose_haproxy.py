# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``compose_redeploy`` with a real HAProxy as its router, on the engine."""

from __future__ import annotations

from pathlib import Path

from docker import DockerClient

from tests.support.compose import Stage, service, service_image
from tests.support.engine import remove_all
from tests.support.haproxy import haproxy_server
from tests.support.service import traffic


def test_to_another_version_and_back_behind_haproxy(
    engine: DockerClient, prefix: str, tmp_path: Path
) -> None:
    image, folder = service_image(), tmp_path / "project"
    folder.mkdir()
    with haproxy_server(tmp_path / "haproxy", [{"name": "demo"}]) as server:
        router = {
            "name": "haproxy",
            "api_url": server.url,
            "services": [{"service": "web", "port": 8080, "name": "demo"}],
            "prove_path": "/1",
            "drain_timeout": 30,
        }
        options = {"strategy": "rolling", "router": router, "haproxy": server.options()}
        stage = Stage(engine, f"{prefix}-front", folder, options)
        try:
            stage.write({"web": service(image, "v1")})
            stage.redeploy()
            with traffic(f"{server.url}/1") as seen:
                for version in ("v2", "v1"):
                    stage.write({"web": service(image, version)})
                    assert stage.redeploy()["downtime_seconds"] == 0
            assert seen.lost == [] and seen.versions == ["v1", "v2"]
            assert not stage.redeploy()["changed"]
        finally:
            remove_all(engine, stage.name)
