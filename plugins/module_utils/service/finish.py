# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What comes once the new release is proved: drain, stop, remove. It is never rolled back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..change import Outcome, Step, run
from ..errors import DeliveryError, as_delivery_error, enumerate_words
from ..routers.drain import Drained
from ..signals import signals_as_errors
from . import plan as steps
from .deploy import Deploy
from .model import Member, Observed, as_data, live, trying


@dataclass
class Delivered:
    """What a deploy came to."""

    deploy: Deploy
    outcome: Outcome[Observed]
    after: Observed
    drained: Drained | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)

    def result(self) -> dict[str, Any]:
        """Return what the module returns."""
        values = self.outcome.result()
        release = self.outcome.before.release
        having = live(self.after)
        tried = trying(self.after)
        rest = [
            one
            for one in self.after.members
            if one not in having and one not in tried and not one.helps
        ]
        values.update(
            changed=self.outcome.changed or bool(self.deploy.planned.after),
            steps=[*self.outcome.steps, *self.steps],
            containers=[as_data(member) for member in having],
            previous=[as_data(member) for member in rest],
            candidate=[as_data(member) for member in tried],
            weight=self.after.candidate.weight if self.after.candidate else None,
            previous_urls=[one.url for one in live(self.outcome.before) if one.url],
            urls=[member.url for member in having if member.url],
            release=None,
            downtime_seconds=self.deploy.downtime,
            tests=self.deploy.said,
            drained=self.drained.drained if self.drained else None,
            in_flight=self.drained.in_flight if self.drained else None,
        )
        if release is not None:
            values["release"] = {
                "id": release.id,
                "digest": release.digest,
                "config": release.config,
                "image": self.deploy.observer.image_name
                or next((one.image for one in self.after.members if one.release == release.id), ""),
            }
        return values


def deliver(
    deploy: Deploy,
    *,
    check_mode: bool,
    drain_timeout: float,
    clock: Callable[[], float] = time.monotonic,
) -> Delivered:
    """Deploy, then retire what is not needed any more.

    :raises DeliveryError: the deploy failed and was taken back; or it stands, and what was to be
        retired is left over, as the error says.
    """
    deploy.observer.check_mode = check_mode
    try:
        outcome = run(deploy, check_mode=check_mode)
    except DeliveryError as error:
        error.next_step = error.next_step or "Once the reason is gone, run this again."
        raise
    done = Delivered(deploy, outcome, outcome.after)
    after = deploy.planned.after
    if check_mode or not after:
        done.steps = [{"step": step.summary, "seconds": 0.0} for step in after]
        if after:
            outcome.diff["after"] = deploy.expected(outcome.before, [])
        return done
    with signals_as_errors():
        try:
            for step in after:
                began = clock()
                _finish(done, step, drain_timeout)
                seconds = round(clock() - began, 3)
                done.steps.append({"step": step.summary, "seconds": seconds})
            done.after = deploy.look()
            outcome.diff["after"] = deploy.describe(done.after)
        except BaseException as raised:
            raise _stands(as_delivery_error(raised), outcome.after) from raised
    return done


def _stands(error: DeliveryError, after: Observed) -> DeliveryError:
    names = enumerate_words(one.name for one in live(after))
    text = f"The deploy itself was made: {names or 'nothing'} has the traffic"
    error.next_step = error.next_step or "Run this again to retire what is left over."
    return error.with_state(text)


def _finish(done: Delivered, step: Step, drain_timeout: float) -> None:
    deploy = done.deploy
    if step.action == steps.DRAIN and deploy.observer.routing is not None:
        done.drained = deploy.observer.routing.drain(drain_timeout)
    elif step.action == steps.STOP:
        # What still runs may work on requests that came without the router.
        for member in deploy.planned.intent.stop:
            deploy.engine.stop_and_keep(member.id, deploy.stop_timeout, member.name)
    elif step.action == steps.REMOVE:
        leaving = deploy.planned.intent.remove
        for member in leaving:
            if member.alive:
                deploy.engine.stop(member.id, deploy.stop_timeout, member.name)
        for member in leaving:
            deploy.engine.remove(member.id, member.name)
        _forget(deploy, leaving)


def _forget(deploy: Deploy, removed: Sequence[Member]) -> None:
    """Remove the images of releases that are gone, which would fill the disk one by one."""
    images = deploy.observer.images
    if images.local:
        return
    needed = {one.image for one in deploy.observer.engine.of_service(deploy.wanted.name)}
    for image in {one.image for one in removed if one.image} - needed:
        images.forget(image)
