# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start the demo proxy: `python main.py --listen HOST:PORT --registry FILE`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import sys
from pathlib import Path

from proxy_service.server import ProxyServer, Settings
from proxy_service.state import RegistryError, write_atomically

LOG = logging.getLogger("proxy")


class StartFailed(Exception):
    """Why the proxy does not run, as one sentence."""


class OneLine(logging.Formatter):
    """One line an event: a traceback becomes the name and the text of its exception."""

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            record.msg = f"{record.getMessage()}: {type(error).__name__}: {error}"
            record.args, record.exc_info, record.exc_text = None, None, None
        return " ".join(super().format(record).split("\n"))


def _listen_address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT with a port up to 65535")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < 10**7:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Forward /NAME/rest to the service registered as NAME, and switch it at once.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--listen", type=_listen_address, default="127.0.0.1:8000")
    parser.add_argument(
        "--registry", type=Path, required=True, help="JSON file that remembers the services"
    )
    parser.add_argument(
        "--ready-file", type=Path, help='written as {"url": ..., "pid": ...} once listening'
    )
    parser.add_argument(
        "--connect-timeout", type=_seconds, default=5.0, help="seconds to connect to a service"
    )
    parser.add_argument(
        "--idle-timeout",
        type=_seconds,
        default=300.0,
        help="longest silence in seconds of a service or client within a request",
    )
    parser.add_argument(
        "--upstream-keepalive",
        type=_seconds,
        default=1.5,
        help="seconds an idle connection is kept; must be below what the services grant",
    )
    parser.add_argument(
        "--shutdown-timeout",
        type=_seconds,
        default=30.0,
        help="seconds after SIGTERM in which requests in flight may finish",
    )
    return parser.parse_args(argv)


async def _run(arguments: argparse.Namespace) -> None:
    host, port = arguments.listen
    settings = Settings(
        host=host,
        port=port,
        registry=arguments.registry.absolute(),
        connect_timeout=arguments.connect_timeout,
        idle_timeout=arguments.idle_timeout,
        upstream_keepalive=arguments.upstream_keepalive,
        shutdown_timeout=arguments.shutdown_timeout,
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def ask_to_stop(_number: int, _frame: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has closed already
            loop.call_soon_threadsafe(stop.set)

    # Not the loop's own handlers: those are gone before the process is, and a second SIGTERM in
    # between would turn an orderly end into a kill.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask_to_stop)
    server = ProxyServer(settings)
    try:
        url = await server.start()
    except (OSError, UnicodeError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise StartFailed(f"The proxy cannot listen on {host}:{port}: {reason}.") from None
    try:
        if arguments.ready_file is not None:
            _tell_ready(arguments.ready_file.absolute(), url)
        LOG.info("listening on %s", url)
        # What exists now lives as long as the process: no need to look at it again and again.
        gc.collect()
        gc.freeze()
        await stop.wait()
        LOG.info("ending: finishing what is in flight")
    finally:
        finished = await server.stop()
    LOG.info("ended" if finished else "ended with requests cut off")


def _tell_ready(path: Path, url: str) -> None:
    try:
        write_atomically(path, json.dumps({"url": url, "pid": os.getpid()}))
    except OSError as exc:
        raise StartFailed(f"The ready file {path} cannot be written: {exc.strerror}.") from None


def main(argv: list[str]) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    arguments = _arguments(argv)
    try:
        asyncio.run(_run(arguments))
    except (RegistryError, StartFailed) as exc:
        LOG.error("%s", exc)
        return 1
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
