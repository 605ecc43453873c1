# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An engine and a router that live in memory, for the properties of plans."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.immutable.delivery.plugins.module_utils.change import Step
from ansible_collections.immutable.delivery.plugins.module_utils.engine.containers import (
    NO_RESTART,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import Candidate
from ansible_collections.immutable.delivery.plugins.module_utils.service import canary
from ansible_collections.immutable.delivery.plugins.module_utils.service import plan as steps
from ansible_collections.immutable.delivery.plugins.module_utils.service.model import (
    ABOUT_WHAT_STANDS,
    UNPROVED,
    Member,
    Observed,
    Release,
    Shape,
    Wanted,
    instances,
    url_at,
)
from ansible_collections.immutable.delivery.plugins.module_utils.service.plan import Plan

ADDRESS = "127.0.0.1"
OWN = "unless-stopped"


def release(name: str) -> Release:
    """A release that is known by one letter."""
    return Release(f"sha256:{name * 64}", "0" * 64)


def wanted(count: int = 1, keep: int = 1, port: int | None = None, rehearse: bool = True) -> Wanted:
    """A service that is to stand, tested."""
    return Wanted(
        "demo",
        Shape(8080, port),
        instances=count,
        address=ADDRESS,
        route="demo",
        tested=True,
        rehearse=rehearse,
        keep_releases=keep,
    )


class World:
    """What stands, and what each step makes of it."""

    def __init__(self, routed: bool) -> None:
        self.members: dict[str, Member] = {}
        self.route: tuple[str, ...] | None = () if routed else None
        self.candidate: Candidate | None = None
        self.clock = 0
        self.port = 40000
        # The release that was last watched to the end.
        self.proved = ""
        self.soaked = False

    def observed(self, name: str | None) -> Observed:
        """What a deploy of that release sees."""
        return Observed(
            tuple(self.members.values()),
            self.route,
            release(name) if name else None,
            False,
            self.candidate,
        )

    def plan(self, name: str | None, what: Wanted) -> Plan:
        """The plan for that release; None removes the service, or is about what stands."""
        if name is None:
            what = replace(what, shape=None)
        seen = self.observed(name)
        if what.state in ABOUT_WHAT_STANDS:
            seen = replace(seen, release=canary.release_of(seen, what))
        return canary.plan_for(seen, what)

    def served(self) -> set[str]:
        """The releases of those that run and have the traffic."""
        return {
            one.release
            for one in instances(self.observed(None))
            if one.running and one.well and (self.route is None or one.among(self.route))
        }

    def deploy(self, name: str | None, what: Wanted, end: int = 1000) -> list[Step]:
        """Plan and apply; killed before the step of number *end*."""
        planned = self.plan(name, what)
        done = [*planned.steps, *planned.after][:end]
        self.made: list[str] = []
        self.soaked = not what.soak
        for step in done:
            self._apply(step, planned, name or "", what)
            self.watch()
        return done

    def watch(self) -> None:
        """Called after each step, for tests that look at what lies between."""

    def asking(self, header: str) -> tuple[str, ...]:
        """Where clients end that ask for the candidate, for the live one, or for nothing."""
        having = self.candidate
        if header == "green" and having is not None:
            return having.urls
        drawn = having.urls if having is not None and having.weight and not header else ()
        return (self.route or ()) + drawn

    def _apply(self, step: Step, planned: Plan, name: str, what: Wanted) -> None:
        intent = planned.intent
        coming = [*(member.id for member in intent.start), *self.made]
        if step.action in (canary.MARK, canary.STAGE, steps.UNSTAGE):
            self._apply_canary(step, planned, coming)
        elif step.action in (steps.POLICY, steps.SOAK, steps.APPROVE):
            self._go_live(step, planned, coming)
        elif step.action in (steps.CLEAR, steps.REMOVE):
            for gone in step.detail["ids"]:
                del self.members[gone]
        elif step.action == steps.CREATE:
            self._create(intent.create, release(name), what.fixed_port)
        elif step.action in (steps.START, steps.REVIVE):
            for one in step.detail.get("ids") or coming:
                self.start(one, what.fixed_port)
                self.arm(one, step.action == steps.REVIVE)
        elif step.action == steps.REPLACE:
            self._replace(planned, coming[0], what)
        elif step.action in (steps.ROUTE, steps.UNROUTE):
            self._route(planned, coming)
        elif step.action == steps.STOP:
            for one in step.detail["ids"]:
                self.stop(one)
                self.arm(one, False)

    def _go_live(self, step: Step, planned: Plan, coming: list[str]) -> None:
        intent = planned.intent
        if step.action == steps.POLICY:
            final = [*(member.id for member in intent.stay), *coming]
            for one in step.detail.get("ids") or final:
                self.arm(one, "ids" not in step.detail)
        elif step.action == steps.SOAK:
            self.soaked = True
        elif step.action == steps.APPROVE:
            assert self.soaked
            for one in [*self.made, *(member.id for member in intent.stay)]:
                member = self.members[one]
                self.members[one] = replace(member, name=member.name.removesuffix(UNPROVED))
                self.proved = member.release

    def _replace(self, planned: Plan, coming: str, what: Wanted) -> None:
        for holder in planned.intent.holders:
            self.stop(holder.id)
            self.arm(holder.id, False)
        self.start(coming, what.fixed_port)
        self.arm(coming, True)

    def _route(self, planned: Plan, coming: list[str]) -> None:
        if not planned.intent.beside:
            self.candidate = None
        final = [*(member.id for member in planned.intent.stay), *coming]
        self.route = tuple(self.members[one].url or "" for one in final)

    def _apply_canary(self, step: Step, planned: Plan, coming: list[str]) -> None:
        if step.action == canary.MARK:
            for one in step.detail["ids"]:
                member = self.members[one]
                self.members[one] = replace(member, name=f"{member.name}{UNPROVED}")
        elif step.action == canary.STAGE:
            final = [*(member.id for member in planned.intent.stay), *coming]
            urls = tuple(self.members[one].url or "" for one in final)
            self.candidate = Candidate(
                urls or (self.candidate.urls if self.candidate else ()), step.detail["weight"]
            )
        elif step.action == steps.UNSTAGE:
            self.candidate = None

    def _create(self, names: tuple[str, ...], of: Release, port: int | None) -> None:
        for name in names:
            unproved = f"{name}{UNPROVED}"
            assert not {unproved, name} & self.names()
            self.clock += 1
            new = f"{unproved}@{self.clock}"
            self.members[new] = Member(
                new,
                unproved,
                of.id,
                of.digest,
                of.config,
                status="created",
                started=self.now(),
                live_restart=OWN,
                fixed_port=port,
            )
            self.made.append(new)

    def names(self) -> set[str]:
        """All names."""
        return {member.name for member in self.members.values()}

    def now(self) -> int:
        """A time that sorts."""
        return self.clock

    def start(self, one: str, fixed: int | None = None) -> None:
        """Run a container, at another port than before where the engine picks one."""
        self.clock += 1
        self.port += 1
        if fixed is not None:
            url = url_at(ADDRESS, fixed)
            assert not any(other.url == url for other in self.members.values() if other.id != one)
        self.members[one] = replace(
            self.members[one],
            running=True,
            alive=True,
            well=True,
            status="running",
            started=self.now(),
            url=url_at(ADDRESS, fixed or self.port),
        )

    def stop(self, one: str) -> None:
        """End a container."""
        ended = {"running": False, "alive": False, "well": False, "status": "exited", "url": None}
        self.members[one] = replace(self.members[one], **ended)

    def arm(self, one: str, live: bool) -> None:
        """Give a container the restart policy that it has while it is live, or ``no``."""
        member = self.members[one]
        self.members[one] = replace(member, restart=member.live_restart if live else NO_RESTART)

    def crash(self, one: str) -> None:
        """Let a container end again and again; the engine does not start it for good."""
        if self.members[one].restart == NO_RESTART:
            self.stop(one)
            return
        ended = {"running": False, "well": False, "status": "restarting", "url": None}
        self.clock += 1
        self.members[one] = replace(self.members[one], started=self.now(), **ended)

    def sicken(self, one: str) -> None:
        """Make a container one that answers wrong."""
        self.members[one] = replace(self.members[one], well=False, status="unhealthy")
