# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is in a registry apart from the router, as values. Pure.

Below a prefix of the store::

    services/NAME                a deploy's decision: where the traffic shall go
    candidates/NAME              what a deploy is about to decide, with a lease
    nodes/NODE                   a router that has to follow, by its registrar's name
    running/NODE                 that its registrar runs, with a lease
    applied/NAME/NODE            what that router does about the decision
    prepared/NAME/NODE           what it found of the candidate
    instances/NAME/ADDRESS/NODE  that an instance answered that registrar, with a lease

Decisions are made by compare-and-swap and never lapse: they are what somebody wanted. Liveness has
leases: it is what somebody saw.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

from .base import Candidate, RouterError
from .canary import MAX_WEIGHT
from .kv_store import Entry

NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
PREFIX = re.compile(r"(?:/[A-Za-z0-9._-]+)+")


@dataclass(frozen=True)
class Health:
    """How an instance is asked whether it lives; without a path, by connecting to it."""

    path: str = ""
    host: str = ""


@dataclass(frozen=True)
class Decision:
    """Where the traffic of a service shall go; nowhere where there are no addresses.

    :param token: tells who wrote it, so that a writer whose answer was lost knows its own again.
    :param revision: the one that wrote it; 0 before it is written.
    :param tried: who shall be tried beside them, and on how many clients.
    """

    urls: tuple[str, ...] = ()
    health: Health = field(default_factory=Health)
    token: str = ""
    revision: int = 0
    tried: Candidate | None = None

    @property
    def instances(self) -> tuple[str, ...]:
        """All addresses that get requests by it."""
        return self.urls + (self.tried.urls if self.tried is not None else ())

    def text(self) -> str:
        """Return it as it is stored."""
        health = {"path": self.health.path, "host": self.health.host}
        document = {"urls": self.urls, "health": health, "token": self.token}
        return json.dumps({**document, **_tried_text(self.tried)})


@dataclass(frozen=True)
class Applied:
    """What a router does about a decision, or has found of a candidate.

    :param revision: which one.
    :param urls: where it sent the traffic when this was written, by the last decision that it
        could follow.
    :param targets: which of them get it: those that live.
    :param in_flight: requests on former targets; None where it cannot tell.
    :param error: why it does not follow; empty where it does.
    :param tried: who is tried beside them.
    """

    revision: int
    urls: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    in_flight: int | None = None
    error: str = ""
    tried: Candidate | None = None

    def text(self) -> str:
        """Return it as it is stored."""
        return json.dumps(
            {
                "revision": self.revision,
                "urls": self.urls,
                "targets": self.targets,
                "in_flight": self.in_flight,
                "error": self.error,
                **_tried_text(self.tried),
            }
        )


class Keys:
    """The names of the keys below a prefix."""

    def __init__(self, prefix: str) -> None:
        """Raises RouterError where there can be no such prefix."""
        if not PREFIX.fullmatch(prefix):
            raise RouterError(f"{prefix!r} cannot be the prefix of keys: give it as /delivery")
        self.root = f"{prefix}/"

    def of(self, kind: str, *parts: str) -> str:
        """Return a key of one kind; addresses may be parts."""
        return self.root + "/".join([kind, *(quote(part, safe="") for part in parts)])

    def parts(self, key: str) -> tuple[str, ...]:
        """Return the kind and the parts of a key."""
        return tuple(map(unquote, key.removeprefix(self.root).split("/")))


@dataclass
class State:
    """All that stands below a prefix, as it was read at one moment.

    :param bad: why a service's decision cannot be read.
    """

    decisions: dict[str, Decision] = field(default_factory=dict)
    candidates: dict[str, Decision] = field(default_factory=dict)
    applied: dict[str, dict[str, Applied]] = field(default_factory=dict)
    prepared: dict[str, dict[str, Applied]] = field(default_factory=dict)
    instances: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    nodes: set[str] = field(default_factory=set)
    running: set[str] = field(default_factory=set)
    bad: dict[str, str] = field(default_factory=dict)

    def decision(self, service: str) -> Decision:
        """Return what is decided; nothing at revision 0 where nothing is.

        :raises RouterError: it cannot be read.
        """
        if service in self.bad:
            raise RouterError(
                f"the registration of {service} cannot be read: {self.bad[service]}",
                next_step="Find out who wrote it, and delete its key.",
            )
        return self.decisions.get(service, Decision())

    def alive(self, service: str) -> set[str]:
        """Return the addresses that have answered somebody."""
        return {url for url, nodes in self.instances.get(service, {}).items() if nodes}


