# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps that bring new instances up, tested, while nobody comes to them yet."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from ..change import OnUndo, Step
from ..deadline import Deadline, Pace
from ..engine.containers import NO_RESTART
from ..engine.errors import Missing
from ..engine.health import SETTLE, STEADY, ContainerFailed, check_unchanged, soak, wait_well
from ..engine.inspect import Container
from ..errors import DeliveryError, enumerate_words
from ..routers.base import StillServing
from . import testing
from .model import (
    ADDRESS,
    CONFIG,
    DIGEST,
    HELPS,
    IMAGE,
    INSTANCES,
    REHEARSAL,
    RELEASE,
    ROUTE,
    SALT,
    SERVICE,
    TESTS,
    UNPROVED,
    Member,
    Shape,
    live_restart,
)

if TYPE_CHECKING:
    from .deploy import Deploy

PACE = Pace(interval=0.25, first=0.0, growth=1.5)


def clear(deploy: Deploy, step: Step, on_undo: OnUndo) -> None:
    """Remove what an earlier deploy left."""
    for member in deploy.planned.intent.left:
        if member.running and not member.helps:
            # A rollback that was broken off may have left it with requests.
            deploy.engine.stop(member.id, deploy.stop_timeout, member.name)
        deploy.engine.remove(member.id, member.name)


def pull(deploy: Deploy, step: Step, on_undo: OnUndo) -> None:
    """Pull the images that the engine lacks."""
    images, observer = deploy.observer.images, deploy.observer
    names = []
    if deploy.planned.intent.create and not deploy.before.image_here:
        names.append(observer.image_name)
    if not observer.find_tests() and observer.tests_name not in names:
        names.append(observer.tests_name)
    deadline = Deadline(deploy.pull_timeout)
    for name in names:
        on_undo(partial(images.forget, name))
        images.pull(name, deadline)


def revive(deploy: Deploy, step: Step, on_undo: OnUndo) -> None:
    """Start again who had the fixed port last; to be live, since nobody else is."""
    for member in deploy.planned.intent.holders:
        if member.id in step.detail["ids"]:
            # It may be why somebody deploys that it does not start any more.
            with suppress(DeliveryError):
                deploy.engine.start(member.id, member.name, restart=member.live_restart)


def rehearse(deploy: Deploy, step: Step, on_undo: OnUndo) -> None:
    """Run the release for a fixed port at another port."""
    name = f"{_stem(deploy)}.{REHEARSAL}"
    on_undo(partial(_end_rehearsal, deploy), f"{name} was removed")
    deploy.rehearsal = name
    deploy.rehearsal = _make(deploy, name, None, helps=REHEARSAL)
    deploy.engine.start(deploy.rehearsal, name)
    wait(deploy, [deploy.rehearsal])


def _end_rehearsal(deploy: Deploy) -> None:
    if deploy.rehearsal:
        deploy.healthy.pop(deploy.rehearsal, None)
        deploy.engine.stop(deploy.rehearsal, deploy.stop_timeout)
        deploy.engine.remove(deploy.rehearsal)
        deploy.rehearsal = ""


def create(deploy: Deploy, step: Step, on_undo: OnUndo) -> None:
    """Make the new containers, which do not run yet."""
    if deploy.rehearsal:
        # Many end right after their first answer. To find that out later would cost a gap.
        rehearsed = [deploy.healthy[deploy.rehearsal]]
        soak(deploy.engine.client, rehearsed, STEADY, secrets=deploy.secrets)
    _end_rehearsal(deploy)
    for name in deploy.planned.intent.create:
        unproved = f"{name}{UNPROVED}"
        # Noted first: a request whose answer is lost may have been carried out.
        on_undo(partial(_discard, deploy, unproved, name), f"{unproved} was removed")
        deploy.made[name] = _make(deploy, unproved, deploy.wanted.fixed_port)


def _discard(deploy: Deploy, unproved: str, name: str) -> None:
    container = deploy.made.get(name, unproved)
    name = name if name in deploy.renamed else unproved
    _require_no_traffic(deploy, container, name)
    if deploy.routed:
        # It may still work on requests that came before the route was put back.
        with suppress(DeliveryError):
            deploy.engine.stop(container, deploy.stop_timeout, name)
    deploy.engine.remove(container, name)


def _rest(deploy: Deploy, member: Member) -> None:
    _require_no_traffic(deploy, member.id, member.name)
    deploy.engine.stop_and_keep(member.id, deploy.stop_timeout, member.name)


def _require_no_traffic(deploy: Deploy, container: str, name: str) -> None:
    """Make sure that an undo does not end what has the traffic, since that could not be undone.

    :raises StillServing: it has, or may have.
    """
    if deploy.alone:
        raise StillServing(f"{name} was left running, since nobody is left who could serve instead")
    routing = deploy.observer.routing
    if not deploy.routed or routing is None:
        return
    try:
        url = deploy.observer.url_of(deploy.engine.inspect(container, name))
    except Missing:
        return
    if why := routing.may_lead_to([url] if url else []):
        deploy.kept.append(name)
        raise StillServing(f"{name} was left running, since {why}")


