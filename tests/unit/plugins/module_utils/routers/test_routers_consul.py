# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Consul's API never answers, and what then is said."""

from __future__ import annotations

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.http import Http
from ansible_collections.immutable.delivery.plugins.module_utils.routers.consul import Consul
from ansible_collections.immutable.delivery.plugins.module_utils.routers.kv_store import (
    LeaseLost,
    StoreAway,
)

from ..loopback import Answer, refusing, serving


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(200, {"Content-Type": "text/html"}, b"<html>Welcome</html>"), "not Consul's"),
        (Answer(404, {}, b"<html>Not Found</html>"), "not Consul's"),
        (Answer(200, {}, b"{}"), "not Consul's"),
        (Answer(200, {}, b"[5]"), "not Consul's"),
        (Answer(200, {}, b'[{"Key": "a", "Value": "###", "ModifyIndex": 1}]'), "not Consul's"),
        (Answer(200, {}, b'[{"Key": "a", "Value": null, "ModifyIndex": "x"}]'), "not Consul's"),
        (Answer(400, {}, b"Bad request: no"), "refused .*: 400, Bad request: no"),
    ],
)
def test_reading(answer: Answer, message: str) -> None:
    with serving(answer) as server:
        consul = Consul(Http(server.url), 5)
        if answer.body == b"{}":
            # An object without keys has none; as the answer to a write it is none.
            with pytest.raises(DeliveryError, match=message):
                consul.put("/a", "1")
            with pytest.raises(DeliveryError, match=message):
                consul.grant(10)
        else:
            with pytest.raises(DeliveryError, match=message):
                consul.read("/")


def test_a_session_that_is_lost_is_told_from_a_server_in_trouble() -> None:
    refused = Answer(500, {}, b'rpc error: invalid session "5"')
    with serving(refused) as server, pytest.raises(LeaseLost):
        Consul(Http(server.url), 5).put("/a", "1", "5")
    with (
        serving(Answer(500, {}, b"rpc error: no known leader")) as server,
        pytest.raises(StoreAway, match="no known leader"),
    ):
        Consul(Http(server.url), 0.5).put("/a", "1", "5")
    with refusing() as gone, pytest.raises(StoreAway, match="cannot be reached"):
        Consul(Http(gone), 0.5).read("/a/")
