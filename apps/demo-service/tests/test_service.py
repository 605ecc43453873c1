# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The unit tests; a build of the image runs them, and a failure fails it."""

from __future__ import annotations

import os
import sys
import unittest
from collections.abc import Mapping
from pathlib import Path

from aiohttp.test_utils import TestClient, TestServer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from service import FAULTS, THINGS, Service, build
from serving import BadSettings


class AnswersTest(unittest.IsolatedAsyncioTestCase):
    """What the service answers."""

    async def ask(
        self, path: str, environment: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, object], str]:
        async with TestClient(TestServer(build(environment or {}))) as client:
            answer = await client.get(path)
            version = answer.headers["X-Version"]
            if answer.content_type != "application/json":
                return answer.status, {}, version
            return answer.status, await answer.json(), version

    async def test_a_recommendation_is_a_number(self) -> None:
        for wanted in ("1", "somebody", "a-b_c", "x" * 64):
            status, body, _version = await self.ask(f"/{wanted}")
            self.assertEqual((status, list(body)), (200, ["rec"]))
            self.assertIsInstance(body["rec"], int)
            self.assertIn(body["rec"], range(THINGS))

    async def test_what_is_nobody_is_not_found(self) -> None:
        for wanted in ("", "a/b", "%20", "x" * 65, "1/"):
            status, _body, _version = await self.ask(f"/{wanted}")
            self.assertEqual(status, 404, wanted)

    async def test_health_tells_version_and_release(self) -> None:
        environment = {"DEMO_VERSION": "1.2.3", "DEMO_RELEASE": "1.2.3-7"}
        self.assertEqual(
            await self.ask("/health", environment),
            (200, {"status": "ok", "version": "1.2.3", "release": "1.2.3-7"}, "1.2.3"),
        )

    async def test_a_release_is_named_after_its_version(self) -> None:
        _status, body, _version = await self.ask("/health", {"DEMO_VERSION": "1.2.3"})
        self.assertEqual(body["release"], "1.2.3")

    async def test_faults_do_what_they_say(self) -> None:
        status, body, _version = await self.ask("/health", {"DEMO_FAULT": "unhealthy"})
        self.assertEqual((status, body["status"]), (503, "sick"))
        status, body, _version = await self.ask("/1", {"DEMO_FAULT": "wrong"})
        self.assertIsInstance(body["rec"], str)
        status, body, _version = await self.ask("/1", {"DEMO_FAULT": "error"})
        self.assertEqual(status, 500)


class SettingsTest(unittest.TestCase):
    """What the service takes from its environment."""

    def test_the_version_of_this_build_can_be_told(self) -> None:
        version = os.environ.get("DEMO_VERSION", "dev")
        self.assertEqual(Service({"DEMO_VERSION": version}).version, version)

    def test_what_cannot_be_right_is_refused(self) -> None:
        for environment in (
            {"DEMO_VERSION": "no version"},
            {"DEMO_VERSION": "1\r\nX-Injected: 1"},
            {"DEMO_RELEASE": "-1"},
            {"DEMO_FAULT": "none"},
        ):
            with self.subTest(environment), self.assertRaises(BadSettings):
                Service(environment)

    def test_every_fault_is_known(self) -> None:
        for fault in FAULTS:
            if fault == "crash":
                with self.assertRaises(BadSettings):
                    Service({"DEMO_FAULT": fault})
            else:
                self.assertEqual(Service({"DEMO_FAULT": fault}).fault, fault)


if __name__ == "__main__":
    unittest.main()
