# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which version of a portal is live, and the stages from it to the wanted one."""

from __future__ import annotations

from dataclasses import dataclass

from ..deadline import Deadline
from ..errors import DeliveryError
from ..http import Http, HttpError
from ..probe import look_up

STAGES = (
    ("create", "make {wanted} beside it"),
    ("rehearse", "carry the data while users go on writing"),
    ("test", "test {wanted} with the data"),
    ("carry", "make both read-only, and carry the data once more"),
    ("switch", "send the traffic to {wanted}, and prove it through the router"),
    ("drain", "wait until {live} has answered its last request"),
    ("retire", "stop {live} and keep it"),
)


@dataclass(frozen=True)
class Live:
    """What the router sends traffic to. ``url`` is empty where the service is not registered."""

    url: str
    version: str


def plan_release(live: Live, wanted: str) -> list[dict[str, str]]:
    """Return the stages from *live* to version *wanted*; none where it is live already.

    :raises DeliveryError: nothing is live, so there is nothing whose data could be carried.
    """
    if not live.url:
        raise DeliveryError(
            "no version is live: the router does not know the service",
            next_step="Register the first version with immutable.delivery.proxy_register; from "
            "then on it can be replaced.",
        )
    if live.version == wanted:
        return []
    names = {"wanted": wanted, "live": live.version or "the live version"}
    return [{"stage": stage, "summary": text.format(**names)} for stage, text in STAGES]


def read_version(http: Http, path: str, field: str, deadline: Deadline) -> str:
    """Ask a portal for its version.

    :raises DeliveryError: it cannot be reached, or does not tell its version.
    """
    response = http.request("GET", path, deadline=deadline)
    if not response.ok or response.is_redirect:
        raise HttpError(
            f"{http.at(path)} answers {response.status_code}, so the live version is not known",
            next_step="Check the host name that the portal answers to, and that it is healthy.",
        )
    version = look_up(http.json(response), field)
    if version is None:
        raise HttpError(f"the answer of {http.at(path)} has no field {field}")
    return str(version)