def parse(keys: Keys, entries: Mapping[str, Entry]) -> State:
    """Return what stands. What is no key of ours, or says nothing of use, is passed over."""
    state = State()
    for key, entry in entries.items():
        _read(state, keys.parts(key), entry)
    return state


def _read(state: State, parts: tuple[str, ...], entry: Entry) -> None:
    kind, names = parts[0], parts[1:]
    if kind == "services" and len(names) == 1:
        try:
            state.decisions[names[0]] = parse_decision(entry)
        except ValueError as error:
            state.bad[names[0]] = str(error)
    elif kind == "candidates" and len(names) == 1:
        try:
            state.candidates[names[0]] = parse_decision(entry)
        except ValueError:
            return
    elif kind in ("applied", "prepared") and len(names) == 2:
        service, node = names
        of_kind = state.applied if kind == "applied" else state.prepared
        try:
            of_kind.setdefault(service, {})[node] = parse_applied(entry.value)
        except ValueError:
            return
    elif kind == "instances" and len(names) == 3:
        service, url, node = names
        state.instances.setdefault(service, {}).setdefault(url, set()).add(node)
    elif kind in ("nodes", "running") and len(names) == 1:
        (state.nodes if kind == "nodes" else state.running).add(names[0])


def parse_decision(entry: Entry) -> Decision:
    """Return the decision that was stored.

    :raises ValueError: it is none.
    """
    document = _object(entry.value)
    health = document.get("health")
    if not isinstance(health, dict):
        health = {}
    return Decision(
        _addresses(document.get("urls")),
        Health(str(health.get("path") or ""), str(health.get("host") or "")),
        str(document.get("token", "")),
        entry.revision,
        _tried(document.get("tried")),
    )


def parse_applied(text: str) -> Applied:
    """Return what a node wrote.

    :raises ValueError: no node did.
    """
    document = _object(text)
    revision, count = document.get("revision"), document.get("in_flight")
    if not _is_count(revision) or not (count is None or _is_count(count)):
        raise ValueError("its numbers are none")
    return Applied(
        int(str(revision)),
        _addresses(document.get("urls")),
        _addresses(document.get("targets")),
        count,
        str(document.get("error", "")),
        _tried(document.get("tried")),
    )


class Liveness:
    """Which of a service's addresses get traffic: those that are decided and have not died.

    An address is dead once its registration was seen and is there no more. One that nobody has
    registered yet is watched by nobody, or not for long enough, and gets traffic: a deploy has
    found it healthy. If all are dead, what was is kept: that a store lost every lease must not
    cost the traffic.
    """

    def __init__(self, dead: Collection[str] = ()) -> None:
        self._seen = set(dead)
        self._last: tuple[str, ...] = ()

    def targets(self, urls: tuple[str, ...], alive: Collection[str]) -> tuple[str, ...]:
        """Return the addresses that get traffic; none only where none is decided."""
        self._seen = {url for url in urls if url in self._seen or url in alive}
        living = tuple(url for url in urls if url in alive or url not in self._seen)
        kept = tuple(url for url in self._last if url in urls)
        self._last = living or kept or urls
        return self._last


def check_name(name: str, what: str = "service") -> str:
    """Return a name that can be part of a key.

    :raises RouterError: it cannot.
    """
    if not NAME.fullmatch(name):
        raise RouterError(
            f"{name!r} cannot be the name of a {what}",
            next_step="Give letters, digits, '.', '_' and '-'.",
        )
    return name


def _object(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    if not isinstance(document, dict):
        raise ValueError("it is no object")
    return document


def _addresses(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(url, str) and url for url in value):
        raise ValueError("its addresses are none")
    return tuple(value)


def _tried_text(tried: Candidate | None) -> dict[str, Any]:
    return {"tried": {"urls": tried.urls, "weight": tried.weight}} if tried is not None else {}


def _tried(value: object) -> Candidate | None:
    if value is None:
        return None
    weight = value.get("weight") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not _is_count(weight) or int(str(weight)) > MAX_WEIGHT:
        raise ValueError("its candidate is none")
    return Candidate(_addresses(value.get("urls")), int(str(weight)))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
