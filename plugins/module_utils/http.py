# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP for deploys: one address, any Host, no request repeated that must not be.

Built on requests. What it adds: the name that a server is asked for can differ from the address
that is connected to, over TLS as well; a request is repeated only where that is safe; 429 is waited
out inside the deadline; redirects are not followed, since they would carry the key elsewhere.
"""

from __future__ import annotations

import email.utils
import http.client
import json
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .deadline import Deadline
from .errors import DeliveryError, TimeoutExceeded
from .http_reasons import never_sent, reason
from .http_sockets import CHUNK, CONNECT_SECONDS, READ_SECONDS, ending_at, session_for

try:
    import requests
    import urllib3
    import urllib3.exceptions
except ImportError:
    HAS_REQUESTS = False
    REQUESTS_IMPORT_ERROR: str | None = traceback.format_exc()
else:
    HAS_REQUESTS = True
    REQUESTS_IMPORT_ERROR = None

if TYPE_CHECKING:
    from requests import PreparedRequest, Response

JSON_LIMIT = 8 * CHUNK
TRIES = 3
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})


class HttpError(DeliveryError):
    """A request got no usable answer."""

    usual_step = "See the server's log, then run this again."


class Unreachable(HttpError):
    """No connection: the request was never sent."""


class ConnectionBroken(HttpError):
    """The connection broke after the request may have been sent."""


class TooSlow(ConnectionBroken, TimeoutExceeded):
    """The deadline passed after the request may have been sent."""

    kind = TimeoutExceeded.kind
    usual_step = "See the server's log, or give a longer timeout, then run this again."


def check_url(url: str, what: str = "api_url") -> str:
    """Return *url* without a trailing slash.

    :raises HttpError: it is not an absolute http or https address.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        _port = parts.port
    except ValueError:
        usable = False
    if not usable:
        raise HttpError(
            f"{what} {url!r} is not an http or https address",
            next_step="Give it as https://HOST[:PORT][/PATH].",
        )
    if parts.username or parts.password:
        raise HttpError(f"{what} must not carry a user name or password")
    return url.rstrip("/")


def retry_after(headers: Mapping[str, str], default: float, now: float | None = None) -> float:
    """Return the seconds that a ``Retry-After`` asks for (RFC 9110, 10.2.3: seconds or a date)."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    if value:
        try:
            moment = email.utils.parsedate_to_datetime(value).timestamp()
        except (TypeError, ValueError):
            return default
        return max(0.0, moment - (time.time() if now is None else now))
    return default


def host_name(host_header: str) -> str:
    """Return the name in *host_header*, without the port.

    :raises HttpError: it is something else, an address with a scheme or a path, say.
    """
    try:
        parts = urlsplit(f"//{host_header}")
        usable = parts.netloc == host_header and parts.username is None and "\\" not in host_header
        name, _port = parts.hostname or "", parts.port
    except ValueError:
        usable, name = False, ""
    if not usable or not name or not _sendable(host_header) or " " in host_header:
        raise HttpError(
            f"host_header {host_header!r} is not a host name",
            next_step="Give it as HOST[:PORT], in ASCII.",
        )
    return name


def _sendable(value: str) -> bool:
    """Tell whether *value* can be a header's; requests would show a value that cannot."""
    return value.isascii() and value.isprintable() and value == value.strip()


def _own_headers(request: PreparedRequest) -> PreparedRequest:
    """Stand in for authentication, so that a ~/.netrc cannot replace our Authorization header."""
    return request


