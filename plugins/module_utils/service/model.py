# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A service on an engine: what is wanted, what stands, and by which labels it is known again.

A container's labels cannot be changed once it is made, its name and its restart policy can:

- One whose name bears the mark :data:`UNPROVED` has not been proved: it was not watched to the end
  after it got the traffic, or it has been rolled back. If it has no traffic, it was left or
  refused, and the next deploy clears it away.
- One that is not live has the restart policy ``no``. Its own policy is in a label, and it gets that
  right before it becomes live.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..engine.containers import NO_RESTART
from ..engine.inspect import NEVER, Container
from ..routers.base import Candidate, bracketed, same_address

LABEL = "immutable.delivery."
SERVICE = f"{LABEL}service"
RELEASE = f"{LABEL}release"
DIGEST = f"{LABEL}digest"
CONFIG = f"{LABEL}config"
# The key of that digest, 128 random bits. It is in no name, result or log.
SALT = f"{LABEL}salt"
# What a later repair needs to say what should stand.
IMAGE = f"{LABEL}image"
INSTANCES = f"{LABEL}instances"
ROUTE = f"{LABEL}route"
# The host name under which it was to be reached when it was made.
ADDRESS = f"{LABEL}address"
# The restart policy of a container while it is live.
RESTART = f"{LABEL}restart"
# What a container is for, where it is no instance: "tests", "rehearsal" or "spare".
HELPS = f"{LABEL}helps"
TESTS = "tests"
REHEARSAL = "rehearsal"
# What is never started, and kept by a repair to make the service again from.
SPARE = "spare"

UNPROVED = ".candidate"
# Stands for the digest of a configuration in check mode, if the service has no salt yet.
UNKNOWN = "????????"

# What a run is to come to. The last four need a router that can have a candidate.
PRESENT = "present"
ABSENT = "absent"
STAGED = "staged"
CANARY = "canary"
PROMOTED = "promoted"
ROLLED_BACK = "rolled_back"
STATES = (PRESENT, ABSENT, STAGED, CANARY, PROMOTED, ROLLED_BACK)
CANARY_STATES = frozenset({STAGED, CANARY, PROMOTED, ROLLED_BACK})
# Those that make nothing: whom they are about is read from the router and from labels.
ABOUT_WHAT_STANDS = frozenset({CANARY, PROMOTED, ROLLED_BACK})


@dataclass(frozen=True)
class Shape:
    """All that makes two containers of one image differ; part of a release's identity.

    ``memory`` is in bytes and ``stop_timeout`` in seconds. A field added later must be empty by
    default, so that what stands already keeps its identity.
    """

    container_port: int
    published_port: int | None = None
    bind_address: str = "0.0.0.0"
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    volumes: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    networks: tuple[str, ...] = ()
    extra_hosts: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    memory: int = 0
    cpus: float = 0.0
    restart_policy: str = "unless-stopped"
    stop_timeout: int = 30

    def digest(self, salt: str) -> str:
        """Return its HMAC, in hex.

        The digest is part of names that everybody sees. Without *salt*, nobody can find out by
        trying which value of a short secret it was made of.
        """
        told = {name: value for name, value in asdict(self).items() if value}
        text = json.dumps(told, sort_keys=True, separators=(",", ":"))
        return hmac.new(salt.encode(), text.encode(), "sha256").hexdigest()


@dataclass(frozen=True)
class Wanted:
    """What the options ask for, before the image's digest is known.

    :param address: the host name under which published ports are reached.
    :param route: the service's name at the router; empty where there is no router.
    :param health_path: asked of each instance; empty for what the engine's own check says.
    :param rehearse: whether a release for a fixed port is tried on another port first.
    :param state: one of :data:`STATES`.
    :param weight: for ``canary``, the candidate's share of the clients in percent.
    :param digest: for ``canary`` and ``promoted``, the only one that is meant; empty for any.
    :param soak: the seconds for which new instances are watched once they have the traffic.
    """

    name: str
    shape: Shape | None
    instances: int = 1
    address: str = "127.0.0.1"
    route: str = ""
    health_path: str = ""
    tested: bool = False
    rehearse: bool = True
    keep_releases: int = 1
    state: str = PRESENT
    weight: int = 0
    digest: str = ""
    soak: float = 10.0

    @property
    def absent(self) -> bool:
        """Whether nothing of it shall stand."""
        return self.shape is None and self.state not in ABOUT_WHAT_STANDS

    @property
    def fixed_port(self) -> int | None:
        """The host's port where it is given, and not picked by the engine."""
        return self.shape.published_port if self.shape else None


@dataclass(frozen=True)
class Release:
    """One version of a service: an image and a configuration.

    :param config: the configuration's digest by *salt*; empty if no salt was made yet.
    """

    digest: str
    config: str
    salt: str = field(default="", repr=False)

    @property
    def id(self) -> str:
        """Return its name, which stays the same as long as the engine has one of its containers.

        Two engines have different names for the same release.
        """
        return f"{self.digest.removeprefix('sha256:')[:12]}-{self.config[:8] or UNKNOWN}"


def find_release(
    containers: Sequence[Container], digest: str, shape: Shape, *, make: bool = True
) -> Release:
    """Return the release of an image and a shape, by the salt that its service has already.

    :param containers: all of the service, so that the release is found again from any controller.
    :param make: whether a service without a salt gets one; without it, its release has a name
        that shows what is not known yet.
    """
    newest = sorted(containers, key=lambda one: one.created, reverse=True)
    salts = dict.fromkeys(one.labels[SALT] for one in newest if one.labels.get(SALT))
    found = [Release(digest, shape.digest(salt), salt) for salt in salts]
    known = {one.labels.get(RELEASE) for one in containers}
    if not found and not make:
        return Release(digest, "")
    fresh = secrets.token_hex(16)
    first = found[0] if found else Release(digest, shape.digest(fresh), fresh)
    return next((one for one in found if one.id in known), first)


