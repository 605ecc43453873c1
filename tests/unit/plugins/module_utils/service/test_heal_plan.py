# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is planned for a service that does not stand as it should, and what it comes to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.immutable.delivery.plugins.module_utils.service import heal_plan as steps
from ansible_collections.immutable.delivery.plugins.module_utils.service.heal_model import (
    SPARE,
    Condition,
    Instance,
    Standing,
)
from ansible_collections.immutable.delivery.plugins.module_utils.service.heal_plan import (
    Intent,
    Plan,
    live_release,
    plan,
)
from ansible_collections.immutable.delivery.plugins.module_utils.service.model import UNPROVED

WELL, STARTING, ILL = Condition.WELL, Condition.STARTING, Condition.ILL
PAUSED, STOPPED = Condition.PAUSED, Condition.STOPPED
HAVING_PORTS = {WELL, STARTING, ILL, PAUSED}


def url(number: int) -> str:
    """An address of the engine's."""
    return f"http://h:{number}"


def one(number: int, condition: Condition = WELL, release: str = "b", **more: object) -> Instance:
    """An instance that was the one of that number to be made, and is at the port of that number."""
    return replace(
        Instance(
            str(number),
            f"demo-{release}-{number}",
            release,
            condition,
            route="demo",
            wanted=1,
            url=url(number) if condition in HAVING_PORTS else None,
            created=number,
            started=number,
        ),
        **more,
    )


def spare(release: str = "b", wanted: int = 1) -> Instance:
    """The spare of a release."""
    found = one(99, STOPPED, release, helps=SPARE, wanted=wanted, created=0, started=0)
    return replace(found, name=f"demo-{release}.{SPARE}")


def standing(*found: Instance, at: tuple[int, ...] | None = (), **more: object) -> Standing:
    """What stands of the service, with the router's targets by their ports."""
    route = None if at is None else tuple(map(url, at))
    return replace(Standing("demo", found, route), **more)


@pytest.mark.parametrize(
    ("seen", "actions"),
    [
        (standing(one(1), spare(), at=(1,)), []),
        (standing(one(1), at=(1,)), [steps.KEEP]),
        (standing(one(1), spare(), at=(7,)), [steps.ROUTE]),
        (standing(one(1), spare(), at=()), [steps.ROUTE]),
        (standing(one(1, STARTING), spare(), at=(7,)), [steps.HEALTH, steps.ROUTE]),
        (standing(one(1, STOPPED), spare(), at=(1,)), [steps.WAKE, steps.HEALTH, steps.ROUTE]),
        (standing(one(1, PAUSED), spare(), at=(1,)), [steps.WAKE, steps.HEALTH, steps.ROUTE]),
        (
            standing(spare(), at=(1,)),
            [steps.CREATE, steps.HEALTH, steps.APPROVE, steps.ROUTE],
        ),
        (
            standing(one(1, ILL), spare(), at=(1,)),
            [steps.CREATE, steps.HEALTH, steps.APPROVE, steps.ROUTE, steps.REMOVE],
        ),
        (
            standing(one(1, ILL, fixed=True), spare(), at=None),
            [steps.WAKE, steps.HEALTH],
        ),
        (
            # Traffic is taken from the dead one before that is repaired.
            standing(one(1), one(2, STOPPED), spare(wanted=2), at=(1, 2)),
            [steps.SHED, steps.WAKE, steps.HEALTH, steps.ROUTE],
        ),
        (
            standing(one(1), spare(wanted=2), at=(1,)),
            [steps.CREATE, steps.HEALTH, steps.APPROVE, steps.ROUTE],
        ),
        # Whoever is live runs after a reboot, and a repair does not prove what a deploy did not.
        (standing(one(1, live_restart="always"), spare(), at=(1,)), [steps.POLICY]),
        (standing(one(1, name=f"demo-b-1{UNPROVED}"), spare(), at=(1,)), []),
        (standing(one(1, name=f"demo-b-1{UNPROVED}", fixed=True), spare(), at=None), []),
        # To take one away that is too many is a deploy's affair.
        (standing(one(1), one(2), spare(), at=(1, 2)), []),
        (standing(one(1), spare("a"), at=(1,)), [steps.KEEP]),
        (standing(one(1), spare(), at=(1,), under_way=True), []),
        (standing(one(1), one(2, release="a"), spare(), at=(1, 2)), []),
        (standing(at=()), []),
    ],
)
def test_plans(seen: Standing, actions: list[str]) -> None:
    planned = plan(seen)
    assert [step.action for step in planned.steps] == actions
    nothing_wrong = actions in ([], [steps.KEEP], [steps.POLICY])
    assert nothing_wrong == (not planned.findings), planned.findings


