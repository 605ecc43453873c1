# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of a server, asked directly or through a router."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from ..deadline import Deadline
from ..errors import DeliveryError
from ..http import Http
from ..probe import Expectation, shortcoming, wait_healthy

# What a router itself answers if nothing serves behind it.
GATEWAY_ERRORS = frozenset({502, 503, 504})
ANSWERED = tuple(status for status in range(100, 600) if status not in GATEWAY_ERRORS)


class Unproved(DeliveryError):
    """The router was switched, and what it then answered is not what was expected."""

    kind = "unproved"


@dataclass(frozen=True)
class Check:
    """Questions to a server, and how many good answers in a row are wanted within *timeout* s."""

    http: Http
    expected: Expectation
    timeout: float
    count: int = 1

    def run(self, watch: Callable[[], object] = lambda: None) -> None:
        """Ask until the answers are good.

        :param watch: called before each look; it may raise to end the wait.
        :raises Unhealthy: they were not in time.
        """
        wait_healthy(
            self.http,
            self.expected,
            deadline=Deadline(self.timeout),
            successes=self.count,
            watch=watch,
        )

    def ask(self) -> str:
        """Ask once; return what is wrong with the answer, or an empty string."""
        return shortcoming(self.http, self.expected, Deadline(self.timeout))

    def any_version(self) -> Check:
        """Return the same check for whichever version answers."""
        return replace(self, expected=replace(self.expected, fields={}), count=1)


def answered(http: Http, timeout: float) -> Check | None:
    """Return a check that something behind the router answers, whatever it says.

    None if *http* names no service: the router itself would answer a request for none.
    """
    if not http.host_header and not urlsplit(http.base_url).path.strip("/"):
        return None
    return Check(http, Expectation("/", ANSWERED), timeout)