@dataclass
class Http:
    """A server at one address.

    :param base_url: where to connect to; paths are appended to it.
    :param host_header: the virtual host to ask for, where it is not the address's own.
    :param ca_path: a file or folder of CA certificates to trust instead of the system's.
    :param client_cert: the files of our own certificate and of its key, to show by TLS.
    :param headers: sent with every request; may hold secrets, and is never shown.
    :param wait_429: whether 429 means to come again later; otherwise it is an answer like others.
    """

    base_url: str
    host_header: str | None = None
    validate_certs: bool = True
    ca_path: str | None = None
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    retry_wait: float = 0.5
    rate_wait: float = 5.0
    calls: int = 0
    client_cert: tuple[str, str] | None = None
    wait_429: bool = True

    def __post_init__(self) -> None:
        self.base_url = check_url(self.base_url)
        for header, value in self.headers.items():
            if not _sendable(value):
                raise HttpError(f"the value for {header} has characters that no header can carry")
        if self.ca_path and not Path(self.ca_path).exists():
            raise HttpError(f"ca_path does not exist: {self.ca_path}")
        for path in self.client_cert or ():
            if not Path(path).is_file():
                raise HttpError(f"the client certificate needs a file that is not there: {path}")
        if not self.validate_certs:
            # Asked for, so a warning for each request would only hide others.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self._session = session_for(host_name(self.host_header) if self.host_header else "")
        self._session.cert = self.client_cert

    @property
    def name(self) -> str:
        """How to name this server in a message."""
        return self.at("")

    def at(self, path: str) -> str:
        """How to name one of its paths in a message."""
        host = f" (Host {self.host_header})" if self.host_header else ""
        return f"{self.base_url}{path}{host}"

    def request(
        self,
        method: str,
        path: str,
        *,
        deadline: Deadline,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
        repeat: bool | None = None,
    ) -> Response:
        """Send one request and return its answer, whatever its status but 429.

        :param data: the body; a file is sent from its beginning, in constant memory.
        :param stream: leave the body to :meth:`chunks`; otherwise it may have at most 8 MiB.
        :param repeat: whether it may be sent again after the connection broke; by default that is
            so for the idempotent methods (RFC 9110, 9.2.2). A request that was never sent may
            always be.
        :raises Unreachable: no connection after a few tries.
        :raises ConnectionBroken: the connection broke and a repeat was not safe, or did not help.
        :raises TimeoutExceeded: the deadline passed; :class:`TooSlow` if the request may have been
            sent.
        """
        may_repeat = method in IDEMPOTENT if repeat is None else repeat
        tries = 0
        while True:
            tries += 1
            try:
                response = self._send(
                    method, path, deadline, data=data, headers=headers, stream=stream
                )
            except Unreachable:
                if tries >= TRIES or deadline.remaining <= self.retry_wait:
                    raise
                deadline.pause(self.retry_wait, f"{self.name} to answer")
                continue
            except ConnectionBroken:
                if not may_repeat or tries >= TRIES or deadline.remaining <= self.retry_wait:
                    raise
                deadline.pause(self.retry_wait, f"{self.name} to answer")
                continue
            if response.status_code != 429 or not self.wait_429:
                return response
            response.close()
            tries = 0
            wait = max(1.0, retry_after(response.headers, self.rate_wait))
            try:
                deadline.pause(wait, f"{self.name} to take calls again")
            except TimeoutExceeded as error:
                error.message = f"{self.name} answers 429: too many calls a minute; {error.message}"
                error.next_step = "Wait a minute, or give a longer timeout."
                raise

    def _send(
        self,
        method: str,
        path: str,
        deadline: Deadline,
        *,
        data: Any,
        headers: Mapping[str, str] | None,
        stream: bool,
    ) -> Response:
        sent_headers = {"Accept-Encoding": "identity", **self.headers, **(headers or {})}
        if self.host_header:
            sent_headers["Host"] = self.host_header
        # The last look at a deadline gets a second to be answered, or it would never succeed.
        left = max(1.0, deadline.remaining)
        deadline = Deadline(left, clock=deadline.clock, sleep=deadline.sleep)
        uploads = hasattr(data, "read")
        if uploads:
            data.seek(0)
        verify: bool | str = (
            self.ca_path if self.validate_certs and self.ca_path else self.validate_certs
        )
        self.calls += 1
        try:
            # A slow upload, and an answer that comes once all of it has been looked at, are normal.
            with ending_at(deadline, patient=uploads):
                response = self._session.request(
                    method,
                    self.base_url + path,
                    data=data,
                    headers=sent_headers,
                    stream=True,
                    allow_redirects=False,
                    auth=_own_headers,
                    timeout=(min(CONNECT_SECONDS, left), min(READ_SECONDS, left)),
                    verify=verify,
                )
        except (requests.exceptions.RequestException, OSError) as error:
            # requests reports a ca_path that does not exist as a bare OSError.
            raise self._failure(error, deadline, f"{method} {path}") from error
        if not stream:
            self._read(response, deadline)
        return response

    def _failure(self, error: Exception, deadline: Deadline, call: str) -> HttpError:
        """Return what an error of requests means."""
        why = reason(error)
        if isinstance(
            error, (requests.exceptions.ConnectTimeout, requests.exceptions.ProxyError)
        ) or never_sent(error):
            return Unreachable(
                f"{self.name} cannot be reached: {why}",
                next_step="Check the address, and that the server runs.",
            )
        if isinstance(error, requests.exceptions.SSLError):
            return HttpError(
                f"TLS to {self.name} failed: {why}",
                next_step="Check ca_path, and that the certificate is made for the name asked for.",
            )
        if deadline.passed and isinstance(
            error, (requests.exceptions.ConnectionError, requests.exceptions.Timeout)
        ):
            return TooSlow(f"{self.name} did not answer {call} within {deadline.seconds:.0f} s")
        if isinstance(error, requests.exceptions.ConnectionError):
            return ConnectionBroken(f"the connection to {self.name} broke during {call}: {why}")
        if isinstance(error, requests.exceptions.Timeout):
            return ConnectionBroken(
                f"{self.name} did not answer {call} within {READ_SECONDS:.0f} s"
            )
        return HttpError(f"{call} at {self.name} failed: {why}")

    def _read(self, response: Response, deadline: Deadline) -> None:
        """Read a small body, so that ``response.content`` has it."""
        body = bytearray()
        try:
            for chunk in self.chunks(response, deadline):
                body += chunk
                if len(body) > JSON_LIMIT:
                    raise HttpError(
                        f"{self.name} answered {response.status_code} with more than "
                        f"{JSON_LIMIT // CHUNK} MiB, where a short answer was due",
                        next_step=_NOT_THE_API,
                    )
        finally:
            response.close()
        # requests offers no public way to hand it a body that was read with a limit.
        response._content = bytes(body)

    def chunks(self, response: Response, deadline: Deadline) -> Iterator[bytes]:
        """Yield the body in pieces of at most 1 MiB.

        :raises ConnectionBroken: the body ended early.
        :raises TooSlow: the deadline passed meanwhile.
        """
        while chunk := self._next(response, deadline):
            yield chunk

    def _next(self, response: Response, deadline: Deadline) -> bytes:
        try:
            with ending_at(deadline):
                return _read_some(response)
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            if deadline.passed:
                raise TooSlow(
                    f"the body from {self.name} took longer than {deadline.seconds:.0f} s"
                ) from error
            raise ConnectionBroken(
                f"the body from {self.name} ended early: {reason(error)}"
            ) from error

    def json(self, response: Response) -> Any:
        """Return the answer's body as JSON.

        :raises HttpError: it is something else: a proxy's HTML page, say.
        """
        body = response.content
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            kind = response.headers.get("Content-Type", "no Content-Type").split(";")[0]
            raise HttpError(
                f"{self.name} answered {response.status_code} with {len(body)} bytes "
                f"({kind[:80]}) that are not JSON",
                next_step=_NOT_THE_API,
            ) from error


_NOT_THE_API = "Check that the address is the API's own and not a web page before it."


def _read_some(response: Response) -> bytes:
    """Return what has come of the body, at most 1 MiB; empty at its end.

    requests' own ``iter_content`` waits until a whole piece is there, so a server that trickles
    would hold it for as long as it likes.
    """
    raw = response.raw
    if hasattr(raw, "read1"):
        return bytes(raw.read1(CHUNK, decode_content=True))
    # Before 2.0 urllib3 has nothing that gives what there is, and does not notice an early end.
    body: http.client.HTTPResponse | None = getattr(raw, "_fp", None)
    due = None if body is None else body.length
    piece = b"" if body is None or body.isclosed() else body.read1(CHUNK)
    if piece:
        return piece
    if due:
        came = int(response.headers["Content-Length"]) - due
        raise urllib3.exceptions.IncompleteRead(came, due)
    raw.release_conn()
    return b""
