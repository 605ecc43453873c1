# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The deploy API, `/deploy/v1/`: HTTP around jobs.Deployments."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

from aiohttp import web
from aiohttp.typedefs import Handler
from crypto import CHUNK, new_id
from jobs import Conflict, Deployments, Job, State
from limits import RateLimit
from web_common import message

PREFIX = "/deploy/v1/"
HASH_HEADER = "X-SHA256-Hash"
SHA256_HEX = re.compile(r"[0-9a-fA-F]{64}")
STATUS = {
    State.PROCESSING: HTTPStatus.NO_CONTENT,
    State.DONE: HTTPStatus.OK,
    State.FAILED: HTTPStatus.UNPROCESSABLE_ENTITY,
    State.CANCELLED: HTTPStatus.GONE,
}


class DeployApi:
    """The handlers, and the gate (rate, key) before them."""

    def __init__(self, deployments: Deployments, key: str, limit: RateLimit) -> None:
        self._deployments = deployments
        self._key = key.encode()
        self._limit = limit

    def routes(self) -> list[web.RouteDef]:
        export = f"{PREFIX}export"
        return [
            web.post(export, self.post_export),
            web.get(f"{export}/{{id}}/status", self.export_status),
            web.get(f"{export}/{{id}}/data", self.export_data, allow_head=False),
            web.delete(f"{export}/{{id}}", self.delete_export),
            web.post(f"{PREFIX}import", self.post_import),
            web.get(f"{PREFIX}import/{{id}}/status", self.import_status),
        ]

    @web.middleware
    async def gate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """In the real one's order: the gateway counts first, the portal then asks for the key."""
        if not request.path.startswith(PREFIX):
            return await handler(request)
        if self._deployments.faults.html_answers:
            return web.Response(text="<html><body>Welcome!</body></html>", content_type="text/html")
        wait = self._limit.take()
        if wait is not None:
            headers = {"Retry-After": str(wait), **self._limit.headers()}
            return message(429, "API rate limit exceeded", headers)
        # The raw header: compare_digest wants bytes where someone sends more than ASCII.
        given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if not hmac.compare_digest(given, self._key):
            return message(403, "The deployment key is missing or wrong.", self._limit.headers())
        response = await handler(request)
        if not response.prepared:
            response.headers.update(self._limit.headers())
        return response

    # -- export -------------------------------------------------------------------------------

    def _export(self, request: web.Request) -> Job | None:
        job = self._deployments.export
        return job if job is not None and job.id == request.match_info["id"] else None

    async def post_export(self, _request: web.Request) -> web.Response:
        try:
            job = self._deployments.begin_export()
        except Conflict as exc:
            return message(409, str(exc))
        return web.json_response({"exportId": job.id}, status=201)

    async def export_status(self, request: web.Request) -> web.Response:
        return _status(self._export(request), "export")

    async def export_data(self, request: web.Request) -> web.StreamResponse:
        job = self._export(request)
        if job is None:
            return message(404, "There is no such export.")
        if job.packed is None:
            return message(400, "The export is not done.")
        faults = self._deployments.faults
        headers = {
            "Content-Type": "application/octet-stream",
            HASH_HEADER: "0" * 64 if faults.wrong_hash else job.packed.sha256,
        }
        if faults.truncate_data is not None:
            return await _send_part(request, job.packed.path, headers, faults.truncate_data)
        return web.FileResponse(job.packed.path, chunk_size=CHUNK, headers=headers)

    async def delete_export(self, request: web.Request) -> web.Response:
        job = self._export(request)
        if job is None:
            return message(404, "There is no such export.")
        if self._deployments.cancel_export(job):
            return web.Response(status=204)
        return message(202, "The cancellation is scheduled.")

    # -- import -------------------------------------------------------------------------------

    async def post_import(self, request: web.Request) -> web.Response:
        deployments = self._deployments
        expected = request.headers.get(HASH_HEADER, "")
        if not SHA256_HEX.fullmatch(expected):
            return message(400, f"The header {HASH_HEADER} must carry the body's SHA-256 in hex.")
        if (reason := deployments.busy()) is not None:
            return message(409, reason)
        source = deployments.temporary / f"import_{new_id()}.tgz.enc"
        deployments.receiving = True
        handed_over = False
        try:
            received = await _receive(request, source)
            if received != expected.lower():
                return message(400, f"The body does not have the hash that {HASH_HEADER} says.")
            job = deployments.begin_import(source)
            handed_over = True
        except OSError as exc:
            if isinstance(exc, ConnectionError):
                raise
            return message(507, f"The archive cannot be stored: {exc.strerror}.")
        finally:
            deployments.receiving = False
            if not handed_over:
                source.unlink(missing_ok=True)
        return web.json_response({"importId": job.id}, status=201)

    async def import_status(self, request: web.Request) -> web.Response:
        return _status(self._deployments.imports.get(request.match_info["id"]), "import")


def _status(job: Job | None, kind: str) -> web.Response:
    if job is None:
        return message(404, f"There is no such {kind}.")
    status = STATUS[job.state]
    if status == HTTPStatus.NO_CONTENT:
        return web.Response(status=204)
    body = {"status": int(job.state), "message": job.message}
    return web.json_response(body, status=status)


async def _receive(request: web.Request, target: Path) -> str:
    """Stream the body to target, off the loop; its SHA-256. Raises OSError."""
    sha256 = hashlib.sha256()

    def take(file: BinaryIO, data: bytes) -> None:
        sha256.update(data)
        file.write(data)

    with target.open("xb") as file:
        target.chmod(0o600)
        pending = bytearray()
        async for data in request.content.iter_any():
            pending += data
            if len(pending) >= CHUNK:
                await asyncio.to_thread(take, file, bytes(pending))
                pending.clear()
        take(file, bytes(pending))
    return sha256.hexdigest()


async def _send_part(
    request: web.Request, path: Path, headers: dict[str, str], count: int
) -> web.StreamResponse:
    """Promise all of path, send count bytes of it, and cut the connection."""
    data = await asyncio.to_thread(path.read_bytes)
    response = web.StreamResponse(headers=headers)
    response.content_length = len(data)
    await response.prepare(request)
    await response.write(data[:count])
    if request.transport is not None:
        request.transport.close()
    return response
