# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""etcd as a store, by the JSON gateway of its API version 3.

Source: etcd's documentation, "gRPC gateway" and "etcd API"; paths begin with ``/v3/`` from etcd 3.4
on. Keys and values are base64, numbers of 64 bits are text, and what is 0 or false is left out.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..deadline import Deadline
from ..errors import TimeoutExceeded, enumerate_words
from ..http import ConnectionBroken, Http, HttpError, Unreachable
from ..redaction import redact
from .base import RouterError
from .kv_store import Changed, Entry, LeaseLost, StoreAway, StoreFull

if TYPE_CHECKING:
    from requests import Response

# A member that takes a request and does not answer must not use up the time for the others.
TRY_SECONDS = 4.0
AGAIN_SECONDS = 0.2
# gRPC's codes, which an error answer carries beside the status.
NOT_FOUND = 5
PERMISSION_DENIED = 7
RESOURCE_EXHAUSTED = 8
UNAUTHENTICATED = 16
NO_SPACE = "database space exceeded"
# Cancelled, out of time, too many requests, aborted, no leader or not in time: by another member,
# or a little later.
PASSING = frozenset({1, 4, RESOURCE_EXHAUSTED, 10, 14})
PASSING_STATUS = frozenset({408, 429, 502, 503, 504})


class Etcd:
    """The members of one etcd.

    :param members: asked in turn until one answers; that one is asked first the next time.
    :param timeout: seconds that one call may take, all members and repeats included.
    :param user: whom to log in as; empty where etcd's authentication is not enabled.
    """

    def __init__(
        self, members: Sequence[Http], timeout: float, *, user: str = "", password: str = ""
    ) -> None:
        if not members:
            raise RouterError("etcd needs the address of one member at least")
        self.members = list(members)
        for member in self.members:
            # A member that is away is not waited for, there are others.
            member.retry_wait = AGAIN_SECONDS / 4
            # etcd says by 429 that its disk is full, which no wait changes.
            member.wait_429 = False
        self.timeout = timeout
        self.name = f"etcd at {enumerate_words(member.name for member in members)}"
        self._user = user
        self._password = password
        self._token = ""
        # Set by another thread, so that what is under way ends without waiting for members.
        self.ending = False

    def read(self, prefix: str) -> dict[str, Entry]:
        """Return all keys that begin with *prefix*."""
        document = self.call("/v3/kv/range", range_of(prefix))
        try:
            return {
                _text(kv["key"]): Entry(_text(kv.get("value", "")), int(kv["mod_revision"]))
                for kv in document.get("kvs", [])
            }
        except (AttributeError, KeyError, TypeError, ValueError):
            raise self._garbage("/v3/kv/range") from None

    def swap(self, key: str, value: str, revision: int) -> int:
        """Write *value* where the key is still at *revision*.

        :raises Changed: it is at another one.
        """
        document = self.call(
            "/v3/kv/txn",
            {
                "compare": [_at(key, revision)],
                "success": [{"request_put": {"key": _b64(key), "value": _b64(value)}}],
            },
        )
        if document.get("succeeded") is not True:
            # Only an answer of etcd's can say no.
            self._revision(document, "/v3/kv/txn")
            raise Changed(key)
        return self._revision(document, "/v3/kv/txn")

    def put(self, key: str, value: str, lease: str = "") -> int:
        """Write *value*.

        :raises LeaseLost: there is no such lease.
        """
        body = {"key": _b64(key), "value": _b64(value)}
        if lease:
            body["lease"] = lease
        return self._revision(self.call("/v3/kv/put", body), "/v3/kv/put")

    def delete(self, key: str, revision: int) -> None:
        """Delete a key that is still at *revision*; satisfied if it is not there.

        :raises Changed: it is at another one.
        """
        document = self.call(
            "/v3/kv/txn",
            {
                "compare": [_at(key, revision)],
                "success": [{"request_delete_range": {"key": _b64(key)}}],
                "failure": [{"request_range": {"key": _b64(key)}}],
            },
        )
        self._revision(document, "/v3/kv/txn")
        if document.get("succeeded") is True:
            return
        try:
            there = document["responses"][0]["response_range"].get("kvs")
        except (AttributeError, KeyError, IndexError, TypeError):
            raise self._garbage("/v3/kv/txn") from None
        if there:
            raise Changed(key)

    def grant(self, seconds: float) -> str:
        """Return a lease; etcd counts in whole seconds."""
        document = self.call("/v3/lease/grant", {"TTL": str(max(1, math.ceil(seconds)))})
        lease = document.get("ID")
        if not isinstance(lease, str) or not lease.lstrip("-").isdecimal():
            raise self._garbage("/v3/lease/grant")
        return lease

    def keep_alive(self, lease: str) -> bool:
        """Begin a lease's time again; False where it has ended already."""
        document = self.call("/v3/lease/keepalive", {"ID": lease})
        result = document.get("result")
        if not isinstance(result, dict):
            raise self._garbage("/v3/lease/keepalive")
        return str(result.get("TTL", "0")) not in ("", "0")

    def headers(self) -> dict[str, str]:
        """Return what a request needs to be allowed; logs in where that was not done yet.

        :raises RouterError: etcd does not let this user in.
        """
        if self._user and not self._token:
            who = {"name": self._user, "password": self._password}
            token = self._ask("/v3/auth/authenticate", who, {}).get("token")
            if not isinstance(token, str) or not token:
                raise self._garbage("/v3/auth/authenticate")
            self._token = token
        return {"Authorization": self._token} if self._token else {}

    def call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send one request, again with a new token where the one that there was has lapsed.

        :raises StoreAway: nobody answered in time who could.
        :raises LeaseLost: the lease of the request is not known.
        :raises RouterError: etcd refused, or the answer is not etcd's.
        """
        try:
            return self._ask(path, body, self.headers())
        except TokenLapsed:
            self._token = ""
            return self._ask(path, body, self.headers())

    def _ask(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
        deadline = Deadline(self.timeout)
        data = json.dumps(body).encode()
        headers = {**headers, "Content-Type": "application/json"}
        while True:
            seen: list[str] = []
            for member in self.members:
                try:
                    response = member.request(
                        "POST",
                        path,
                        deadline=deadline.within(TRY_SECONDS),
                        data=data,
                        headers=headers,
                        repeat=False,
                    )
                    document = self._document(member, response, path)
                except (Unreachable, ConnectionBroken, TimeoutExceeded, _NotNow) as error:
                    seen.append(str(error.args[0]))
                    continue
                # In one step, since several threads may ask.
                self.members = [member, *(one for one in self.members if one is not member)]
                return document
            if self.ending or deadline.remaining <= AGAIN_SECONDS:
                raise StoreAway(
                    f"etcd cannot be used: {'; '.join(seen)}",
                    next_step="See whether a majority of etcd's members run and reach each other.",
                )
            deadline.pause(AGAIN_SECONDS, "etcd")

    def _document(self, member: Http, response: Response, path: str) -> dict[str, Any]:
        ok = response.status_code == 200
        try:
            # Of a stream, the first message is the answer.
            document = json.loads(response.content.split(b"\n", 1)[0])
        except (ValueError, RecursionError):
            document = None
        if ok and isinstance(document, dict) and "error" not in document:
            return document
        if isinstance(document, dict) and isinstance(document.get("error"), dict):
            document = document["error"]
        code = document.get("code", document.get("grpc_code")) if isinstance(document, dict) else 0
        text = _reason(document)
        if code == RESOURCE_EXHAUSTED and NO_SPACE in text:
            raise StoreFull(
                f"{member.name} refused {path}: {text}",
                state="etcd takes no writes; reads go on, and routers keep their routes.",
                next_step="Free space in etcd, then run this again: etcdctl compact REVISION, "
                "etcdctl defrag, etcdctl alarm disarm. To avoid it, set "
                "--auto-compaction-retention or a larger --quota-backend-bytes.",
            )
        if code in PASSING or response.status_code in PASSING_STATUS:
            raise _NotNow(f"{member.name} answered: {text or response.status_code}")
        if code == UNAUTHENTICATED or "auth store is old" in text:
            raise TokenLapsed(f"{member.name} refused the login: {text}")
        if code == NOT_FOUND and "lease" in text:
            raise LeaseLost(text)
        if document is None or not isinstance(code, int) or not code:
            raise self._garbage(path, member.name)
        denied = code == PERMISSION_DENIED or "user name is empty" in text
        raise RouterError(
            f"{member.name} refused {path}: {text}",
            next_step="Give a user who may read and write below the prefix." if denied else "",
        )

    def _revision(self, document: dict[str, Any], path: str) -> int:
        header = document.get("header")
        try:
            return int(header["revision"]) if isinstance(header, dict) else int("")
        except (KeyError, TypeError, ValueError):
            raise self._garbage(path) from None

    def _garbage(self, path: str, name: str = "") -> HttpError:
        return HttpError(
            f"the answer of {name or self.members[0].name} to {path} is not etcd's",
            next_step="Check that the address is that of etcd's clients, of version 3.4 or newer.",
        )


class TokenLapsed(RouterError):
    """etcd does not know the token of the login, or no longer."""


class _NotNow(Exception):
    """A member cannot answer at the moment."""


def range_of(prefix: str) -> dict[str, str]:
    """Return the fields of a request that is about all keys that begin with *prefix*."""
    raw = prefix.encode()
    # No byte of UTF-8 is 255, so the last one can always be one more.
    end = raw[:-1] + bytes([raw[-1] + 1])
    return {"key": _b64(prefix), "range_end": base64.b64encode(end).decode()}


def _at(key: str, revision: int) -> dict[str, str]:
    """Return the condition that a key is at a revision; 0 if it is not there."""
    compare = {"key": _b64(key), "target": "MOD", "result": "EQUAL"}
    return {**compare, "mod_revision": str(revision)}


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _text(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode("utf-8", "replace")
    except binascii.Error as error:
        raise ValueError("not base64") from error


def _reason(document: object) -> str:
    if isinstance(document, dict):
        for name in ("message", "error"):
            if isinstance(document.get(name), str) and document[name]:
                return redact(document[name])[:300]
    return ""
