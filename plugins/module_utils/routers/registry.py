# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The demo proxy's registry: registrations over HTTP, effective at once.

The API is that of the continuous-deployment demo with its ``/services/NAME`` resource. Our own
proxy adds ``/services/NAME/drain``, several addresses by ``PUT``, and entity tags, by which it
refuses the second of two callers. The demo's original has none of these: there the last of two
callers wins, which is why the switch reads back what it wrote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..deadline import Deadline
from ..errors import enumerate_words
from ..http import Http, HttpError
from .base import Overtaken, Route, RouterError, same_targets
from .plan import where

if TYPE_CHECKING:
    from requests import Response

NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
# The proxy's own resource lies where a service of that name would.
RESERVED = frozenset({"services", ".", ".."})
NOT_FOUND = 404
METHOD_NOT_ALLOWED = 405
PRECONDITION_FAILED = 412
# What a proxy without PUT may answer to it.
NO_PUT = (NOT_FOUND, METHOD_NOT_ALLOWED, 501)


class Registry:
    """The registry at one address.

    :param timeout: seconds that one call may take, its repeats included.
    """

    name = "registry"

    def __init__(self, http: Http, timeout: float) -> None:
        self.http = http
        self.timeout = timeout
        # The entity tag of each service as it was last observed; a switch holds for that only.
        self.seen: dict[str, str] = {}

    def observe(self, service: str) -> Route:
        """Ask where the traffic goes now.

        :raises RouterError: the answer is not one of this API.
        """
        path = self._path(service)
        response = self.http.request("GET", path, deadline=Deadline(self.timeout))
        document = self._read(response, f"GET {path}", missing=True)
        self._remember(service, response)
        if not document:
            return Route(service)
        entry = document.get("url")
        url = entry.get("url") if isinstance(entry, dict) else None
        # A proxy that knows of one address only does not list it.
        urls = document.get("urls", [url])
        if not isinstance(urls, list) or not urls or not all(map(_is_text, urls)):
            raise self._unknown(f"GET {path}")
        return Route(service, tuple(urls))

    def switch(self, service: str, urls: Sequence[str]) -> None:
        """Register *urls*: in one call by PUT where the proxy has shown that it is ours.

        :raises Overtaken: the proxy refused, since somebody else has switched meanwhile.
        :raises RouterError: the proxy did not confirm it, or cannot take several.
        """
        path = self._path(service)
        if not urls:
            raise RouterError("the registry needs at least one address")
        if len(urls) == 1 and service not in self.seen:
            self._confirmed("POST", f"{path}/{quote(urls[0], safe='')}", service, urls)
        else:
            self._confirmed("PUT", path, service, urls)

    def remove(self, service: str) -> None:
        """Remove the registration.

        :raises RouterError: the proxy did not confirm it.
        """
        self._confirmed("DELETE", self._path(service), service, ())

    def in_flight(self, service: str) -> int | None:
        """Count the requests on former targets; None for a proxy that has no drain resource."""
        path = f"{self._path(service)}/drain"
        response = self.http.request("GET", path, deadline=Deadline(self.timeout))
        if response.status_code in (NOT_FOUND, METHOD_NOT_ALLOWED):
            return None
        count = self._read(response, f"GET {path}").get("in_flight")
        return count if isinstance(count, int) and not isinstance(count, bool) else None

    def entrance(self, service: str) -> str:
        """Return where the proxy passes requests on to the service."""
        return f"{self.http.base_url}/{service}"

    def _path(self, service: str) -> str:
        if not NAME.fullmatch(service) or service in RESERVED:
            raise RouterError(
                f"{service!r} cannot be the name of a service",
                next_step="Give letters, digits, '.', '_' and '-'; 'services' is taken.",
            )
        return f"/services/{service}"

    def _confirmed(self, method: str, path: str, service: str, urls: Sequence[str]) -> None:
        headers = {"If-Match": self.seen[service]} if service in self.seen else {}
        body = None
        if method == "PUT":
            headers["Content-Type"] = "application/json"
            body = json.dumps({"urls": list(urls)}).encode()
        # Each may be repeated: registering or removing twice is doing it once.
        response = self.http.request(
            method, path, deadline=Deadline(self.timeout), data=body, headers=headers, repeat=True
        )
        if response.status_code == PRECONDITION_FAILED:
            self._refused(service, urls)
            return
        if method == "PUT" and len(urls) > 1 and response.status_code in NO_PUT:
            raise RouterError(
                f"{self.http.name} takes one address for {service}, and not {len(urls)}",
                next_step="Update the proxy to one that knows PUT /services/NAME.",
            )
        missing = method == "DELETE"
        document = self._read(response, f"{method} {path}", missing=missing)
        # Nothing to remove is as good as removed.
        if document.get("success") is not True and not (missing and not document):
            reason = _reason(document)
            raise RouterError(
                f"{self.http.name} did not confirm {method} for {service}"
                + (f": {reason}" if reason else "")
            )
        self._remember(service, response)

    def _refused(self, service: str, urls: Sequence[str]) -> None:
        """Look who has been there first; satisfied where it was this call, answered too late.

        :raises Overtaken: it was somebody else.
        """
        now = self.observe(service)
        if not same_targets(now.urls, urls):
            raise Overtaken(
                f"somebody else changed the route meanwhile: {where(now)}, so "
                f"{self.http.name} refused to send it to {enumerate_words(urls) or 'nowhere'}",
                next_step="Find out who deploys, and deploy again.",
            )

    def _remember(self, service: str, response: Response) -> None:
        tag = response.headers.get("ETag", "")
        # A weak tag cannot be matched (RFC 9110, 13.1.1); a cache or a filter may have made it so.
        if tag.startswith('"'):
            self.seen[service] = tag
        else:
            self.seen.pop(service, None)

    def _read(self, response: Response, request: str, missing: bool = False) -> dict[str, Any]:
        """Return the answer's JSON object; {} for a 404 where *missing* allows it."""
        if missing and response.status_code == NOT_FOUND:
            self._object(response, request)
            return {}
        if not 200 <= response.status_code < 300:
            try:
                reason = _reason(self.http.json(response))
            except HttpError:
                reason = ""
            raise RouterError(
                f"{self.http.name} answered {request} with {response.status_code}"
                + (f": {reason}" if reason else ""),
                next_step="Check that api_url is the proxy's, and that its API may be used.",
            )
        return self._object(response, request)

    def _object(self, response: Response, request: str) -> dict[str, Any]:
        document = self.http.json(response)
        if not isinstance(document, dict):
            raise self._unknown(request)
        return document

    def _unknown(self, request: str) -> RouterError:
        return RouterError(
            f"{self.http.name} answered {request} with JSON that is not the registry's",
            next_step="Check that api_url is the demo proxy's.",
        )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _reason(document: Any) -> str:
    """Return the sentence that an error answer carries, if it does."""
    if isinstance(document, dict):
        for field in ("message", "error", "reason"):
            value = document.get(field)
            if isinstance(value, str) and value:
                return value[:300]
    return ""
