# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start the portal: `python apps/portal/main.py --data DIR --static DIR --version v24`.

Exit codes: 0 after SIGTERM or SIGINT, 2 wrong arguments or environment, 1 the data or the address
cannot be used, 78 the sanity check failed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import ssl
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from aiohttp import web
from app import InFlight, build
from files import write_json
from sanity import Insane, load_static
from settings import BadSettings, Settings, parse
from store import DataUnusable, Store

EXIT_UNUSABLE = 1
EXIT_ARGUMENTS = 2
EXIT_INSANE = 78
# In-flight requests get this long, in seconds, after the listening socket is closed.
GRACE = 30.0
# Exports and imports compute in threads; a shorter turn each keeps requests quick meanwhile.
THREAD_TURN = 0.0005


def log(event: str) -> None:
    """One line an event on stderr."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(f"{stamp} portal {event}", file=sys.stderr, flush=True)


class CannotListen(Exception):
    """The address or the certificate cannot be used; the message is a sentence."""


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls is None:
        return None
    certificate, key = settings.tls
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except OSError:  # ssl.SSLError is one
        raise CannotListen(
            f"{certificate} and {key} are not a usable certificate and key."
        ) from None
    return context


def url_of(scheme: str, host: str, port: int) -> str:
    """Where a client on this machine reaches a socket bound to host and port."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"{scheme}://{host}:{port}"
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    name = f"[{address}]" if address.version == 6 else str(address)
    return f"{scheme}://{name}:{port}"


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises Insane, DataUnusable and CannotListen."""
    context = _tls(settings)
    static = load_static(settings.static)
    store = Store(settings.data, static, settings.key)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    in_flight = InFlight()
    app = build(settings, store, in_flight, log)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    server = cast(web.Server, runner.server)
    try:
        try:
            # Not aiohttp's site, which in older versions cuts off what is in flight at its end.
            listener = await loop.create_server(
                server, settings.host, settings.port, ssl=context, backlog=1024
            )
        except OSError as exc:
            reason = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else "unknown name"
            raise CannotListen(
                f"Cannot listen on {settings.host}:{settings.port} ({reason})."
            ) from None
        url = url_of("http" if context is None else "https", *listener.sockets[0].getsockname()[:2])
        log(f"{settings.version} listens on {url} with {store.index.counts()}")
        if settings.ready_file is not None:
            write_json(settings.ready_file, {"url": url, "pid": os.getpid()})
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


def main(arguments: Sequence[str]) -> int:
    """Run the portal; the exit code. What is wrong is said in one sentence on stderr."""
    sys.setswitchinterval(THREAD_TURN)
    try:
        asyncio.run(serve(parse(arguments)))
    except BadSettings as exc:
        print(exc, file=sys.stderr)
        return EXIT_ARGUMENTS
    except Insane as exc:
        print(f"The portal refuses to start: {exc}.", file=sys.stderr)
        return EXIT_INSANE
    except (CannotListen, DataUnusable) as exc:
        print(exc, file=sys.stderr)
        return EXIT_UNUSABLE
    except OSError as exc:
        where = Path(exc.filename).as_posix() if isinstance(exc.filename, str) else "a file"
        print(f"The portal cannot use {where} ({exc.strerror}).", file=sys.stderr)
        return EXIT_UNUSABLE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
