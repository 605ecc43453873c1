# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the module's options to the repair of each service, and what all of them came to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..change import run
from ..engine.client import connect
from ..engine.options import ENGINE_OPTIONS, Connection
from ..errors import BadOption, DeliveryError, Interrupted
from ..given import check_least, check_paths, check_seconds
from ..http import check_url
from ..routers.base import Router
from ..routers.host_options import host_router_specs
from .heal import Heal
from .heal_engine import Ward
from .heal_model import Standing, instance_of
from .heal_plan import live_release
from .model import SPARE
from .options import OPTIONS as DEPLOY
from .options import router_at

# What says how services are reached, as it does for their deploy.
AS_DEPLOYED = (
    *("address", "health_timeout", "router", *host_router_specs(), "api_url"),
    *("router_validate_certs", "router_ca_path", "router_timeout"),
)
OPTIONS: dict[str, dict[str, Any]] = {
    "services": {"type": "list", "elements": "str", "default": []},
    "exclude": {"type": "list", "elements": "str", "default": []},
    "instances": {"type": "dict", "default": {}},
    "health_paths": {"type": "dict", "default": {}},
    "addresses": {"type": "dict", "default": {}},
    **{name: DEPLOY[name] for name in AS_DEPLOYED},
    "exclusive": {"type": "bool", "default": False},
    **ENGINE_OPTIONS,
}


class Repair:
    """The services of one engine, those first that are registered nowhere, such as the router.

    :raises DeliveryError: an option cannot be used, or the engine does not answer.
    """

    def __init__(self, params: Mapping[str, Any], check_mode: bool) -> None:
        connection = Connection.of(params)
        check_seconds(params, ("health_timeout",))
        self.params = params
        self.check_mode = check_mode
        self.address = params["address"] or connection.address
        self.addresses = {
            name: str(address or connection.address)
            for name, address in params["addresses"].items()
        }
        self.counts = counts_of(params["instances"])
        self.paths = {name: str(path or "") for name, path in params["health_paths"].items()}
        check_paths(self.paths, self.paths, "health_paths: ")
        router_of(params)
        self.ward = Ward(connect(connection))

    def run(self) -> list[dict[str, Any]]:
        """Repair each; return their results.

        :raises DeliveryError: the engine cannot be asked, or a signal came.
        """
        return [self._one(name) for name in self._names()]

    def _names(self) -> list[str]:
        now = self.ward.now()
        routed = {}
        for name, containers in self.ward.services().items():
            found = tuple(instance_of(one, self.address, now) for one in containers)
            routed[name] = bool(Standing(name, found).routed_as)
        named = set(self.params["services"])
        unwanted = set(self.params["exclude"])
        names = (named or set(routed)) - unwanted
        return sorted(names, key=lambda name: (routed.get(name, True), name))

    def _one(self, name: str) -> dict[str, Any]:
        heal = Heal(
            name,
            self.ward,
            self.addresses.get(name, self.address),
            router_of(self.params),
            count=self.counts.get(name),
            health_path=self.paths.get(name, ""),
            health_timeout=self.params["health_timeout"],
            exclusive=self.params["exclusive"],
        )
        result: dict[str, Any] = {"name": name, "failed": False, "changed": False}
        try:
            outcome = run(heal, check_mode=self.check_mode)
        except Interrupted:
            raise
        except DeliveryError as error:
            result.update(failure(error), found=list(heal.planned.findings))
            return result
        if not outcome.before.found:
            gone = DeliveryError(
                f"the engine has nothing of {name} that it could be repaired from",
                next_step="Deploy it.",
            )
            return {**result, **failure(gone), "found": []}
        result.update(outcome.result(), found=list(heal.planned.findings), **state(outcome.after))
        result["left_alone"] = heal.planned.left_alone
        # In check mode the router may be what has yet to be repaired.
        if heal.away and not self.check_mode:
            away = DeliveryError(
                f"{heal.away}, so nobody knows whether it sends {name} its traffic",
                next_step="Bring the router back, then run this again.",
            )
            result.update(failure(away))
        elif heal.away:
            result["found"].append(f"{heal.away}, so its routes are not known")
        return result


def state(standing: Standing) -> dict[str, Any]:
    """Return what stands, as results show it."""
    release = live_release(standing)
    own = [one for one in standing.instances if one.release == release]
    return {
        "release": release,
        "containers": [
            {
                "id": one.id,
                "name": one.name,
                "url": one.url,
                "image": one.image,
                "state": one.says,
            }
            for one in own
        ],
        "urls": list(standing.route or ()),
        "spare": any(one.helps == SPARE for one in standing.found),
    }


def failure(error: DeliveryError) -> dict[str, Any]:
    """Return an error as a service's result shows it."""
    return {"failed": True, **error.result()}


def router_of(params: Mapping[str, Any]) -> Router | None:
    """Return the router, fresh for each service; None where there is none.

    :raises DeliveryError: an option cannot be used.
    """
    if not params["router"]:
        return None
    check_url(params["api_url"])
    return router_at(params)


def counts_of(given: Mapping[str, Any]) -> dict[str, int]:
    """Return how many instances are asked for.

    :raises BadOption: that is no number, or none at all.
    """
    found: dict[str, int] = {}
    for name, count in given.items():
        try:
            found[name] = int(str(count))
        except ValueError:
            raise BadOption(f"instances: {name} must be a number, not {count!r}") from None
        check_least(found, name, 1, "instances: ")
    return found
