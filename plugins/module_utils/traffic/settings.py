# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a probe is to do: checked once, kept in its record, compared with what is asked later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

from ..errors import DeliveryError
from ..http import check_url

MAX_RATE = 10_000.0


def _fail(message: str) -> DeliveryError:
    return DeliveryError(message, next_step="Correct the task's options.")


def _check_plain(value: str, what: str) -> None:
    # What goes into a request line or a header must not be able to end it.
    if not value or any(not 0x21 <= ord(char) <= 0x7E for char in value):
        raise _fail(f"{what} {value!r} must be plain ASCII without spaces")


def _check_path(value: str, what: str) -> None:
    _check_plain(value, what)
    if not value.startswith("/") or "#" in value:
        raise _fail(f"{what} {value!r} is not a path: it must begin with / and have no #")


def fill(template: Any, run: str, number: int) -> Any:
    """Return *template* with ``{run}`` and ``{n}`` replaced in every string value, at any depth."""
    if isinstance(template, str):
        return template.replace("{run}", run).replace("{n}", str(number))
    if isinstance(template, Mapping):
        return {key: fill(value, run, number) for key, value in template.items()}
    if isinstance(template, list):
        return [fill(value, run, number) for value in template]
    return template


@dataclass(frozen=True)
class Writes:
    """How to write something and to read it back.

    :param body: JSON body with the placeholders of :func:`fill`.
    :param id_field: field of the answer that identifies what was written.
    :param read_path: where it is read; ``{id}`` stands for the identity.
    :param refused_status: statuses that refuse a write without its being a failure.
    :param compare_fields: fields that must read back as sent; empty for all.
    """

    path: str
    body: dict[str, Any]
    id_field: str = "id"
    read_path: str = "/users/{id}"
    refused_status: tuple[int, ...] = (423,)
    compare_fields: tuple[str, ...] = ()

    def check(self) -> None:
        """:raises DeliveryError: an option cannot be used."""
        _check_path(self.path, "writes.path")
        _check_path(self.read_path, "writes.read_path")
        if "{id}" not in self.read_path:
            raise _fail("writes.read_path must contain {id}")
        if not self.id_field:
            raise _fail("writes.id_field must not be empty")
        if "{n}" not in json.dumps(list(self.body.values())):
            raise _fail("writes.body needs {n} in a value, so that no two writes are the same")
        unknown = [name for name in self.compare_fields if name not in self.body]
        if unknown:
            raise _fail(f"writes.compare_fields names {unknown[0]}, which writes.body lacks")
        if any(not 400 <= status <= 599 for status in self.refused_status):
            raise _fail("writes.refused_status must name statuses from 400 to 599")

    def body_of(self, run: str, number: int) -> dict[str, Any]:
        """Return the body of write *number*."""
        return {key: fill(value, run, number) for key, value in self.body.items()}

    def path_of(self, identity: str | int) -> str:
        """Return the path at which the write that got *identity* is read."""
        return self.read_path.replace("{id}", quote(str(identity), safe=""))


@dataclass(frozen=True)
class Settings:
    """What a probe is to do; see the module's options. Holds no secret.

    :param rate: requests a second.
    :param timeout: seconds for each request, from the moment it was due.
    """

    url: str
    rate: float = 10.0
    host_header: str | None = None
    reads: tuple[str, ...] = ("/health",)
    writes: Writes | None = None
    version_header: str = "X-Portal-Version"
    max_seconds: float = 900.0
    timeout: float = 10.0
    connections: int = 8
    validate_certs: bool = True
    ca_path: str | None = None

    def check(self) -> None:
        """:raises DeliveryError: an option cannot be used."""
        check_url(self.url, "url")
        _check_plain(self.url, "url")
        if any(char in self.url for char in "?#"):
            raise _fail(f"url {self.url!r} must have neither a query nor a fragment")
        if self.host_header is not None:
            _check_plain(self.host_header, "host_header")
        _check_plain(self.version_header, "version_header")
        if not 0 < self.rate <= MAX_RATE:
            raise _fail(f"rate must be above 0 and at most {MAX_RATE:.0f} requests a second")
        for value, what in ((self.max_seconds, "max_seconds"), (self.timeout, "timeout")):
            if not 0 < value < 1e7:
                raise _fail(f"{what} must be a number of seconds above 0")
        if not 1 <= self.connections <= 1000:
            raise _fail("connections must be from 1 to 1000")
        if not self.reads:
            raise _fail("reads must name at least one path")
        for path in self.reads:
            _check_path(path, "reads")
        if self.writes is not None:
            self.writes.check()

    def as_json(self) -> dict[str, Any]:
        """Return what :func:`from_json` takes."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    def differences(self, other: Settings) -> list[str]:
        """Return the names of the options in which *other* differs."""
        mine, theirs = self.as_json(), other.as_json()
        return [name for name in mine if mine[name] != theirs[name]]


def from_json(plain: Mapping[str, Any]) -> Settings:
    """Return the settings that :meth:`Settings.as_json` gave.

    :raises TypeError, KeyError: *plain* is something else.
    """
    values = dict(plain)
    if values.get("writes") is not None:
        writes = dict(values["writes"])
        for name in ("refused_status", "compare_fields"):
            writes[name] = tuple(writes.get(name) or ())
        values["writes"] = Writes(**writes)
    values["reads"] = tuple(values["reads"])
    return Settings(**values)