@dataclass(frozen=True)
class Member:
    """A container that bears the service's name in its labels.

    :param url: where it is reached; None while it does not run.
    :param well: whether it runs and neither the engine nor a question of ours says otherwise.
    :param alive: whether it runs, or the engine is about to start it anew.
    :param restart: its restart policy now; ``live_restart`` is the one for while it is live.
    :param fixed_port: the host's port, unless the engine picks it.
    :param restarts: how often the engine has started it again by itself.
    """

    id: str
    name: str
    release: str
    digest: str = ""
    config: str = ""
    image: str = ""
    helps: str = ""
    running: bool = False
    well: bool = False
    status: str = ""
    started: int = NEVER
    url: str | None = None
    alive: bool = False
    restart: str = NO_RESTART
    live_restart: str = NO_RESTART
    fixed_port: int | None = None
    restarts: int = 0

    @property
    def unproved(self) -> bool:
        """Whether nobody has said yet that it works."""
        return self.name.endswith(UNPROVED)

    @property
    def failing(self) -> bool:
        """Whether it should run, and is not healthy. What is kept has the restart policy ``no``."""
        return not self.well and (self.alive or self.restart != NO_RESTART)

    def among(self, urls: tuple[str, ...]) -> bool:
        """Tell whether one of *urls* leads to it."""
        return self.url is not None and any(same_address(self.url, url) for url in urls)


def member_of(container: Container, wanted: Wanted, ill: bool = False) -> Member:
    """Return what matters of a container.

    :param ill: it does not answer as a healthy one would.
    """
    labels = container.labels
    port = _port(container, wanted)
    return Member(
        id=container.id,
        name=container.name,
        release=labels.get(RELEASE, ""),
        digest=labels.get(DIGEST, ""),
        config=labels.get(CONFIG, ""),
        image=labels.get(IMAGE, ""),
        helps=labels.get(HELPS, ""),
        running=container.running,
        # A check that has not come to a result yet says nothing against it.
        well=container.running and container.health != "unhealthy" and not ill,
        status=container.health or container.status,
        started=container.started or container.created,
        url=url_at(wanted.address, port) if container.running and port else None,
        alive=container.alive,
        restart=container.restart,
        live_restart=live_restart(container),
        fixed_port=next(iter(container.fixed_ports), None),
        restarts=container.restarts,
    )


def live_restart(container: Container) -> str:
    """Return the restart policy that a container has while it is live."""
    return container.labels.get(RESTART) or container.restart


def _port(container: Container, wanted: Wanted) -> int | None:
    """Return the published port; an earlier release may have had another port inside."""
    if wanted.shape and (port := container.host_port(wanted.shape.container_port)):
        return port
    return next((ports[0] for ports in container.ports.values() if ports), None)


def url_at(address: str, port: int) -> str:
    """Return the address of an instance."""
    return f"http://{bracketed(address)}:{port}"


@dataclass(frozen=True)
class Observed:
    """What stands.

    :param route: where the router sends the traffic; None where there is no router, or where it is
        away and may be.
    :param image_here: whether the engine has the image already.
    :param candidate: whom the router sends a part of the clients to, beside the live ones.
    """

    members: tuple[Member, ...] = ()
    route: tuple[str, ...] | None = None
    release: Release | None = None
    image_here: bool = True
    candidate: Candidate | None = None


def instances(observed: Observed) -> list[Member]:
    """Return the containers that are instances, not helpers or candidates that were left.

    Whom the router names is one. Without a router, whoever has a fixed port has the traffic.
    """
    named = (observed.route or ()) + (observed.candidate.urls if observed.candidate else ())

    def has_traffic(member: Member) -> bool:
        if observed.route is None and member.alive and member.fixed_port is not None:
            return True
        return member.among(named)

    return [
        member
        for member in observed.members
        if not member.helps and (not member.unproved or has_traffic(member))
    ]


def left_over(observed: Observed) -> tuple[Member, ...]:
    """Return the containers that are no instances: helpers, and candidates left or refused."""
    known = instances(observed)
    return tuple(member for member in observed.members if member not in known)


def trying(observed: Observed) -> tuple[Member, ...]:
    """Return the containers that the router names as the candidate."""
    if observed.candidate is None:
        return ()
    return tuple(one for one in observed.members if one.among(observed.candidate.urls))


def live(observed: Observed) -> list[Member]:
    """Return who has the traffic: those the router says, or the release that was started last."""
    known = instances(observed)
    if observed.route is not None:
        return [member for member in known if member.among(observed.route)]
    running = [member for member in known if member.running]
    newest = max(running or known, key=lambda member: member.started, default=None)
    return [m for m in running if newest is not None and m.release == newest.release]


def current(observed: Observed) -> list[Member]:
    """Return who is live, or who should be, if the router leads to where nobody of ours is.

    The engine starts one that crashes again and again at another port each time.
    """
    having = live(observed)
    if having or not observed.route:
        return having
    ours = [member for member in observed.members if not member.helps]
    meant = [member for member in ours if member.restart != NO_RESTART]
    meant = meant or [member for member in ours if member.alive] or instances(observed)
    newest = max(meant, key=lambda member: member.started, default=None)
    return [one for one in meant if newest is not None and one.release == newest.release]


def as_data(member: Member) -> dict[str, Any]:
    """Return a container as modules show it."""
    return {
        "id": member.id,
        "name": member.name,
        "url": member.url,
        "release": member.release,
        "digest": member.digest,
        "image": member.image,
        "running": member.running,
        "status": member.status,
    }
