# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Consul as a store: its keys, sessions as leases, and its agent's catalogue for others.

Source: Consul's HTTP API, "KV Store", "Transactions", "Sessions" and "Agent - Services". Tried
against a stand-in only, since there is no Consul where this is tested.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from ..deadline import Deadline
from ..errors import TimeoutExceeded
from ..http import ConnectionBroken, Http, HttpError, Unreachable
from ..redaction import redact
from .base import DEFAULT_PORTS, RouterError
from .kv_store import Changed, Entry, LeaseLost, StoreAway

if TYPE_CHECKING:
    from requests import Response

    from .kv_model import Health

AGAIN_SECONDS = 0.2
# Consul takes no session of less, and may let one live up to twice as long.
LEAST_SECONDS = 10
# An instance that its agent finds ill for this long is taken out of the catalogue.
FORGET = "5m"
NOT_FOUND = 404
CONFLICT = 409


class Consul:
    """The agent of Consul at one address, which finds the servers by itself.

    :param timeout: seconds that one call may take, repeats included.
    :param http: has the token in its headers, where one is needed.
    """

    def __init__(self, http: Http, timeout: float) -> None:
        self.http = http
        self.http.retry_wait = AGAIN_SECONDS / 4
        self.timeout = timeout
        self.name = f"Consul at {http.name}"
        self.ending = False

    def read(self, prefix: str) -> dict[str, Entry]:
        """Return all keys that begin with *prefix*, as the leader has them."""
        path = f"/v1/kv/{_path(prefix)}?recurse&consistent"
        status, document = self.call("GET", path)
        if status == NOT_FOUND:
            return {}
        try:
            return {
                "/" + one["Key"]: Entry(_text(one["Value"] or ""), int(one["ModifyIndex"]))
                for one in document
            }
        except (KeyError, TypeError, ValueError):
            raise self._garbage(path) from None

    def swap(self, key: str, value: str, revision: int) -> int:
        """Write *value* where the key is still at *revision*.

        :raises Changed: it is at another one.
        """
        return self._write(
            [{"Verb": "cas", "Key": key[1:], "Value": _b64(value), "Index": revision}]
        )

    def put(self, key: str, value: str, lease: str = "") -> int:
        """Write *value*.

        :raises LeaseLost: there is no such session.
        """
        name = {"Key": key[1:]}
        if not lease:
            return self._write([{"Verb": "set", **name, "Value": _b64(value)}])
        # A session that was before may still hold the key: it is let go in the same moment.
        hold = {"Verb": "lock", **name, "Value": _b64(value), "Session": lease}
        try:
            return self._write([{"Verb": "delete", **name}, hold])
        except Changed:
            raise LeaseLost(lease) from None

    def delete(self, key: str, revision: int) -> None:
        """Delete a key that is still at *revision*; satisfied if it is not there.

        :raises Changed: it is at another one.
        """
        verb = {"Verb": "delete-cas", "Key": key[1:], "Index": revision}
        status, _document = self.call("PUT", "/v1/txn", [{"KV": verb}])
        if status == CONFLICT:
            raise Changed(key)

    def grant(self, seconds: float) -> str:
        """Return a session; what it holds is deleted with it."""
        body = {
            "Name": "immutable.delivery",
            "TTL": f"{max(LEAST_SECONDS, math.ceil(seconds))}s",
            "Behavior": "delete",
            "LockDelay": "0s",
            # Not the agent's own health: that is another matter than who keeps this alive.
            "NodeChecks": [],
        }
        _status, document = self.call("PUT", "/v1/session/create", body)
        lease = document.get("ID") if isinstance(document, dict) else None
        if not isinstance(lease, str) or not lease:
            raise self._garbage("/v1/session/create")
        return lease

    def keep_alive(self, lease: str) -> bool:
        """Begin a session's time again; False where it has ended already."""
        status, _document = self.call("PUT", f"/v1/session/renew/{quote(lease)}")
        return status != NOT_FOUND

    def announce(self, service: str, url: str, health: Health) -> None:
        """Have the agent list an instance in the catalogue, and check it for others."""
        parts = urlsplit(url)
        check: dict[str, Any] = {"Interval": "10s", "DeregisterCriticalServiceAfter": FORGET}
        if health.path:
            check["HTTP"] = url + health.path
            check["Header"] = {"Host": [health.host]} if health.host else {}
            check["TLSSkipVerify"] = True
        else:
            check["TCP"] = parts.netloc
        body = {
            "ID": _identity(service, url),
            "Name": service,
            "Address": parts.hostname,
            "Port": parts.port or DEFAULT_PORTS.get(parts.scheme, 0),
            "Meta": {"url": url},
            "Check": check,
        }
        self.call("PUT", "/v1/agent/service/register?replace-existing-checks", body)

    def withdraw(self, service: str, url: str) -> None:
        """Have the agent forget an instance; satisfied where it does not know it."""
        name = quote(_identity(service, url), safe="")
        self.call("PUT", f"/v1/agent/service/deregister/{name}")

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Send one request; return the status, 200, 404 or 409, and the JSON of 200 and 409.

        :raises StoreAway: Consul does not answer, or has no leader.
        :raises LeaseLost: the session of the request is not known.
        :raises RouterError: Consul refused, or the answer is not Consul's.
        """
        deadline = Deadline(self.timeout)
        data = json.dumps(body).encode() if body is not None else None
        while True:
            try:
                response = self.http.request(
                    method, path, deadline=deadline, data=data, repeat=False
                )
            except (Unreachable, ConnectionBroken, TimeoutExceeded) as error:
                text = error.message
            else:
                if response.status_code < 500 or _refuses(response):
                    return self._answer(response, path)
                text = f"{response.status_code}, {_said(response)}"
            if self.ending or deadline.remaining <= AGAIN_SECONDS:
                raise StoreAway(
                    f"{self.name} cannot be used: {text}",
                    next_step="See whether the agent runs and Consul's servers have a leader.",
                )
            deadline.pause(AGAIN_SECONDS, "Consul")

    def _answer(self, response: Response, path: str) -> tuple[int, Any]:
        status = response.status_code
        if _refuses(response):
            raise LeaseLost(path)
        if status == NOT_FOUND:
            # What is not there has no body; what is no Consul has a page.
            if b"<" in response.content:
                raise self._garbage(path)
            return status, None
        if status == 403:
            raise RouterError(
                f"{self.name} does not allow {path.partition('?')[0]}",
                next_step="Give a token that may write these keys, sessions and services.",
            )
        if status not in (200, CONFLICT):
            raise RouterError(f"{self.name} refused {path}: {status}, {_said(response)}")
        if not response.content:
            return status, None
        try:
            return status, json.loads(response.content)
        except (ValueError, RecursionError):
            raise self._garbage(path) from None

    def _write(self, verbs: list[dict[str, Any]]) -> int:
        """Do all in one transaction, and return the revision of the last.

        :raises Changed: a condition does not hold.
        """
        status, document = self.call("PUT", "/v1/txn", [{"KV": verb} for verb in verbs])
        if status == CONFLICT:
            raise Changed(verbs[-1]["Key"])
        try:
            return int(document["Results"][-1]["KV"]["ModifyIndex"])
        except (KeyError, IndexError, TypeError, ValueError):
            raise self._garbage("/v1/txn") from None

    def _garbage(self, path: str) -> HttpError:
        return HttpError(
            f"the answer of {self.http.name} to {path.partition('?')[0]} is not Consul's",
            next_step="Check that the address is that of a Consul agent's HTTP API.",
        )


def _refuses(response: Response) -> bool:
    """Tell a refusal from a server in trouble: Consul answers 500 to both."""
    return b"invalid session" in response.content.lower()


def _said(response: Response) -> str:
    text = " ".join(redact(response.content[:4000].decode("utf-8", "replace")).split())[:300]
    return text if "<" not in text else "a page"


def _identity(service: str, url: str) -> str:
    return f"{service}@{urlsplit(url).netloc}"


def _path(key: str) -> str:
    # Consul's keys do not begin with a slash, and `%` in them has to arrive.
    return quote(key[1:], safe="/")


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _text(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode("utf-8", "replace")
    except binascii.Error as error:
        raise ValueError("not base64") from error
