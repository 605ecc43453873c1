# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connections of requests on which nothing outlasts a request's deadline.

A socket's timeout begins anew with each call. A server that sends one byte of a header a second, a
proxy, or a slow reader of an upload would hold a request for as long as it likes, or a large write
would fail although it gets on. Here each call gets what is left of the deadline, and no more.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from .deadline import Deadline

CHUNK = 1024 * 1024
CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0

_limits: ContextVar[tuple[Deadline, bool] | None] = ContextVar("limits", default=None)


@contextmanager
def ending_at(deadline: Deadline, *, patient: bool = False) -> Iterator[None]:
    """Let each call on a connection of this thread end when *deadline* passes.

    :param patient: otherwise a call ends after :data:`READ_SECONDS` in which nothing moved, too.
    """
    token = _limits.set((deadline, patient))
    try:
        yield
    finally:
        _limits.reset(token)


def _left(idle: float) -> float:
    """Return how long the next call may take; never 0, which would mean not to wait at all.

    :raises TimeoutError: the deadline has passed.
    """
    limits = _limits.get()
    if limits is None:
        return idle
    deadline, patient = limits
    left = deadline.remaining
    if left <= 0:
        raise TimeoutError("timed out")
    return left if patient else min(idle, left)


class _Socket(socket.socket):
    """A socket that looks at the deadline before each call."""

    def recv_into(self, *args: Any) -> int:
        self.settimeout(_left(READ_SECONDS))
        return super().recv_into(*args)

    def recv(self, *args: Any) -> bytes:
        self.settimeout(_left(READ_SECONDS))
        return super().recv(*args)

    def send(self, *args: Any) -> int:
        self.settimeout(_left(READ_SECONDS))
        return super().send(*args)

    def sendall(self, data: Any, flags: int = 0) -> None:
        # Its own would have the timeout for all of it.
        with memoryview(data) as view, view.cast("B") as rest:
            sent = 0
            while sent < len(rest):
                sent += self.send(rest[sent:], flags)


class _TlsSocket(_Socket, ssl.SSLSocket):
    """The same over TLS, whose handshake has its deadline as well."""

    def do_handshake(self, block: bool = False) -> None:
        self.settimeout(_left(CONNECT_SECONDS))
        super().do_handshake(block)


def _dial(host: str, port: int, options: Sequence[tuple[Any, ...]]) -> socket.socket:
    """Connect to the first address of *host* that takes it.

    :raises OSError: none did.
    """
    failure = OSError("the name has no address")
    for family, kind, protocol, _name, address in _resolve(host.strip("[]"), port):
        connection = _Socket(family, kind, protocol)
        try:
            for option in options:
                connection.setsockopt(*option)
            connection.settimeout(_left(CONNECT_SECONDS))
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise failure


def _resolve(host: str, port: int) -> list[tuple[Any, ...]]:
    """Return the addresses of *host*.

    A name is asked for in another thread, since the C library knows no deadline.
    """
    found: list[list[tuple[Any, ...]] | Exception] = []

    def ask() -> None:
        try:
            family = urllib3.util.connection.allowed_gai_family()
            found.append(list(socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)))
        except UnicodeError:
            found.append(OSError("a part of the name is empty or too long"))
        except Exception as error:
            found.append(error)

    try:
        ipaddress.ip_address(host)
    except ValueError:
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(_left(CONNECT_SECONDS))
    else:
        ask()
    if not found:
        raise TimeoutError("the name was not resolved in time")
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


if TYPE_CHECKING:
    from requests import Session

# ``http`` says so if they are missing.
try:
    import requests
    import requests.adapters
    import urllib3
    import urllib3.connection
    import urllib3.connectionpool
    import urllib3.exceptions
    import urllib3.response
    import urllib3.util.connection
    import urllib3.util.ssl_
except ImportError:
    pass
else:

    def _connected(connection: urllib3.connection.HTTPConnection) -> socket.socket:
        try:
            return _dial(connection._dns_host, connection.port, connection.socket_options or ())
        except TimeoutError as error:
            raise urllib3.exceptions.ConnectTimeoutError(connection, str(error)) from error
        except OSError as error:
            raise urllib3.exceptions.NewConnectionError(connection, str(error)) from error

    class _Connection(urllib3.connection.HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return _connected(self)

    class _TlsConnection(urllib3.connection.HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return _connected(self)

        def connect(self) -> None:
            if self.ssl_context is None:
                self.ssl_context = urllib3.util.ssl_.create_urllib3_context(
                    cert_reqs=urllib3.util.ssl_.resolve_cert_reqs(self.cert_reqs)
                )
            self.ssl_context.sslsocket_class = _TlsSocket
            super().connect()

    class _Pool(urllib3.connectionpool.HTTPConnectionPool):
        ConnectionCls = _Connection

    class _TlsPool(urllib3.connectionpool.HTTPSConnectionPool):
        ConnectionCls = _TlsConnection

    class _Adapter(requests.adapters.HTTPAdapter):
        """Makes connections that keep a deadline, and over TLS asks for a host by its name."""

        def __init__(self, name: str = "") -> None:
            self._name = name
            super().__init__()

        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            # The default of 16 KiB a send call halves the speed of large uploads. Before 2.0, which
            # is what Debian 12 has, urllib3 leaves it to Python.
            if hasattr(urllib3.response.HTTPResponse, "read1"):
                kwargs["blocksize"] = CHUNK
            if self._name:
                kwargs.update(server_hostname=self._name, assert_hostname=self._name)
            super().init_poolmanager(*args, **kwargs)
            self._use(self.poolmanager)

        def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
            manager = super().proxy_manager_for(*args, **kwargs)
            # One that speaks SOCKS is none, and has classes of its own.
            if isinstance(manager, urllib3.ProxyManager):
                self._use(manager)
            return manager

        def _use(self, manager: urllib3.PoolManager) -> None:
            manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}


def session_for(name: str) -> Session:
    """Return a session that asks for the host *name* by SNI, if there is one."""
    session = requests.Session()
    session.mount("http://", _Adapter())
    session.mount("https://", _Adapter(name))
    return session
