# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The proof of a switch: the new version answers through the load balancer, several times in a row.

A load balancer takes a change over node by node, so one good answer proves little.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..deadline import Deadline, Pace, wait_for
from ..errors import DeliveryError, TimeoutExceeded
from ..http import ConnectionBroken, Http, HttpError, Unreachable
from ..probe import as_text, look_up

PACE = Pace(interval=1.0, first=0.0)
BETWEEN = 0.05


class Unproved(DeliveryError):
    """What answers through the listener is not what was expected."""

    kind = "unproved"


@dataclass(frozen=True)
class Proof:
    """What to ask, and what the answers must be.

    :param path: asked for with GET.
    :param sent: headers to send.
    :param headers: headers that an answer must have with these values.
    :param fields: JSON fields (dots descend) that it must have, compared as text.
    :param count: how many good answers in a row are a proof.
    :param timeout: seconds for all of it.
    """

    http: Http
    path: str
    sent: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    count: int = 3
    timeout: float = 60

    def run(self) -> None:
        """Ask until *count* good answers came in a row.

        :raises Unproved: they did not within the time.
        """
        deadline = Deadline(self.timeout)
        last = ""

        def look() -> bool | None:
            nonlocal last
            for attempt in range(self.count):
                if attempt:
                    deadline.sleep(min(BETWEEN, deadline.remaining))
                last = self.shortcoming(deadline)
                if last:
                    return None
            return True

        try:
            wait_for(look, deadline=deadline, pace=PACE, what="the proof")
        except TimeoutExceeded as error:
            raise Unproved(
                f"{self.http.name}{self.path} did not answer {self.count} times in a row as "
                f"expected within {self.timeout:.0f} s: {last}",
                next_step="Ask the new version itself, then see the load balancer's access log.",
            ) from error

    def shortcoming(self, deadline: Deadline) -> str:
        """Ask once; return what is wrong with the answer, or an empty string."""
        try:
            response = self.http.request(
                "GET", self.path, deadline=deadline.within(10), headers=self.sent, repeat=False
            )
        except (Unreachable, ConnectionBroken, TimeoutExceeded) as error:
            return error.message
        if not response.ok or response.is_redirect:
            return f"status {response.status_code}"
        for name, value in self.headers.items():
            seen = response.headers.get(name)
            if seen != value:
                return f"header {name} is {'missing' if seen is None else seen}, not {value}"
        if not self.fields:
            return ""
        try:
            document = self.http.json(response)
        except HttpError as error:
            return error.message
        for name, value in self.fields.items():
            seen = look_up(document, name)
            wanted = value.lower() if isinstance(seen, bool) else value
            if seen is None or as_text(seen) != wanted:
                return f"{name} is {'missing' if seen is None else as_text(seen)}, not {value}"
        return ""
