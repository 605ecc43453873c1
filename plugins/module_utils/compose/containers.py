# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Containers of a compose project: created by compose, and waited for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from ..deadline import Deadline
from ..engine.containers import Containers as EngineContainers
from ..engine.errors import Missing, engine_errors
from ..engine.health import ContainerFailed, wait_well
from ..engine.inspect import CREATED, EXITED, Container
from ..errors import DeliveryError
from .changes import changes
from .cli import Compose, Limit
from .copies import copy_created
from .engine_state import FILES, HASH, NUMBER, SERVICE, Image, Instance, Mount, instances
from .hashing import ask_compose, with_due
from .hooks import POST_START, PRE_STOP, run_hooks
from .inline_files import InlineFile, put_files
from .naming import Slot, aside, due_links, name_for
from .project import Project
from .service import Service, creatable, without_name


@dataclass(frozen=True)
class Created:
    """A new container: its id, and the name that it has once nobody else has it."""

    id: str
    name: str


@dataclass(frozen=True)
class Containers(EngineContainers):
    """Works on the containers of one project.

    :param wait_timeout: the seconds that containers may take until they are well.
    :param inline: the files that new containers get before they start, by service.
    :param left: what went wrong and is no failure, for people.
    """

    compose: Compose
    project: Project
    wait_timeout: float
    images: Mapping[str, Image | None] = field(default_factory=dict)
    inline: Mapping[str, Sequence[InlineFile]] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    def start(self, container: str, name: str = "", *, restart: str | None = None) -> None:
        """Start a container; for a new one do what compose does before and after that.

        :raises DeliveryError: it cannot be started, or its ``post_start`` hook failed.
        """
        seen = self.inspect(container, name)
        new = seen.status == CREATED
        if new:
            put_files(self.client, seen, self.inline.get(seen.labels.get(SERVICE, ""), ()))
        super().start(container, name, restart=restart)
        if new:
            self._run_hooks(POST_START, seen)

    def stop_live(self, one: Instance) -> None:
        """Stop a container that serves so that it stays stopped, after its ``pre_stop`` hook.

        A hook that fails is told, and the container is stopped all the same.
        """
        if one.container.well:
            try:
                self._run_hooks(PRE_STOP, one.container)
            except DeliveryError as error:
                self.left.append(error.message)
        self.stop_and_keep(one.id, one.grace, one.name)

    def _run_hooks(self, kind: str, container: Container) -> None:
        service = self.project.services.get(container.labels.get(SERVICE, ""))
        hooks = service.spec.get(kind) if service else None
        run_hooks(self.client, container, kind, hooks or (), Deadline(self.wait_timeout))

    def limit(self, seconds: float | None = None) -> Limit:
        """Return how long compose may take to create or start containers."""
        return Limit(
            self.wait_timeout if seconds is None else seconds,
            "Raise wait_timeout if they need longer, or find out what they wait for.",
        )

    def wait(
        self,
        ids: Sequence[str],
        *,
        ends: Collection[str] = (),
        look_further: Callable[[Container], str] | None = None,
        restarting: Collection[str] = (),
        patient: Collection[str] = (),
    ) -> list[Container]:
        """Wait until containers are healthy, as :func:`wait_well` does.

        :raises DeliveryError: one is not; the error has its last lines.
        """
        try:
            return wait_well(
                self.client,
                ids,
                Deadline(self.wait_timeout),
                ends=ends,
                look_further=look_further,
                restarting=restarting,
                patient=patient,
            )
        except ContainerFailed as error:
            if done := self._done(set(ids) - set(ends)):
                error.next_step = (
                    f"If {done} is a job, which is done once it has ended with 0, name it in "
                    f"run_once_services. {error.next_step}"
                )
            raise

    def _done(self, ids: Collection[str]) -> str:
        """Return the service of one of these containers that has ended with 0."""
        for one in sorted(ids):
            with suppress(DeliveryError):
                seen = self.inspect(one)
                if seen.status == EXITED and seen.exit_code == 0:
                    return seen.labels.get(SERVICE, seen.name)
        return ""

    def create(
        self,
        places: Mapping[str, Sequence[Slot]],
        references: Mapping[str, str],
    ) -> dict[str, list[Created]]:
        """Create further containers, not started; return them by service, in order.

        Compose creates each. One whose number, name, hash or volumes would not be those that
        plain compose gives it is then made once more as it should be.

        :param places: what each comes for, by service.
        :param references: by service, the id of the container that others shall refer to.
        """
        standing = instances(self.client, self.project.name)
        specs = {name: self.project.services[name].resolved(references) for name in places}
        due = self._due(specs)
        self._up(
            {name: len(ones) for name, ones in places.items()},
            {
                name: creatable(self.project.services[name].pointed(spec, references))
                for name, spec in specs.items()
            },
            {name: len(ones) for name, ones in standing.items()},
        )
        there = {one.id for ones in standing.values() for one in ones}
        now = instances(self.client, self.project.name)
        pairs = {}
        for name, ones in places.items():
            fresh = [one for one in now.get(name, ()) if one.id not in there]
            if len(fresh) != len(ones):
                raise DeliveryError(
                    f"docker compose created {len(fresh)} container(s) of {name}, not {len(ones)}",
                    next_step="See whether somebody else deploys the same project.",
                )
            pairs[name] = _paired(fresh, ones)
        services = self.project.services
        gone = {made.name for ones in pairs.values() for made, _slot in ones} - {
            name_for(services[name], slot.number, made.name)
            for name, ones in pairs.items()
            for made, slot in ones
        }
        return {
            name: [
                self._settled(services[name], made, slot, due[name], standing=standing, gone=gone)
                for made, slot in ones
            ]
            for name, ones in pairs.items()
        }

    def _due(self, specs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """Return the hashes that compose gives the containers of resolved services."""
        services = self.project.services
        others = [name for name in specs if services[name].references]
        asked = self.ask([specs[name] for name in others])
        return {name: services[name].hash for name in specs} | dict(zip(others, asked, strict=True))

    def ask(self, specs: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return the hash that compose gives the containers of each of *specs*."""
        return ask_compose(self.compose, self.project.model, specs)

    def look(self) -> dict[str, list[Instance]]:
        """Return the project's containers by service, each with the hash that it should have."""
        found = with_due(self.ask, self.project.services, instances(self.client, self.project.name))
        return {name: [self._with_changes(one) for one in ones] for name, ones in found.items()}

    def _with_changes(self, one: Instance) -> Instance:
        """Return a container with what differs from its service, if that does."""
        service = self.project.services.get(one.service)
        if service is None or one.hash == one.due:
            return one
        try:
            with engine_errors(f"inspect {one.name}"):
                seen = self.client.api.inspect_container(one.id)
                image = self.client.images.get(seen["Image"]).attrs.get("Config") or {}
        except Missing:
            return one
        return replace(one, changes=changes(service, self.project.model, seen, image))

    def _files(self) -> dict[str, str]:
        """Return the label with the files, which ``docker compose ls`` shows.

        Compose was given what it had read of them, and has labelled the containers with ``-``.
        """
        found = [str(self.compose.folder / name) for name in self.project.files]
        return {FILES: ",".join(found)} if found else {}

    def _settled(
        self,
        service: Service,
        made: Instance,
        slot: Slot,
        due: str,
        *,
        standing: Mapping[str, Sequence[Instance]],
        gone: Collection[str],
    ) -> Created:
        """Return what compose has created, or what is made in its place."""
        name = name_for(service, slot.number, made.name)
        volumes = self._inherited(service, slot.follows, standing)
        labels = {HASH: due, NUMBER: str(slot.number), **self._files()}
        same = all(made.container.labels.get(key) == value for key, value in labels.items())
        if made.name == name and same and not volumes:
            return Created(made.id, name)
        with engine_errors(f"inspect the container {made.name}"):
            seen = self.client.api.inspect_container(made.id)
        for endpoint in (seen["NetworkSettings"].get("Networks") or {}).values():
            links = endpoint.get("Links") or ()
            endpoint["Links"] = due_links(service, links, made.number, slot.number, gone)
        new = copy_created(
            self.client,
            seen,
            aside(name, made.id),
            final_name=name,
            labels=labels,
            volumes=volumes,
            hostname=service.spec.get("hostname") or "",
            platform=service.spec.get("platform"),
        )
        # It was never started: its anonymous volumes hold what the image has.
        self.remove(made.id, made.name)
        return Created(new, name)

    def _inherited(
        self,
        service: Service,
        former: Instance | None,
        standing: Mapping[str, Sequence[Instance]],
    ) -> list[Mount]:
        """Return the anonymous volumes that a container takes over, as with compose's own ``up``.

        Static services are filled anew from their image; what comes from other containers is
        theirs; and where the files name a volume now, that one is meant.
        """
        if former is None or service.static:
            return []
        given = {
            mount.name
            for name in service.volumes_from
            for one in standing.get(name, ())
            for mount in one.mounts
        }
        image = self.images.get(service.name)
        places = service.anonymous_places(image.volumes if image else ())
        return [
            mount
            for mount in former.mounts
            if mount.anonymous and mount.name not in given and mount.place in places
        ]

    def _up(
        self,
        counts: Mapping[str, int],
        specs: Mapping[str, Mapping[str, Any]],
        there: Mapping[str, int],
    ) -> None:
        scales = []
        # Compose takes along what these depend on, and refuses to scale anything else.
        for name in sorted(self.project.needs(counts, references=False)):
            scales += ["--scale", f"{name}={there.get(name, 0) + counts.get(name, 0)}"]
        every = {
            name: without_name(service.spec)
            for name, service in self.project.services.items()
            if not service.orphan
        }
        self.compose.run(
            self.project.model_with({**every, **specs}),
            *("up", "--no-start", "--no-recreate", "--no-build", "--pull", "never"),
            *(*scales, *sorted(counts)),
            doing=f"create containers of {', '.join(sorted(counts))}",
            limit=self.limit(),
        )


def _paired(fresh: Sequence[Instance], ones: Sequence[Slot]) -> list[tuple[Instance, Slot]]:
    """Return which created container is for what, in the order of *ones*; equal numbers if any."""
    numbers = {slot.number for slot in ones}
    left = [one for one in fresh if one.number not in numbers]
    same = {one.number: one for one in fresh}
    return [(same.get(slot.number) or left.pop(0), slot) for slot in ones]
