# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The portal's deploy API: one method a call.

Source: wicked's portal, "Continuous Integration/Continuous Deployment", and its deploy API's
published description. Every path is below ``/deploy/v1``, every call carries the deployment key.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

from ..deadline import Deadline
from ..errors import DeliveryError
from ..http import ConnectionBroken, Http
from ..redaction import redact

if TYPE_CHECKING:
    from requests import Response

LOCK_SECONDS = 60.0
HASH_HEADER = "X-SHA256-Hash"


class PortalError(DeliveryError):
    """The portal refused a call, or answered something that its API does not have."""


class Conflict(PortalError):
    """Another export or import is under way (409)."""

    kind = "conflict"


class Lapsed(PortalError):
    """The portal no longer knows an export: its lock has lapsed or was given back."""

    kind = "lapsed"


class Refused(PortalError):
    """The portal took the job and failed it (422)."""

    kind = "refused"


class State(Enum):
    """Where an export or import stands."""

    RUNNING = 204
    DONE = 200
    FAILED = 422
    CANCELLED = 410
    UNKNOWN = 404


@dataclass(frozen=True)
class Status:
    """A state with the portal's own message, where it gave one."""

    state: State
    message: str = ""


class Cancelled(Enum):
    """What became of giving back an export."""

    DONE = 204
    SCHEDULED = 202
    UNKNOWN = 404


class PortalClient:
    """The deploy API of one portal instance.

    :param http: where it is; carries the key in its headers.
    """

    def __init__(self, http: Http) -> None:
        self.http = http

    @property
    def name(self) -> str:
        """How to name this portal in a message."""
        return f"the portal at {self.http.name}"

    def check_key(self, deadline: Deadline) -> None:
        """Prove reachability and key with a call that changes nothing: an id that nobody has."""
        response = self._call("GET", f"export/{uuid.uuid4().hex}/status", deadline)
        if response.status_code != State.UNKNOWN.value:
            raise self._unexpected(response, "the status of an unknown export")

    def begin_export(self, deadline: Deadline) -> str:
        """Start an export, which makes the portal read-only; return its id.

        :raises Conflict: another export has neither been given back nor lapsed.
        """
        stands = "The portal may be read-only until its lock lapses (60 s after the call)."
        try:
            response = self._call("POST", "export", deadline)
        except ConnectionBroken as error:
            error.with_state(stands)
            raise
        if response.status_code == 409:
            raise Conflict(
                f"{self.name} has another export under way",
                next_step="Wait until it is given back or lapses (60 s), or give a longer "
                "conflict_timeout.",
            )
        return self._identifier(response, "exportId", "starting an export", stands)

    def export_status(self, export_id: str, deadline: Deadline) -> Status:
        """Ask where an export stands."""
        return self._status(f"export/{quote(export_id, safe='')}/status", deadline)

    def open_data(self, export_id: str, deadline: Deadline) -> Response:
        """Open the archive's stream; the caller closes it.

        :raises Lapsed: the portal no longer knows the export.
        :raises PortalError: the archive is not ready, or the answer is not an archive.
        """
        path = f"export/{quote(export_id, safe='')}/data"
        response = self._call("GET", path, deadline, stream=True)
        if response.status_code == 200 and HASH_HEADER in response.headers:
            return response
        try:
            if response.status_code == 200:
                raise PortalError(
                    f"{self.name} sent an archive without {HASH_HEADER}, so it cannot be proved "
                    "whole"
                )
            if response.status_code in (404, 410):
                raise Lapsed(f"{self.name} no longer has the archive of export {export_id}")
            raise self._unexpected(response, "the archive's download")
        finally:
            response.close()

    def cancel_export(self, export_id: str, deadline: Deadline) -> Cancelled:
        """Give an export's lock back. SCHEDULED asks to be followed by another call."""
        response = self._call("DELETE", f"export/{quote(export_id, safe='')}", deadline)
        try:
            return Cancelled(response.status_code)
        except ValueError:
            if response.status_code in (200, 410):
                return Cancelled.DONE
            raise self._unexpected(response, "giving back the lock") from None

    def begin_import(self, archive: BinaryIO, sha256: str, deadline: Deadline) -> str:
        """Upload an archive, streamed; return the import's id.

        :raises Conflict: another import or export is under way.
        """
        headers = {HASH_HEADER: sha256, "Content-Type": "application/octet-stream"}
        stands = "An import may be under way all the same."
        try:
            response = self._call("POST", "import", deadline, data=archive, headers=headers)
        except ConnectionBroken as error:
            error.with_state(stands)
            raise
        if response.status_code == 409:
            raise Conflict(
                f"{self.name} has another import or export under way",
                next_step="Wait until it is done, or give a longer conflict_timeout.",
            )
        return self._identifier(response, "importId", "starting an import", stands)

    def import_status(self, import_id: str, deadline: Deadline) -> Status:
        """Ask where an import stands."""
        return self._status(f"import/{quote(import_id, safe='')}/status", deadline)

    def _status(self, path: str, deadline: Deadline) -> Status:
        response = self._call("GET", path, deadline)
        try:
            state = State(response.status_code)
        except ValueError:
            raise self._unexpected(response, "a status") from None
        if state is State.RUNNING:
            return Status(state)
        if state is State.DONE:
            # A web page that answers 200 to everything must not pass for a finished job.
            return Status(state, _message(self.http.json(response)) if response.content else "")
        return Status(state, self._message(response))

    def _call(self, method: str, path: str, deadline: Deadline, **options: Any) -> Response:
        response = self.http.request(method, f"/deploy/v1/{path}", deadline=deadline, **options)
        if response.status_code == 403:
            raise PortalError(
                f"{self.name} refuses the deployment key (403)",
                next_step="Give the key of this portal as deployment_key; both instances of a "
                "blue/green deploy must have the same one.",
            )
        if response.status_code == 503:
            raise PortalError(
                f"{self.name} answers 503",
                next_step="It is starting or has no instance for this Host: give the portal's API "
                "host name as host_header.",
            )
        kind = response.headers.get("Content-Type", "")
        if response.status_code == 404 and kind.lower().startswith("text/html"):
            # Must not pass for an export that is not known: there is no portal here.
            raise self._unexpected(response, f"{method} {path}, with a web page")
        if response.is_redirect:
            target = response.headers.get("Location", "")
            raise PortalError(
                f"{self.name} redirects to {target}, which is not followed with the key",
                next_step="Give the final address as api_url.",
            )
        return response

    def _identifier(self, response: Response, field: str, what: str, state: str) -> str:
        if response.status_code != 201:
            raise self._unexpected(response, what)
        try:
            document = self.http.json(response)
        except DeliveryError as error:
            error.with_state(state)
            raise
        identifier = document.get(field) if isinstance(document, dict) else None
        if not isinstance(identifier, str) or not identifier:
            raise PortalError(f"{self.name} answered {what} without {field}", state=state)
        return identifier

    def _message(self, response: Response) -> str:
        try:
            return _message(self.http.json(response))
        except DeliveryError:
            return ""

    def _unexpected(self, response: Response, what: str) -> PortalError:
        message = self._message(response)
        return PortalError(
            f"{self.name} answered {response.status_code} to {what}"
            + (f": {message}" if message else ""),
            # With a message of its own it is the portal that answered.
            next_step=""
            if message
            else "Check that api_url and host_header name the portal's API, below which "
            "/deploy/v1 lies.",
        )


def _message(document: Any) -> str:
    if isinstance(document, dict) and isinstance(document.get("message"), str):
        return redact(document["message"])[:2000]
    return ""
