# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service to put behind the proxy: says who it is, echoes, streams, waits, counts."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import signal
from pathlib import Path

from aiohttp import WSMsgType, web

BLOCK = bytes(range(256)) * 256


class Backend:
    def __init__(self, version: str) -> None:
        self._headers = {"X-Version": version}
        self._hits = 0
        self._open_slow = asyncio.Event()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        if path == "/hits":
            return self._json({"hits": self._hits})
        self._hits += 1
        if path == "/slow":
            await asyncio.sleep(float(request.query["seconds"]))
        elif path == "/held":
            await self._open_slow.wait()
        elif path == "/open":
            self._open_slow.set()
        elif path == "/download":
            return await self._download(request, int(request.query["blocks"]))
        elif path == "/events":
            return await self._events(request)
        elif path == "/ws":
            return await self._socket(request)
        elif path == "/echo":
            body = await request.read()
            return web.Response(body=body, headers=self._headers)
        if path == "/tiny":
            return web.Response(body=b"ok", headers=self._headers)
        return await self._tell(request)

    async def _tell(self, request: web.BaseRequest) -> web.StreamResponse:
        digest, size = hashlib.sha256(), 0
        async for chunk in request.content.iter_any():
            digest.update(chunk)
            size += len(chunk)
        return self._json(
            {
                "method": request.method,
                "path": request.raw_path,
                "headers": [
                    [k.decode("latin1"), v.decode("latin1")] for k, v in request.raw_headers
                ],
                "size": size,
                "sha256": digest.hexdigest(),
            }
        )

    def _json(self, data: object) -> web.Response:
        return web.json_response(data, headers=self._headers)

    async def _download(self, request: web.BaseRequest, blocks: int) -> web.StreamResponse:
        response = web.StreamResponse(headers=self._headers)
        if request.raw_path.endswith("&sized"):
            response.content_length = blocks * len(BLOCK)
        await response.prepare(request)
        for _block in range(blocks):
            await response.write(BLOCK)
        await response.write_eof()
        return response

    async def _events(self, request: web.BaseRequest) -> web.StreamResponse:
        # Each event waits for the one before to be asked for: buffering anywhere shows as a hang.
        response = web.StreamResponse(
            headers={**self._headers, "Content-Type": "text/event-stream"}
        )
        await response.prepare(request)
        async for line in request.content:
            await response.write(b"data: " + line + b"\n")
        return response

    async def _socket(self, request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse(
            protocols=("chat.v2", "chat.v1"), max_msg_size=0, autoping=True, compress=False
        )
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                if message.data == "close":
                    await socket.close(code=4321, message=b"as asked")
                elif message.data == "ping":
                    await socket.ping(b"from the service")
                else:
                    await socket.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await socket.send_bytes(message.data)
        return socket


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--version", required=True)
    parser.add_argument("--ready-file", type=Path, required=True)
    arguments = parser.parse_args()
    server = web.Server(Backend(arguments.version).handle, access_log=None, auto_decompress=False)
    runner = web.ServerRunner(server, shutdown_timeout=20)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = "http://{}:{}".format(*runner.addresses[0])
    part = arguments.ready_file.with_suffix(".part")
    part.write_text(json.dumps({"url": url, "pid": os.getpid()}))
    part.replace(arguments.ready_file)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
