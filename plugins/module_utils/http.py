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
import json
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .deadline import Deadline
from .errors import DeliveryError, TimeoutExceeded

try:
    import requests
    import requests.adapters
except ImportError:
    HAS_REQUESTS = False
    REQUESTS_IMPORT_ERROR: str | None = traceback.format_exc()
else:
    HAS_REQUESTS = True
    REQUESTS_IMPORT_ERROR = None

if TYPE_CHECKING:
    from requests import PreparedRequest, Response, Session

CHUNK = 1024 * 1024
JSON_LIMIT = 8 * CHUNK
CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
TRIES = 3
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})


class HttpError(DeliveryError):
    """A request got no usable answer."""


class Unreachable(HttpError):
    """No connection: the request was never sent."""


class ConnectionBroken(HttpError):
    """The connection broke after the request may have been sent."""


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


def _host_session(host_header: str | None) -> Session:
    """Return a session that asks for *host_header* wherever it connects to, by SNI too."""

    class HostAdapter(requests.adapters.HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            # The default of 16 KiB a send call halves the speed of large uploads.
            kwargs["blocksize"] = CHUNK
            if host_header:
                name = host_header.rsplit(":", 1)[0] if ":" in host_header else host_header
                kwargs["server_hostname"] = name
                kwargs["assert_hostname"] = name
            super().init_poolmanager(*args, **kwargs)

    session = requests.Session()
    # Redirects are refused below, so one adapter for both schemes is all that is needed.
    session.mount("https://", HostAdapter())
    session.mount("http://", requests.adapters.HTTPAdapter())
    return session


def _own_headers(request: PreparedRequest) -> PreparedRequest:
    """Stand in for authentication, so that a ~/.netrc cannot replace our Authorization header."""
    return request


@dataclass
class Http:
    """A server at one address.

    :param base_url: where to connect to; paths are appended to it.
    :param host_header: the virtual host to ask for, where it is not the address's own.
    :param ca_path: a file or folder of CA certificates to trust instead of the system's.
    :param headers: sent with every request; may hold secrets, and is never shown.
    """

    base_url: str
    host_header: str | None = None
    validate_certs: bool = True
    ca_path: str | None = None
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    retry_wait: float = 0.5
    rate_wait: float = 5.0
    calls: int = 0

    def __post_init__(self) -> None:
        self.base_url = check_url(self.base_url)
        for value in (self.host_header or "", *self.headers.values()):
            if any(char in value for char in "\r\n\0"):
                raise HttpError("a header value (host_header or the key) contains a line break")
        self._session = _host_session(self.host_header)

    @property
    def name(self) -> str:
        """How to name this server in a message."""
        if self.host_header:
            return f"{self.base_url} (Host {self.host_header})"
        return self.base_url

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

        :param repeat: whether it may be sent again after the connection broke; by default that is
            so for the idempotent methods (RFC 9110, 9.2.2). A request that was never sent may
            always be.
        :raises Unreachable: no connection after a few tries.
        :raises ConnectionBroken: the connection broke and a repeat was not safe, or did not help.
        :raises TimeoutExceeded: the deadline passed.
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
            if response.status_code != 429:
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
            if data is not None and hasattr(data, "seek"):
                data.seek(0)

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
        verify: bool | str = (
            self.ca_path if self.validate_certs and self.ca_path else self.validate_certs
        )
        self.calls += 1
        try:
            return self._session.request(
                method,
                self.base_url + path,
                data=data,
                headers=sent_headers,
                stream=stream,
                allow_redirects=False,
                auth=_own_headers,
                timeout=(min(CONNECT_SECONDS, left), min(READ_SECONDS, left)),
                verify=verify,
            )
        except requests.exceptions.SSLError as error:
            raise HttpError(
                f"TLS to {self.name} failed: {_reason(error)}",
                next_step="Check ca_path, and that the certificate is made for the name asked for.",
            ) from error
        except (requests.exceptions.ConnectTimeout, requests.exceptions.ProxyError) as error:
            raise self._unreachable(error) from error
        except requests.exceptions.ConnectionError as error:
            if _never_sent(error):
                raise self._unreachable(error) from error
            raise ConnectionBroken(
                f"the connection to {self.name} broke during {method} {path}: {_reason(error)}"
            ) from error
        except requests.exceptions.Timeout as error:
            raise ConnectionBroken(f"{self.name} did not answer {method} {path} in time") from error
        except requests.exceptions.RequestException as error:
            raise HttpError(f"{method} {path} at {self.name} failed: {_reason(error)}") from error
        except OSError as error:
            # requests reports a ca_path that does not exist as a bare OSError.
            raise HttpError(f"{method} {path} at {self.name} failed: {error}") from error

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(
            f"{self.name} cannot be reached: {_reason(error)}",
            next_step="Check the address, and that the server runs.",
        )

    def chunks(self, response: Response, deadline: Deadline) -> Iterator[bytes]:
        """Yield the body in pieces of at most 1 MiB.

        :raises ConnectionBroken: the body ended early.
        :raises TimeoutExceeded: the deadline passed meanwhile.
        """
        try:
            for chunk in response.iter_content(CHUNK):
                yield chunk
                if deadline.passed:
                    raise TimeoutExceeded(
                        f"the body from {self.name} took longer than {deadline.seconds:.0f} s"
                    )
        except (requests.exceptions.RequestException, OSError) as error:
            raise ConnectionBroken(
                f"the body from {self.name} ended early: {_reason(error)}"
            ) from error

    def json(self, response: Response) -> Any:
        """Return the answer's body as JSON.

        :raises HttpError: it is something else (a proxy's HTML page, say), or far too large.
        """
        body = response.content
        shown = f"{response.status_code} from {self.name}"
        if len(body) > JSON_LIMIT:
            raise HttpError(f"{shown}: {len(body)} bytes are too many for a JSON answer")
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            kind = response.headers.get("Content-Type", "no Content-Type").split(";")[0]
            raise HttpError(
                f"{shown} is not JSON but {kind} ({len(body)} bytes)",
                next_step="Check that the address is the API's own and not a web page before it.",
            ) from error


def _reason(error: BaseException) -> str:
    """Return the innermost reason of an error of requests, in one line."""
    seen: set[int] = set()
    inner: BaseException = error
    while id(inner) not in seen:
        seen.add(id(inner))
        nested = getattr(inner, "reason", None)
        if not isinstance(nested, BaseException):
            nested = next((arg for arg in inner.args if isinstance(arg, BaseException)), None)
        inner = nested or inner.__cause__ or inner
    text = str(inner) or type(inner).__name__
    # urllib3 prefixes its text with the repr of a connection object.
    return " ".join(text.split("object at")[-1].split(">: ")[-1].split())


def _never_sent(error: BaseException) -> bool:
    """Tell whether the connection failed before it stood."""
    from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

    for arg in (*error.args, error.__cause__):
        if isinstance(arg, (NewConnectionError, ConnectTimeoutError)):
            return True
        if isinstance(arg, MaxRetryError) and isinstance(
            arg.reason, (NewConnectionError, ConnectTimeoutError)
        ):
            return True
    return False
