# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a small app starts, says that it listens, and ends in good order.

The same file in every small app, so that each of them stands alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

from aiohttp import web
from aiohttp.typedefs import Handler

EXIT_UNUSABLE = 1
EXIT_ARGUMENTS = 2
# Requests in flight get this long, in seconds, once the app has been asked to end.
GRACE = 30.0


class BadSettings(Exception):
    """The app cannot be started like this; the message is one sentence."""


class CannotStart(Exception):
    """The address or the ready file cannot be used; the message is one sentence."""


def log(event: str) -> None:
    """One line an event on stderr."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(f"{stamp} {event}", file=sys.stderr, flush=True)


class InFlight:
    """The requests being answered, which are waited for before the app ends."""

    def __init__(self) -> None:
        self._count = 0
        self._ending = False
        self._none = asyncio.Event()
        self._none.set()

    @web.middleware
    async def count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer, and let nobody be cut off meanwhile."""
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
            async with asyncio.timeout(seconds):
                await self._none.wait()


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) <= 65535):
        raise BadSettings(f"--listen must be HOST:PORT, not {text!r}.")
    return host, int(port)


def _url(host: str, port: int) -> str:
    # Where a client on this machine reaches a socket that is bound to every address.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _tell_ready(path: Path, url: str) -> None:
    part = path.with_name(f".{path.name}.new")
    try:
        part.write_text(json.dumps({"url": url, "pid": os.getpid()}), encoding="utf-8")
        part.replace(path)
    except OSError as exc:
        raise CannotStart(f"The ready file {path} cannot be written ({exc.strerror}).") from None


async def _serve(build: Callable[[], web.Application], listen: str, ready: Path | None) -> None:
    host, port = _address(listen)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    in_flight = InFlight()
    app = build()
    app.middlewares.insert(0, in_flight.count)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    server = cast(web.Server, runner.server)
    try:
        try:
            # Not aiohttp's site, which in older versions cuts off what is in flight at its end.
            listener = await loop.create_server(server, host, port, backlog=1024)
        except (OSError, UnicodeError) as exc:
            number_of = getattr(exc, "errno", None)
            reason = os.strerror(number_of) if number_of and number_of > 0 else "unknown name"
            raise CannotStart(f"Cannot listen on {listen} ({reason}).") from None
        url = _url(*listener.sockets[0].getsockname()[:2])
        log(f"listens on {url}")
        if ready is not None:
            _tell_ready(ready, url)
        await stop.wait()
        log("ends: finishing what is in flight")
        listener.close()
        await in_flight.finish(GRACE)
        for connection in server.connections:
            connection.close()
        await server.shutdown(GRACE)
    finally:
        await runner.cleanup()
    log("ended")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; the usage is for --help."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise BadSettings(f"The command line is wrong: {message}.")


def run(
    description: str, listen: str, build: Callable[[], web.Application], arguments: list[str]
) -> int:
    """Run the app until SIGTERM or SIGINT; the exit code. What is wrong is said on stderr.

    `listen` is where it listens unless told otherwise; `build` may raise BadSettings.
    """
    parser = _Parser(description=description, allow_abbrev=False)
    parser.add_argument("--listen", default=listen, metavar="HOST:PORT", help="port 0: a free one")
    parser.add_argument("--ready-file", type=Path, help="written when listening: {url, pid}")
    try:
        given = parser.parse_args(arguments)
        asyncio.run(_serve(build, given.listen, given.ready_file))
    except BadSettings as exc:
        print(exc, file=sys.stderr)
        return EXIT_ARGUMENTS
    except CannotStart as exc:
        print(exc, file=sys.stderr)
        return EXIT_UNUSABLE
    return 0
