# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Containers of a compose project: created by compose, and waited for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..deadline import Deadline
from ..engine.containers import Containers as EngineContainers
from ..engine.health import wait_well
from ..engine.inspect import Container
from ..errors import DeliveryError
from .cli import Compose, Limit
from .engine_state import Image, Instance, instances
from .project import Project
from .service import Service, with_volumes, without_name


@dataclass(frozen=True)
class Containers(EngineContainers):
    """Works on the containers of one project.

    :param wait_timeout: the seconds that containers may take until they are well.
    """

    compose: Compose
    project: Project
    wait_timeout: float
    images: Mapping[str, Image | None] = field(default_factory=dict)

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
    ) -> list[Container]:
        """Wait until containers are healthy, as :func:`wait_well` does.

        :raises DeliveryError: one is not; the error has its last lines.
        """
        return wait_well(
            self.client,
            ids,
            Deadline(self.wait_timeout),
            ends=ends,
            look_further=look_further,
            restarting=restarting,
        )

    def create(
        self,
        counts: Mapping[str, int],
        references: Mapping[str, str],
        leaving: Mapping[str, Sequence[Instance]],
    ) -> dict[str, list[str]]:
        """Create further containers, not started; return their ids by service.

        :param counts: how many, by service.
        :param references: by service, the id of the container that others shall refer to.
        :param leaving: the containers that they replace, whose anonymous volumes they take over.
        """
        found: dict[str, list[str]] = {name: [] for name in counts}
        left = dict(counts)
        standing = instances(self.client, self.project.name)
        there = {name: {one.id for one in ones} for name, ones in standing.items()}
        while left:
            specs: dict[str, dict[str, Any]] = {}
            volumes: set[str] = set()
            wave: dict[str, int] = {}
            for name, count in left.items():
                service = self.project.services[name]
                slot = counts[name] - count
                given = self._inherited(service, leaving.get(name, ())[slot : slot + 1], standing)
                specs[name] = self._spec(service, references, given)
                volumes.update(given.values())
                # Each takes over volumes of its own.
                wave[name] = 1 if given else count
            self._up(wave, specs, volumes, {name: len(ids) for name, ids in there.items()})
            now = instances(self.client, self.project.name)
            for name, count in wave.items():
                fresh = [one.id for one in now.get(name, ()) if one.id not in there.get(name, ())]
                if len(fresh) != count:
                    raise DeliveryError(
                        f"docker compose created {len(fresh)} container(s) of {name}, not {count}",
                        next_step="See whether somebody else deploys the same project.",
                    )
                found[name] += fresh
                there.setdefault(name, set()).update(fresh)
            left = {name: left[name] - wave[name] for name in left if left[name] > wave[name]}
        return found

    def _spec(
        self, service: Service, references: Mapping[str, str], inherited: Mapping[str, str]
    ) -> dict[str, Any]:
        spec = without_name(service.resolved(references))
        return with_volumes(spec, inherited) if inherited else spec

    def _inherited(
        self,
        service: Service,
        former: Sequence[Instance],
        standing: Mapping[str, Sequence[Instance]],
    ) -> dict[str, str]:
        """Return the anonymous volumes that a container takes over, as with compose's own ``up``.

        Static services are filled anew from their image; what comes from other containers is
        theirs; and where the files name a volume now, that one is meant.
        """
        if not former or service.static:
            return {}
        given = {
            mount.name
            for name in service.volumes_from
            for one in standing.get(name, ())
            for mount in one.mounts
        }
        declared = {volume["target"]: volume for volume in service.spec.get("volumes") or ()}
        image = self.images.get(service.name)
        places = set(image.volumes if image else ())
        places |= {place for place, volume in declared.items() if not volume.get("source")}
        return {
            mount.place: mount.name
            for mount in former[0].mounts
            if mount.anonymous
            and mount.name not in given
            and mount.place in places
            and not declared.get(mount.place, {}).get("source")
        }

    def _up(
        self,
        counts: Mapping[str, int],
        specs: Mapping[str, Mapping[str, Any]],
        volumes: Iterable[str],
        there: Mapping[str, int],
    ) -> None:
        scales = []
        for name in sorted(self.project.needs(counts)):
            scales += ["--scale", f"{name}={there.get(name, 0) + counts.get(name, 0)}"]
        every = {
            name: without_name(service.spec) for name, service in self.project.services.items()
        }
        model = self.project.model_with({**every, **specs}, volumes)
        self.compose.run(
            model,
            *("up", "--no-start", "--no-recreate", "--no-build", "--pull", "never"),
            *(*scales, *sorted(counts)),
            doing=f"create containers of {', '.join(sorted(counts))}",
            limit=self.limit(),
        )
