# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the registrar is told on its command line."""

from __future__ import annotations

import argparse
import ipaddress
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving import BadSettings
from watch import ConsulWatch, EtcdWatch, Watch

from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import Router
from ansible_collections.immutable.delivery.plugins.module_utils.routers.consul import Consul
from ansible_collections.immutable.delivery.plugins.module_utils.routers.consul_options import (
    consul_store,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.etcd import Etcd
from ansible_collections.immutable.delivery.plugins.module_utils.routers.etcd_options import (
    etcd_store,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.haproxy_options import (
    haproxy_of,
    haproxy_spec,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.kv_model import (
    Keys,
    check_name,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.kv_store import Store
from ansible_collections.immutable.delivery.plugins.module_utils.routers.nginx_options import (
    nginx_of,
    nginx_spec,
)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
ROUTERS: dict[str, tuple[Callable[[dict[str, Any]], Router], dict[str, Any]]] = {
    "haproxy": (haproxy_of, haproxy_spec()),
    "nginx": (nginx_of, nginx_spec()),
}
# In seconds, for one call to a router or to the registry.
ROUTER_SECONDS = 30.0
STORE_SECONDS = 5.0
# Nobody asks the router by this; registrars change it, and clients know where it is.
NOWHERE = "http://127.0.0.1"


@dataclass(frozen=True)
class Settings:
    """Times in seconds.

    :param router: makes the router anew; each user has one of its own.
    :param watched: the instances that this registrar keeps registered, by network; empty for all.
    :param ttl: how long registrations outlive the registrar.
    :param health_path: for services that are registered by `/services`, which does not tell it.
    """

    node: str
    keys: Keys
    store: Callable[[], Store]
    router: Callable[[], Router]
    kind: str
    watched: tuple[Network, ...]
    ttl: float
    check_interval: float
    check_failures: int
    follow_timeout: float
    health_path: str

    def watch(self, store: Store, pool: ThreadPoolExecutor) -> Watch:
        """What tells of changes in *store*."""
        if isinstance(store, Consul):
            return ConsulWatch(store, self.keys.root)
        assert isinstance(store, Etcd)
        return EtcdWatch(store, self.keys.root, pool)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; the usage is for --help."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise BadSettings(f"The command line is wrong: {message}.")


def parser(listen: str) -> argparse.ArgumentParser:
    """The command line."""
    it = _Parser(
        description="Make a router do what is registered, and keep instances registered.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    it.add_argument("--listen", default=listen, metavar="HOST:PORT", help="of /services")
    it.add_argument("--ready-file", type=Path, help="written when listening: {url, pid}")
    it.add_argument("--node", required=True, help="the name of this router among all of them")
    where = it.add_mutually_exclusive_group(required=True)
    where.add_argument("--etcd", action="append", metavar="URL", help="a member; once for each")
    where.add_argument(
        "--consul", metavar="URL", help="an agent; a token is in REGISTRAR_CONSUL_TOKEN"
    )
    it.add_argument("--prefix", default="/delivery", help="what the names of all keys begin with")
    it.add_argument("--ca", type=Path, help="CA certificates to trust for etcd or Consul")
    it.add_argument("--etcd-user", help="the password is in REGISTRAR_ETCD_PASSWORD")
    it.add_argument("--etcd-cert", type=Path, help="a certificate to show to etcd's members")
    it.add_argument("--etcd-key", type=Path, help="its key; by default in the same file")
    it.add_argument("--router", choices=sorted(ROUTERS), default="haproxy")
    it.add_argument(
        "--router-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a suboption of the modules' option of the router's name, such as socket=/run/h.sock",
    )
    it.add_argument(
        "--watch",
        action="append",
        default=[],
        metavar="NETWORK",
        help="keep the instances of this network registered, such as 10.0.0.6; once for each; "
        "by default all",
    )
    it.add_argument("--ttl", type=seconds, default=10.0, help="seconds that registrations outlive")
    it.add_argument("--check-interval", type=seconds, default=1.0, help="seconds between checks")
    it.add_argument("--check-failures", type=count, default=3, help="in a row, to be dead")
    it.add_argument("--follow-timeout", type=seconds, default=60.0, help="of POST /services")
    it.add_argument("--health-path", default="/health", help="of services from POST /services")
    it.add_argument("--forget", metavar="NODE", help="let nobody wait for a router that is gone")
    return it


def seconds(text: str) -> float:
    """A number of seconds above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 10**6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return number


def count(text: str) -> int:
    """A whole number above 0."""
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 10**6):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def settings_of(given: argparse.Namespace) -> Settings:
    """What the arguments come to. Raises BadSettings."""
    store = _store(given)
    if given.health_path and not given.health_path.startswith("/"):
        raise BadSettings("--health-path must begin with a slash.")
    make, spec = ROUTERS[given.router]
    options = _router_options(given.router, spec["options"], given.router_option)
    params = {"api_url": NOWHERE, "timeout": ROUTER_SECONDS, given.router: options}
    try:
        watched = tuple(ipaddress.ip_network(text, strict=False) for text in given.watch)
    except ValueError:
        raise BadSettings("--watch must be an IP address or a network.") from None
    try:
        settings = Settings(
            check_name(given.node, "node"),
            Keys(given.prefix),
            store,
            lambda: make(params),
            given.router,
            watched,
            given.ttl,
            given.check_interval,
            given.check_failures,
            given.follow_timeout,
            given.health_path,
        )
        # What cannot be used is to be said now.
        settings.store()
        settings.router()
    except DeliveryError as error:
        raise BadSettings(str(error)) from None
    return settings


def _store(given: argparse.Namespace) -> Callable[[], Store]:
    tls = {"validate_certs": True, "ca_path": _text(given.ca)}
    if given.consul:
        token = os.environ.get("REGISTRAR_CONSUL_TOKEN", "")
        consul = {"address": given.consul, "token": token, **tls}
        return lambda: consul_store(consul, STORE_SECONDS)
    password = os.environ.get("REGISTRAR_ETCD_PASSWORD", "") if given.etcd_user else ""
    if given.etcd_user and not password:
        raise BadSettings("--etcd-user needs the password in REGISTRAR_ETCD_PASSWORD.")
    etcd = {"endpoints": given.etcd, "user": given.etcd_user, "password": password, **tls}
    etcd.update(client_cert=_text(given.etcd_cert), client_key=_text(given.etcd_key))
    return lambda: etcd_store(etcd, STORE_SECONDS)


def _text(path: Path | None) -> str | None:
    return str(path) if path else None


def _router_options(name: str, spec: dict[str, Any], given: list[str]) -> dict[str, Any]:
    options = {option: details.get("default") for option, details in spec.items()}
    for text in given:
        option, sign, value = text.partition("=")
        if not sign or option not in spec:
            raise BadSettings(
                f"--router-option must be NAME=VALUE with a NAME of {', '.join(spec)}, "
                f"for {name}; not {text!r}."
            )
        if spec[option]["type"] == "float":
            try:
                options[option] = seconds(value)
            except argparse.ArgumentTypeError as error:
                raise BadSettings(f"--router-option {option}: {error}.") from None
        elif value not in spec[option].get("choices", [value]):
            raise BadSettings(f"--router-option {option} cannot be {value!r}.")
        else:
            options[option] = value
    return options