@pytest.mark.parametrize(
    ("seen", "release"),
    [
        # The router says it, though another was started later.
        (standing(one(1, release="a"), one(2, release="b"), at=(1,)), "a"),
        # A release that was tried and stopped again was started later than what is live.
        (standing(one(1, release="a"), one(2, STOPPED, release="b"), at=(9,)), "a"),
        (standing(one(1, STOPPED, "a"), one(2, STOPPED, "b"), spare("a"), at=(9,)), "a"),
        (standing(one(1, STOPPED, "a"), one(2, STOPPED, "b"), at=(9,)), "b"),
        (standing(spare("a"), at=()), "a"),
        (standing(one(1, release="a"), one(2, release="b"), at=(1, 2)), ""),
        (standing(one(1, name=f"demo-b-1{UNPROVED}"), at=()), ""),
    ],
)
def test_what_should_stand_is_read_from_what_there_is(seen: Standing, release: str) -> None:
    assert live_release(seen) == release


def test_what_is_made_like_one_that_was_not_proved_is_not_proved_either() -> None:
    seen = standing(one(1, ILL, name=f"demo-b-1{UNPROVED}"), at=(1,))
    assert plan(seen).intent.create == (f"demo-b-2{UNPROVED}",)
    assert plan(standing(one(1, ILL), at=(1,))).intent.create == ("demo-b-2",)


def test_as_many_as_there_were_and_not_as_a_failed_repair_left() -> None:
    seen = standing(one(1), spare(wanted=3), at=(1,))
    assert plan(seen).intent.count == 3
    assert plan(replace(seen, count=2)).intent.count == 2
    # Before there is a spare, the router had one target for each.
    assert plan(standing(one(1), at=(1, 7, 8))).intent.count == 3


def test_meanwhile_all_that_are_well_have_the_traffic() -> None:
    seen = standing(one(1), one(2), one(3, STOPPED), spare(wanted=3), at=(1, 3))
    assert plan(seen).intent.shed == (url(1), url(2))
    # The only one there is keeps it until something takes its place.
    assert plan(standing(one(1, ILL), spare(), at=(1,))).intent.shed == ()


def test_findings_say_what_a_person_would() -> None:
    seen = standing(one(1), one(2, STOPPED, says="ended with exit code 1"), at=(1, 9), count=3)
    assert plan(seen).findings == (
        "demo-b-2 ended with exit code 1",
        "1 of 3 instances of demo is missing",
        "the router sends demo to http://h:9, where nothing of it answers",
    )


