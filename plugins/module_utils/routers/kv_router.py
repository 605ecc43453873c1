# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A registry apart from the routers: what is decided is written there, and registrars follow it.

A switch is a decision that is written by compare-and-swap, and is done when every router's
registrar (``apps/registrar``) has said that its router follows. Where one cannot, or does not in
time, the earlier decision is put back, so that no router is left on its own. Who is tried beside
the live version is a part of the decision, and so comes and goes in the same way.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from ..change import OnUndo, undoing
from ..deadline import Deadline, Pace, wait_for
from ..errors import DeliveryError, TimeoutExceeded, enumerate_words
from .base import APART, Candidate, Overtaken, Route, RouterError, same_targets
from .canary import check_weight
from .kv_model import Applied, Decision, Health, Keys, State, check_name, parse
from .kv_store import Changed, LeaseLost, Store, StoreAway
from .plan import where

PACE = Pace(interval=0.1, first=0.02)
# A registrar that was just told, or is just starting, gets this long to say where it is.
SETTLE_SECONDS = 5.0
# What a deploy prepares and never decides is forgotten after this; a portal's import may take long.
CANDIDATE_SECONDS = 1800.0


class NotFollowed(RouterError):
    """A router does not do what was decided."""

    kind = "not_followed"


class KvRouter:
    """The routers whose registrars follow one registry.

    :param url: the address at which clients reach the service.
    :param health: how registrars ask instances whether they live; as it is where None is given.
    :param follow_timeout: seconds that registrars may take for a switch, or for what is before it.
    :param nodes: those that have to follow; by default all that ever did.
    :param asks: the header, and its value, that the routers send to the candidate.
    """

    def __init__(
        self,
        store: Store,
        keys: Keys,
        url: str,
        *,
        name: str = "etcd",
        health: Health | None = None,
        follow_timeout: float = 60.0,
        nodes: Collection[str] = (),
        asks: tuple[str, str] = ("x-client-mode", "green"),
    ) -> None:
        self.name = name
        self.asks = asks
        self.store = store
        self.keys = keys
        self.url = url
        self.health = health
        self.follow_timeout = follow_timeout
        self.nodes = frozenset(nodes)
        # The revision of each service as it was last observed; a switch holds for that only.
        self.seen: dict[str, int] = {}

    def observe(self, service: str) -> Route:
        """Ask where the traffic goes now, which is where the last router sends it.

        :raises RouterError: nobody can tell.
        """
        done = self._standing(service)
        self.seen[service] = done.revision
        return _route(service, done)

    def _standing(self, service: str) -> Decision:
        """Return what is decided, with what a router does that has not followed in its place."""
        check_name(service)
        state = self.state()
        nodes = self._nodes(state)
        decision = state.decision(service)
        if decision.revision and not _followed(state, service, decision, nodes):
            state = self._settle(service, nodes) or self.state()
            decision = state.decision(service)
        if not decision.revision:
            return decision
        for node in sorted(nodes):
            said = state.applied.get(service, {}).get(node)
            if not _follows(said, decision):
                self._check_running(state, {node})
                does = said if said is not None else Applied(0)
                return replace(decision, urls=does.urls, tried=does.tried)
        return decision

    def prepare(self, service: str, urls: Sequence[str], on_undo: OnUndo) -> None:
        """Have every router find *urls* healthy, without giving them traffic.

        :raises NotFollowed: one does not; they are given up everywhere.
        :raises Overtaken: somebody else prepares the same service.
        """
        check_name(service)
        state = self.state()
        nodes = self._running_nodes(state)
        health = self.health or state.decision(service).health
        candidate = Decision(tuple(urls), health, secrets.token_hex(8))
        key = self.keys.of("candidates", service)
        try:
            lease = self.store.grant(CANDIDATE_SECONDS)
            revision = self.store.put(key, candidate.text(), lease)
        except LeaseLost:
            raise StoreAway(f"{self.store.name} lost a lease that it had just granted") from None
        candidate = replace(candidate, revision=revision)
        on_undo(lambda: self._forget_candidate(service, candidate), "The candidate is given up")
        self._await("prepare", service, candidate, nodes)

    def switch(self, service: str, urls: Sequence[str]) -> None:
        """Have every router send everything to *urls*.

        :raises Overtaken: the service is no longer what was observed; nothing was changed.
        :raises NotFollowed: a router does not; the earlier decision was put back.
        :raises RouterError: no registrar runs, or the registry cannot be used.
        """
        if not urls:
            raise RouterError(f"{self.name} needs at least one address")
        self._decide(service, tuple(urls))

    def remove(self, service: str) -> None:
        """Have every router forget the service; raises as ``switch`` does."""
        self._decide(service, ())

    def stage(self, service: str, urls: Sequence[str], weight: int = 0) -> None:
        """Have every router try *urls* on that share of the clients; raises as ``switch`` does.

        :raises RouterError: there is no live version, or these are its addresses.
        """
        check_weight(weight)
        live = self.state().decision(service).urls
        if not live:
            raise RouterError(
                f"{service} has no live version that a candidate could stand beside",
                next_step="Switch to a first version.",
            )
        if not urls:
            raise RouterError(f"{self.name} needs at least one address")
        if same_targets(live, urls):
            raise RouterError(f"{enumerate_words(urls)} is live, and so cannot be the candidate")
        self._decide(service, live, Candidate(tuple(urls), weight))

    def unstage(self, service: str) -> None:
        """Have every router send everything to the live version; satisfied where nobody is tried.

        Raises as ``switch`` does.
        """
        decision = self.state().decision(service)
        if decision.tried is not None:
            self._decide(service, decision.urls)

    def in_flight(self, service: str) -> int | None:
        """Count the requests on former targets, in all routers.

        :raises RouterError: a router has not counted since the switch.
        """
        state = self.state()
        decision = state.decision(service)
        if not decision.revision:
            return 0
        counts: list[int | None] = []
        for node in sorted(self._nodes(state)):
            said = state.applied.get(service, {}).get(node)
            if said is None or said.revision != decision.revision:
                raise NotFollowed(f"{node} has not counted the requests of {service} yet")
            counts.append(said.in_flight)
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    def entrance(self, service: str) -> str:
        """Return where clients reach the service."""
        return self.url

    def state(self) -> State:
        """Read all that stands."""
        return parse(self.keys, self.store.read(self.keys.root))

    def _decide(self, service: str, urls: tuple[str, ...], tried: Candidate | None = None) -> None:
        check_name(service)
        state = self.state()
        nodes = self._running_nodes(state)
        before = state.decision(service)
        health = self.health or before.health
        expected = self.seen.get(service, before.revision)
        wanted = Decision(urls, health, secrets.token_hex(8), tried=tried)
        try:
            decided = self._write(service, wanted, expected)
        except Changed:
            now = self.state().decision(service)
            raise Overtaken(
                f"somebody else was first: {where(_route(service, now))}", next_step=APART
            ) from None
        except StoreAway as error:
            # It may have come to be written all the same, by a member that did not say so.
            raise error.with_state(self._take_back(service, before, wanted)) from error.__cause__
        with undoing(partial(self._take_back, service, before, decided)):
            self._await("follow", service, decided, nodes)
        self.seen[service] = decided.revision
        if service in state.candidates:
            # If that fails it lapses; the switch is done all the same.
            with suppress(RouterError):
                self._forget_candidate(service, state.candidates[service])

    def _write(self, service: str, wanted: Decision, expected: int) -> Decision:
        """Write a decision; satisfied where it was written by a request whose answer was lost.

        :raises Changed: somebody else was first.
        """
        try:
            revision = self.store.swap(self.keys.of("services", service), wanted.text(), expected)
        except Changed:
            now = self.state().decision(service)
            if now.token != wanted.token:
                raise
            revision = now.revision
        return replace(wanted, revision=revision)

    def _take_back(self, service: str, before: Decision, decided: Decision) -> str:
        """Put the earlier decision back; return what stands then."""
        again = replace(before, token=secrets.token_hex(8))
        try:
            revision = decided.revision
            if not revision:
                now = self.state().decision(service)
                if now.token != decided.token:
                    return f"{where(_route(service, now))}."
                revision = now.revision
            self.seen[service] = self._write(service, again, revision).revision
        except Changed:
            return "Somebody else has decided otherwise meanwhile, and that was left."
        except DeliveryError as error:
            return f"The earlier registration could not be put back: {error.message}."
        return f"The registration is as it was before: {where(_route(service, before))}."

    def _await(self, what: str, service: str, wanted: Decision, nodes: Collection[str]) -> None:
        """Wait until all *nodes* have said that they did as wanted."""
        pending = sorted(nodes)

        def look() -> bool | None:
            try:
                state = self.state()
            except StoreAway:
                return None
            of_kind = state.applied if what == "follow" else state.prepared
            now = (state.decisions if what == "follow" else state.candidates).get(service)
            if now is None or now.revision != wanted.revision:
                raise Overtaken(
                    f"somebody else deploys {service} at the same time", next_step=APART
                )
            said = of_kind.get(service, {})
            for node in sorted(nodes):
                answer = said.get(node)
                if answer is not None and answer.revision == wanted.revision and answer.error:
                    raise NotFollowed(
                        f"the router of {node} does not {what}: {answer.error}",
                        next_step="See the log of its registrar.",
                    )
            pending[:] = [node for node in sorted(nodes) if not _follows(said.get(node), wanted)]
            return None if pending else True

        try:
            wait_for(look, deadline=Deadline(self.follow_timeout), pace=PACE, what="registrars")
        except TimeoutExceeded:
            raise NotFollowed(
                f"the registrar of {enumerate_words(pending)} did not {what} within "
                f"{self.follow_timeout:g} s",
                next_step="See whether it runs and reaches the registry and its router; its log "
                "says so.",
            ) from None

    def _settle(self, service: str, nodes: Collection[str]) -> State | None:
        """Give registrars that are just following the time to say so."""

        def look() -> State | None:
            state = self.state()
            done = _followed(state, service, state.decision(service), nodes)
            return state if done else None

        try:
            seconds = min(SETTLE_SECONDS, self.follow_timeout)
            return wait_for(look, deadline=Deadline(seconds), pace=PACE, what="registrars")
        except TimeoutExceeded:
            return None

    def _forget_candidate(self, service: str, candidate: Decision) -> None:
        now = self.state().candidates.get(service)
        if now is not None and now.token == candidate.token:
            # What somebody else prepares meanwhile is left alone.
            with suppress(Changed):
                self.store.delete(self.keys.of("candidates", service), now.revision)

    def _nodes(self, state: State) -> Collection[str]:
        nodes = self.nodes or state.nodes
        if not nodes:
            raise RouterError(
                f"no registrar has ever reported below {self.keys.root} of {self.store.name}",
                next_step="Start apps/registrar on each router's host, with the same prefix.",
            )
        return nodes

    def _running_nodes(self, state: State) -> Collection[str]:
        nodes = self._nodes(state)
        self._check_running(state, nodes)
        return nodes

    def _check_running(self, state: State, nodes: Collection[str]) -> None:
        missing = sorted(set(nodes) - state.running)
        if missing:
            raise NotFollowed(
                f"the registrar of {enumerate_words(missing)} does not run, so its router would "
                "not follow",
                next_step="Start it; or, where that router is no more, forget it: "
                "registrar --forget NODE.",
            )


def _route(service: str, decision: Decision) -> Route:
    return Route(service, decision.urls, decision.tried)


def _follows(said: Applied | None, decision: Decision) -> bool:
    if said is None or said.revision != decision.revision or said.error:
        return False
    # A registrar of an earlier version passes over whom it cannot try.
    return said.tried == decision.tried


def _followed(state: State, service: str, decision: Decision, nodes: Collection[str]) -> bool:
    said = state.applied.get(service, {})
    return all(_follows(said.get(node), decision) for node in nodes)


def forget_node(store: Store, keys: Keys, node: str) -> None:
    """Let no switch wait for *node* any more, whose router is gone.

    :raises RouterError: its registrar still writes.
    """
    check_name(node, "node")
    for key, entry in store.read(keys.root).items():
        parts = keys.parts(key)
        if parts[0] not in ("services", "candidates") and parts[-1] == node:
            try:
                store.delete(key, entry.revision)
            except Changed:
                raise RouterError(
                    f"the registrar of {node} still runs: it has just written {key}",
                    next_step="Stop it, then forget its node again.",
                ) from None