def start(deploy: Deploy, step: Step, on_undo: OnUndo) -> None:
    """Start the new containers, and kept ones again."""
    engine = deploy.engine
    for member in deploy.planned.intent.start:
        on_undo(partial(_rest, deploy, member), f"{member.name} was stopped again")
        engine.start(member.id, member.name)
    for name, container in deploy.made.items():
        engine.start(container, f"{name}{UNPROVED}")


def health(deploy: Deploy, step: Step, on_undo: OnUndo) -> None:
    """Wait until those are healthy that are new, or new to the traffic."""
    seen = wait(deploy, step.detail.get("ids") or deploy.coming_ids())
    if deploy.tests is None:
        soak(deploy.engine.client, seen, SETTLE, secrets=deploy.secrets)


def test(deploy: Deploy, step: Step, on_undo: OnUndo) -> None:
    """Run the tests' container against a new one."""
    if deploy.tests is None:
        return
    engine = deploy.engine
    seen = engine.inspect(deploy.rehearsal or deploy.coming_ids()[0])
    tests = testing.with_image(deploy.tests, deploy.observer.tests_name)
    name = f"{_stem(deploy)}.{TESTS}"
    url = deploy.observer.url_of(seen) or ""
    try:
        container = testing.create(engine, tests, name, _labels(deploy, TESTS), url)
        deploy.said = testing.finish(engine, tests, container, seen.id, deploy.secrets)
    finally:
        # Where the engine is away this fails as well, and the next deploy clears it away.
        with suppress(DeliveryError):
            engine.remove(name)
    # One may crash on its last test.
    look_again(deploy)


def wait(
    deploy: Deploy, containers: Sequence[str], pace: Pace = PACE, *, new: bool = True
) -> list[Container]:
    """Wait until *containers* are healthy.

    :param new: whether they are watched from now on.
    :raises ContainerFailed: one does not become healthy.
    """
    asked = bool(deploy.wanted.health_path)
    healthy = wait_well(
        deploy.engine.client,
        containers,
        Deadline(deploy.health_timeout),
        secrets=deploy.secrets,
        look_further=deploy.observer.shortcoming if asked else None,
        checks=not asked,
        restarting=_restarting(deploy, containers),
        pace=pace,
    )
    if new:
        deploy.healthy.update({seen.id: seen for seen in healthy})
    return healthy


def _restarting(deploy: Deploy, containers: Sequence[str]) -> Collection[str]:
    """Return those that the engine will start again after an exit, and does not yet."""
    seen = [deploy.engine.inspect(one) for one in containers]
    return {one.id for one in seen if NO_RESTART == one.restart != live_restart(one)}


def look_again(deploy: Deploy) -> None:
    """Make sure that all new instances still run as they did when they were found healthy.

    :raises ContainerFailed: one has ended, was started again, or became unhealthy.
    """
    check_unchanged(deploy.engine.client, list(deploy.healthy.values()), deploy.secrets)


def addresses(deploy: Deploy) -> list[str]:
    """Return where those are reached that are to get traffic, all of which are still healthy.

    :raises ContainerFailed: one is not, or has no address.
    """
    found = {seen.name: deploy.observer.url_of(seen) for seen in final(deploy)}
    look_again(deploy)
    if lost := [name for name, url in found.items() if not url]:
        raise ContainerFailed(
            f"{enumerate_words(lost)} cannot be reached: it does not run, or publishes no port",
            next_step="See whether it runs, then run this again.",
        )
    return [url for url in found.values() if url]


def final(deploy: Deploy) -> list[Container]:
    """Return those that have the traffic, or get it: as they were when they were found healthy."""
    return [deploy.healthy.get(one) or deploy.engine.inspect(one) for one in deploy.final_ids()]


def _stem(deploy: Deploy) -> str:
    release = deploy.before.release
    return f"{deploy.wanted.name}-{release.id}" if release else deploy.wanted.name


def _make(deploy: Deploy, name: str, port: int | None, helps: str = "") -> str:
    shape = deploy.wanted.shape or Shape(0)
    labels = _labels(deploy, helps)
    return deploy.engine.create(name, deploy.observer.image_name, shape, labels, port)


def _labels(deploy: Deploy, helps: str = "") -> dict[str, str]:
    release = deploy.before.release
    labels = {
        SERVICE: deploy.wanted.name,
        RELEASE: release.id if release else "",
        DIGEST: release.digest if release else "",
        CONFIG: release.config if release else "",
        SALT: release.salt if release else "",
        IMAGE: deploy.observer.image_name,
        INSTANCES: str(deploy.wanted.instances),
        ROUTE: deploy.wanted.route,
        ADDRESS: deploy.wanted.address,
        HELPS: helps,
    }
    return {name: value for name, value in labels.items() if value}
