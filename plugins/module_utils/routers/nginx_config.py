# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The file that a service is to nginx: written from a state, and read back as that state. Pure.

Into nginx's ``http`` context comes, for a service ``demo``::

    upstream demo_live { server 10.0.0.5:8080; }
    upstream demo_candidate { server 10.0.0.6:8080; }
    split_clients "$remote_addr$http_user_agent" $demo_drawn { 10% demo_candidate; * demo_live; }
    map $http_x_client_mode $demo_upstream { blue demo_live; green demo_candidate; ... }
    map $demo_upstream $demo_scheme { demo_candidate https; default http; }

and the server that is there for it passes on to ``$demo_scheme://$demo_upstream``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from .base import DEFAULT_PORTS, RouterError

# What is part of the name of a variable, and what becomes an underscore there.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
HOST = re.compile(r"[A-Za-z0-9.-]+|[0-9A-Fa-f:.]+")
WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")
MARK = "# state: "
HEADER = "# Written at each switch; other changes are refused. The next line says what stands.\n"
# What a file begins with that nobody has switched yet, for nginx starts with the variables only.
NOTHING_YET = "# No version yet.\n"
NOWHERE = "nowhere"


@dataclass(frozen=True)
class Version:
    """What stands for a service.

    :param weight: the candidate's share of the clients in percent.
    """

    live: tuple[str, ...] = ()
    candidate: tuple[str, ...] = ()
    weight: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {"live": self.live, "candidate": self.candidate, "weight": self.weight}


@dataclass(frozen=True)
class State:
    """What a file says.

    :param previous: what stood before, and does until nginx has read this file.
    :param boot: which boot of the machine it was written in; seconds count from there.
    :param written: when, in seconds since the machine was booted.
    """

    version: Version = field(default_factory=Version)
    previous: Version = field(default_factory=Version)
    boot: str = ""
    written: float = 0.0

    def next(self, version: Version, boot: str, written: float) -> State:
        """Return the state that follows this one."""
        return replace(self, version=version, previous=self.version, boot=boot, written=written)


@dataclass(frozen=True)
class Header:
    """The request header that asks for a version, and its two values."""

    name: str = "x-client-mode"
    live: str = "blue"
    candidate: str = "green"

    def __post_init__(self) -> None:
        for value in (self.name, self.live, self.candidate):
            if not WORD.fullmatch(value):
                raise RouterError(f"{value!r} can be neither a header nor a header's value")

    @property
    def variable(self) -> str:
        """What nginx calls it."""
        return "$http_" + self.name.lower().replace("-", "_")


def render(service: str, state: State, header: Header) -> str:
    """Return the file's text.

    :raises RouterError: the service's name, or an address, cannot be in it.
    """
    name = variable(service)
    version = state.version
    live = f"{name}_live" if version.live else f"{name}_{NOWHERE}"
    candidate = f"{name}_candidate"
    lines = _upstream(live, version.live)
    tls = [live] if _tls(version.live) else []
    if version.candidate:
        lines += _upstream(candidate, version.candidate)
        tls += [candidate] if _tls(version.candidate) else []
        share = [f"    {version.weight}% {candidate};"] if version.weight else []
        lines += [
            f'split_clients "$remote_addr$http_user_agent" ${name}_drawn {{',
            *share,
            f"    * {live};",
            "}",
            f"map {header.variable} ${name}_upstream {{",
            f'    "{header.live}" {live};',
            f'    "{header.candidate}" {candidate};',
            f"    default ${name}_drawn;",
            "}",
        ]
    else:
        lines += [f'map "" ${name}_upstream {{', f"    default {live};", "}"]
    lines += [
        f"map ${name}_upstream ${name}_scheme {{",
        *(f"    {upstream} https;" for upstream in tls),
        "    default http;",
        "}",
    ]
    body = "\n".join(lines) + "\n"
    document = {
        "version": version.as_dict(),
        "previous": state.previous.as_dict(),
        "boot": state.boot,
        "written": state.written,
        "sha256": hashlib.sha256(body.encode()).hexdigest(),
    }
    return f"{HEADER}{MARK}{json.dumps(document, sort_keys=True)}\n{body}"


def parse(text: str) -> State:
    """Return the state that *text* was rendered from.

    :raises ValueError: it was not rendered, or was changed since.
    """
    if text.startswith(NOTHING_YET):
        return State()
    mark, _newline, body = text.removeprefix(HEADER).partition("\n")
    if not mark.startswith(MARK):
        raise ValueError("it has no line that says what stands")
    document = json.loads(mark.removeprefix(MARK))
    if not isinstance(document, dict):
        raise ValueError("its state is no object")
    if document.get("sha256") != hashlib.sha256(body.encode()).hexdigest():
        raise ValueError("it was changed by somebody else")
    written = document.get("written")
    if isinstance(written, bool) or not isinstance(written, (int, float)):
        raise ValueError("it does not say when it was written")
    return State(
        _version(document.get("version")),
        _version(document.get("previous")),
        str(document.get("boot")),
        float(written),
    )


def variable(service: str) -> str:
    """Return the beginning of the names of the service's variables.

    :raises RouterError: there can be none of that name.
    """
    if not NAME.fullmatch(service):
        raise RouterError(
            f"{service!r} cannot be the name of a service",
            next_step="Give at most 64 letters, digits, '_' and '-'.",
        )
    return service.replace("-", "_")


def check_upstreams(urls: Sequence[str]) -> None:
    """Make sure that one version can have these addresses.

    :raises RouterError: it cannot.
    """
    _upstream("", urls)
    _tls(urls)


def _version(document: object) -> Version:
    if not isinstance(document, dict):
        raise ValueError("its state is incomplete")
    lists = [document.get("live"), document.get("candidate")]
    weight = document.get("weight")
    for urls in lists:
        if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
            raise ValueError("its addresses are none")
    if isinstance(weight, bool) or not isinstance(weight, int):
        raise ValueError("its weight is no number")
    live, candidate = (tuple(urls) for urls in lists if isinstance(urls, list))
    return Version(live, candidate, weight)


def _upstream(name: str, urls: Sequence[str]) -> list[str]:
    # Without a version there is a server all the same, since nginx wants one.
    servers = [_server(url) for url in urls] or ["127.0.0.1:1 down"]
    return [f"upstream {name} {{", *(f"    server {server};" for server in servers), "}"]


def _server(url: str) -> str:
    parts = urlsplit(url)
    try:
        port = parts.port or DEFAULT_PORTS[parts.scheme]
    except (KeyError, ValueError):
        port = 0
    host = parts.hostname or ""
    if not port or not HOST.fullmatch(host) or parts.path.strip("/") or parts.query:
        raise RouterError(
            f"nginx cannot send traffic to {url} as an upstream",
            next_step="Give http or https, a host and a port, without a path.",
        )
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _tls(urls: Sequence[str]) -> bool:
    schemes = {urlsplit(url).scheme for url in urls}
    if len(schemes) > 1:
        raise RouterError("nginx cannot speak http and https to the servers of one version")
    return schemes == {"https"}
