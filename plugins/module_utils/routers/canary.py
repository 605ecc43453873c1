# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a router can do that also tries a candidate on a part of the traffic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from .base import Router, RouterError

MAX_WEIGHT = 99


@runtime_checkable
class CanaryRouter(Router, Protocol):
    """A router with candidates. Requests that ask for a version by header get that one.

    ``Router.switch`` promotes: it sends everything to the addresses it is given, and there is no
    candidate any more. ``in_flight`` counts neither what is on the live version nor what is on the
    candidate.
    """

    @property
    def asks(self) -> tuple[str, str]:
        """The request header, and its value, by which a client asks for the candidate."""

    def stage(self, service: str, urls: Sequence[str], weight: int = 0) -> None:
        """Make *urls* the candidate, with that share of the traffic; raises as ``switch`` does.

        The share of one that is the candidate already can be lowered whatever its health.
        """

    def unstage(self, service: str) -> None:
        """Send everything to the live version; satisfied if there is no candidate.

        Raises as ``switch`` does.
        """


def as_canary(router: Router) -> CanaryRouter:
    """Return *router* as one that has candidates.

    :raises RouterError: it can have none.
    """
    if isinstance(router, CanaryRouter):
        return router
    raise RouterError(
        f"router {router.name} cannot have a candidate beside the live version",
        next_step="Give router haproxy, nginx, etcd or consul, or deploy with state present.",
    )


def check_weight(weight: int) -> None:
    """Make sure that *weight* can be a candidate's share.

    :raises RouterError: it cannot.
    """
    if not 0 <= weight <= MAX_WEIGHT:
        raise RouterError(
            f"a candidate's weight must be 0 to {MAX_WEIGHT} percent, not {weight}",
            next_step="Promote the candidate, to give it everything.",
        )