class World:
    """What stands, and what each step makes of it; whatever is started gets another port."""

    def __init__(self, seen: Standing) -> None:
        self.members = {found.id: found for found in seen.found}
        self.seen = seen
        self.port = 50000
        self.final: list[str] = []

    def now(self) -> Standing:
        return replace(self.seen, found=tuple(self.members.values()))

    def _up(self, member: Instance) -> Instance:
        self.port += 1
        port = None if member.fixed else self.port
        return replace(
            member,
            condition=WELL,
            url=url(port) if port else url(8000),
            started=self.port,
        )

    def well(self) -> set[str]:
        """Where something of the release answers that should stand."""
        release = live_release(self.seen)
        return {
            found.url or ""
            for found in self.members.values()
            if found.condition is WELL and found.release == release and not found.helps
        }

    def send(self, urls: tuple[str, ...]) -> None:
        before = set(self.seen.route or ())
        assert urls and set(urls) - before <= self.well(), "something not well gets traffic"
        assert before & self.well() <= set(urls), "something that is well lost its traffic"
        self.seen = replace(self.seen, route=urls)

    def apply(self, planned: Plan) -> None:
        self.final = [found.id for found in (*planned.intent.stay, *planned.intent.wake)]
        self.final += [f"new {name}" for name in planned.intent.create]
        for step in planned.steps:
            getattr(self, f"_{step.action}")(planned.intent)

    def _shed(self, intent: Intent) -> None:
        self.send(intent.shed)

    def _wake(self, intent: Intent) -> None:
        for found in intent.wake:
            paused = found.condition is PAUSED
            self.members[found.id] = replace(found, condition=WELL) if paused else self._up(found)

    def _create(self, intent: Intent) -> None:
        assert intent.template is not None and intent.template.id in self.members
        for name in intent.create:
            assert name not in {found.name for found in self.members.values()}
            made = replace(intent.template, id=f"new {name}", name=name, helps="")
            made = replace(made, wanted=intent.count, created=self.port)
            self.members[made.id] = self._up(made)

    def _health(self, intent: Intent) -> None:
        for found in intent.stay:
            if found.condition is STARTING:
                self.members[found.id] = replace(found, condition=WELL)

    def _approve(self, intent: Intent) -> None:
        assert intent.create

    def _route(self, intent: Intent) -> None:
        self.send(tuple(self.members[found].url or "" for found in self.final))

    def _remove(self, intent: Intent) -> None:
        for found in intent.replaced:
            assert found.url not in (self.seen.route or ())
            del self.members[found.id]

    def _keep(self, intent: Intent) -> None:
        for found in intent.outdated:
            del self.members[found.id]
        if intent.keep:
            kept = replace(self.members[self.final[0]], id="spare", helps=SPARE, url=None)
            kept = replace(kept, condition=STOPPED, wanted=intent.count)
            self.members["spare"] = replace(kept, name="demo-b.spare")


# Most of what stands is well: it is what must not be harmed.
conditions = st.sampled_from([WELL, WELL, WELL, *Condition])


@st.composite
def scenes(draw: st.DrawFn) -> Standing:
    """Anything that may be left of a service, by whatever happened to it."""
    fixed = draw(st.booleans())
    conditions_ = draw(st.lists(conditions, max_size=1 if fixed else 4))
    found = [one(number, condition) for number, condition in enumerate(conditions_, 1)]
    if fixed:
        found = [replace(each, fixed=True, url=each.url and url(8000)) for each in found]
    kept = draw(st.lists(st.just(STOPPED), max_size=2))
    found += [one(20 + number, each, "a", started=0) for number, each in enumerate(kept)]
    wanted = 1 if fixed else draw(st.integers(1, 3))
    if draw(st.booleans()) or not conditions_:
        found.append(replace(spare(wanted=wanted), fixed=fixed))
    ports = st.sampled_from([8000] if fixed else [1, 1, 2, 2, 3, 4, 7])
    at = draw(st.none() | st.lists(ports, unique=True, max_size=4).map(tuple))
    return standing(*found, at=at)


@given(scenes())
def test_one_repair_is_enough_and_takes_nothing_from_anybody(seen: Standing) -> None:
    planned = plan(seen)
    world = World(seen)
    release = live_release(seen)
    world.apply(planned)
    after = world.now()
    assert live_release(after) == release == "b"
    again = plan(after)
    assert not again.steps and not again.findings, (again.steps, again.findings)
    running = [found for found in world.members.values() if found.condition is WELL]
    assert len(running) >= planned.intent.count
    if seen.route is not None:
        assert set(after.route or ()) <= world.well()
        assert len(after.route or ()) >= planned.intent.count
    kept = [found for found in seen.found if found.release == "a"]
    assert all(world.members[found.id] == found for found in kept)
