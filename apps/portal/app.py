# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The application: both APIs behind the gates that every request passes."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from dataclasses import asdict
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler
from deploy_api import DeployApi
from faults import Faults
from jobs import Deployments, Log
from limits import RateLimit
from settings import Settings
from store import Duplicate, Locked, Store, Unknown
from users_api import UsersApi
from web_common import BadRequest, json_object, message

FAULTS_PATH = "/faults"
# As HAProxy answers for a name that no backend has.
NO_SERVER = (
    "<html><body><h1>503 Service Unavailable</h1>\n"
    "No server is available to handle this request.\n</body></html>\n"
)


def host_name(header: str) -> str:
    """The name in a Host header, without the port, in lower case; empty where it is malformed."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


class InFlight:
    """The requests being answered, so that the end can wait for them.

    aiohttp's own shutdown drops what arrives on a connection from then on, and with it the rest of
    a body that is on its way; so they are waited for before it.
    """

    def __init__(self) -> None:
        self._count = 0
        self._ending = False
        self._none = asyncio.Event()
        self._none.set()

    @web.middleware
    async def count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._count += 1
        self._none.clear()
        try:
            response = await handler(request)
        finally:
            self._count -= 1
            if not self._count:
                self._none.set()
        if self._ending and not response.prepared:
            response.force_close()
        return response

    async def finish(self, seconds: float) -> None:
        """Return when no request is being answered, or after seconds."""
        self._ending = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._none.wait(), seconds)


class Gates:
    """The middlewares, outermost first: answers for errors, host names, faults."""

    def __init__(self, deployments: Deployments, hosts: tuple[str, ...], log: Log) -> None:
        self._deployments = deployments
        self._hosts = frozenset(host.lower() for host in hosts)
        self._log = log

    @web.middleware
    async def errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except BadRequest as exc:
            return message(400, str(exc))
        except Unknown as exc:
            return message(404, str(exc))
        except Duplicate as exc:
            return message(409, str(exc))
        except Locked as exc:
            return message(423, str(exc))
        except web.HTTPException as exc:
            allow = exc.headers.get("Allow")
            headers = {"Allow": allow} if allow else None
            return message(exc.status, f"{exc.reason}.", headers)
        except OSError as exc:
            if isinstance(exc, ConnectionError):
                raise
            self._log(f"{request.method} {request.path}: {exc.strerror}")
            return message(500, f"The portal cannot use its data: {exc.strerror}.")

    @web.middleware
    async def hosts(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        known = not self._hosts or host_name(request.headers.get("Host", "")) in self._hosts
        if known or request.path == FAULTS_PATH:
            return await handler(request)
        return web.Response(status=503, text=NO_SERVER, content_type="text/html")

    @web.middleware
    async def faults(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        faults = self._deployments.faults
        if request.path == FAULTS_PATH:
            return await handler(request)
        if faults.drops(request.method, request.path):
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        if faults.slow_ms and not request.path.startswith("/deploy/"):
            await asyncio.sleep(faults.slow_ms / 1000)
        return await handler(request)

    async def put_faults(self, request: web.Request) -> web.Response:
        """Replace all faults. Only whoever runs on this machine may."""
        if not is_loopback(request.remote):
            return message(403, "Faults are set from this machine only.")
        try:
            self._deployments.faults = faults = Faults.parse(await json_object(request))
        except ValueError as exc:
            return message(400, str(exc))
        if faults.lapse_now:
            faults.lapse_now = False  # an event, not a state
            self._deployments.lapse_now()
        return web.json_response(asdict(faults))


def is_loopback(address: str | None) -> bool:
    """Whether address is one of this machine's own."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return bool((mapped or parsed).is_loopback)


def build(settings: Settings, store: Store, in_flight: InFlight, log: Log) -> web.Application:
    """The application; closing it ends all work and writes the indexes."""
    deployments = Deployments(
        store,
        key=settings.key,
        digest=settings.digest,
        timing=settings.timing,
        faults=settings.faults,
        log=log,
    )
    deploy = DeployApi(deployments, settings.key, RateLimit(settings.rate, settings.rate_window))
    gates = Gates(deployments, settings.hosts, log)
    app = web.Application(
        middlewares=[in_flight.count, gates.errors, gates.hosts, gates.faults, deploy.gate]
    )
    app.add_routes(deploy.routes())
    app.add_routes(UsersApi(store, settings.version, settings.release).routes())
    if settings.allow_faults:
        app.router.add_put(FAULTS_PATH, gates.put_faults)

    async def name_version(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers["X-Portal-Version"] = settings.version

    async def close(_app: web.Application) -> None:
        await deployments.close()
        await store.close()

    app.on_response_prepare.append(name_version)
    app.on_cleanup.append(close)
    return app
