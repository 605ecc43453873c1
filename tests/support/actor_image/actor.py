# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A version of a service that crashes (exit code 3) or stops slowly, as its environment says.

``VERSION``: what its answers say. ``CRASH``, ``MOMENT[:NUMBER]``:

* ``start``: before it listens.
* ``started:SECONDS``: that long after each start.
* ``health:N``: after its N-th answer to ``/health`` that another host asked for.
* ``checked:SECONDS``: that long after its first answer to ``/health`` from inside the container.
* ``test:N``, ``verify:N``: after its N-th answer to ``/test`` or ``/verify``.
* ``traffic:SECONDS``: that long after the first request that came through the router: any path
  that nobody but clients asks for.

``IGNORE_TERM``: for how many seconds it goes on serving after SIGTERM, as a slow service does.
``HEALTH=never``: never healthy.
``VERIFY_SECONDS``: how long its answers to ``/verify`` take.

Its log says when it is told to end, and when it is asked for a path the first time.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from tests.support.router_backend import Service

PORT = 8080
EXIT_CODE = 3
# Asked by health checks, by tests, and by a router that checks its servers.
DIRECT = ("/health", "/test", "/alive")
TOLD = ("/health", "/test", "/verify")


def crash(why: str) -> None:
    print(f"{os.environ['VERSION']} crashes: {why}", file=sys.stderr, flush=True)
    os._exit(EXIT_CODE)


class Actor(Service):
    def __init__(self, version: str, moment: str, number: float) -> None:
        super().__init__(version)
        self.moment = moment
        self.number = number
        self.count = 0
        self.due = False
        self.asked: set[str] = set()
        self.healthy = os.environ.get("HEALTH", "") != "never"

    def later(self, seconds: float, why: str) -> None:
        if not self.due:
            self.due = True
            asyncio.get_running_loop().call_later(seconds, crash, why)

    async def status(self, path: str, writer: asyncio.StreamWriter) -> str:
        if path in TOLD and path not in self.asked:
            self.asked.add(path)
            print(f"was asked for {path}", file=sys.stderr, flush=True)
        if path == "/verify":
            await asyncio.sleep(float(os.environ.get("VERIFY_SECONDS", "0")))
        if self.moment == "traffic" and path not in DIRECT:
            self.later(self.number, f"{self.number} s after its first request from the router")
        return await super().status(path, writer)

    async def answered(self, path: str, writer: asyncio.StreamWriter) -> None:
        inside = str(writer.get_extra_info("peername")[0]).startswith("127.")
        if self.moment == "checked" and path == "/health" and inside:
            self.later(self.number, f"{self.number} s after its first health check")
        if not self.moment or path != f"/{self.moment}" or (path == "/health" and inside):
            return
        self.count += 1
        if self.count >= self.number:
            writer.close()
            await writer.wait_closed()
            crash(f"it answered {path}")


async def main() -> None:
    version = os.environ["VERSION"]
    moment, _colon, number = os.environ.get("CRASH", "").partition(":")
    print(f"{version} begins", file=sys.stderr, flush=True)
    if moment == "start":
        crash("it cannot start")
    actor = Actor(version, moment, float(number or 1))
    if moment == "started":
        actor.later(actor.number, f"{actor.number} s after its start")
    server = await asyncio.start_server(actor.serve, "0.0.0.0", PORT, backlog=512)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    print("was told to end", file=sys.stderr, flush=True)
    await asyncio.sleep(float(os.environ.get("IGNORE_TERM", "0")))
    server.close()
    await actor.end()


if __name__ == "__main__":
    asyncio.run(main())
