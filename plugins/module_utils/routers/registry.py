# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The demo proxy's registry: registrations over HTTP, effective at once.

The API is that of the continuous-deployment demo with its ``/services/NAME`` resource, and one
addition of our own proxy, ``/services/NAME/drain``. The API has no compare-and-set: of two callers
at once the last one wins, which is why the switch reads back what it wrote.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..deadline import Deadline
from ..http import Http, HttpError
from .base import Route, RouterError

if TYPE_CHECKING:
    from requests import Response

NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
# The proxy's own resource lies where a service of that name would.
RESERVED = frozenset({"services", ".", ".."})
NOT_FOUND = 404
METHOD_NOT_ALLOWED = 405


class Registry:
    """The registry at one address.

    :param timeout: seconds that one call may take, its repeats included.
    """

    name = "registry"
    durable = True

    def __init__(self, http: Http, timeout: float) -> None:
        self.http = http
        self.timeout = timeout

    def observe(self, service: str) -> Route:
        """Ask where the traffic goes now.

        :raises RouterError: the answer is not one of this API.
        """
        document = self._call("GET", self._path(service), missing=True)
        if not document:
            return Route(service, None)
        entry = document.get("url")
        url = entry.get("url") if isinstance(entry, dict) else None
        if not isinstance(url, str) or not url:
            raise self._unknown(f"GET {self._path(service)}")
        return Route(service, url)

    def switch(self, service: str, url: str) -> None:
        """Register *url*.

        :raises RouterError: the proxy did not confirm it.
        """
        path = f"{self._path(service)}/{quote(url, safe='')}"
        self._confirmed("POST", path, service)

    def remove(self, service: str) -> None:
        """Remove the registration.

        :raises RouterError: the proxy did not confirm it.
        """
        self._confirmed("DELETE", self._path(service), service, missing=True)

    def in_flight(self, service: str) -> int | None:
        """Count the requests on former targets; None for a proxy that has no drain resource."""
        path = f"{self._path(service)}/drain"
        response = self.http.request("GET", path, deadline=Deadline(self.timeout))
        if response.status_code in (NOT_FOUND, METHOD_NOT_ALLOWED):
            return None
        count = self._document(response, f"GET {path}").get("in_flight")
        return count if isinstance(count, int) and not isinstance(count, bool) else None

    def persist(self, service: str) -> None:
        """Do nothing: the proxy writes each registration down before it confirms it."""

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

    def _confirmed(self, method: str, path: str, service: str, missing: bool = False) -> None:
        # Both may be repeated: registering or removing twice is doing it once.
        document = self._call(method, path, missing=missing, repeat=True)
        # Nothing to remove is as good as removed.
        if document.get("success") is not True and not (missing and not document):
            reason = _reason(document)
            raise RouterError(
                f"{self.http.name} did not confirm {method} for {service}"
                + (f": {reason}" if reason else "")
            )

    def _call(
        self, method: str, path: str, *, missing: bool, repeat: bool | None = None
    ) -> dict[str, Any]:
        """Send one request and return its JSON object; {} for a 404 where *missing* allows it."""
        response = self.http.request(method, path, deadline=Deadline(self.timeout), repeat=repeat)
        request = f"{method} {path}"
        if missing and response.status_code == NOT_FOUND:
            self._object(response, request)
            return {}
        return self._document(response, request)

    def _document(self, response: Response, request: str) -> dict[str, Any]:
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


def _reason(document: Any) -> str:
    """Return the sentence that an error answer carries, if it does."""
    if isinstance(document, dict):
        for field in ("message", "error", "reason"):
            value = document.get(field)
            if isinstance(value, str) and value:
                return value[:300]
    return ""
