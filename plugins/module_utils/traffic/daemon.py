# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The probe as a process of its own, which goes on when the module that started it has ended.

Ansible deletes a module's code when it ends, so the process is a fork of the module, in which all
that it needs is imported already; it runs nothing else.
"""

from __future__ import annotations

import asyncio
import os
import resource
import select
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from ..deadline import Deadline
from ..errors import DeliveryError
from .folder import LOG, RECORD, STATS, Folder, Journal, Record, own_identity
from .load import IN_FLIGHT_LIMIT, Load
from .settings import Settings

STATS_EVERY = 0.2
READY_SECONDS = 30.0
READY = b"ready"
# What the process needs besides connections: log, journal, event loop.
OWN_FILES = 64


def raise_file_limit(wanted: int) -> int:
    """Allow *wanted* connections as far as the system does; return how many are allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = wanted + OWN_FILES
    if soft != resource.RLIM_INFINITY and soft < need:
        best = need if hard == resource.RLIM_INFINITY else min(need, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (best, hard))
            soft = best
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, soft - OWN_FILES))


async def offer(
    folder: Folder, settings: Settings, run: str, on_begin: Callable[[], object]
) -> str:
    """Run the load, keeping the folder's files up to date; return why it ended.

    :param on_begin: called once the load has begun.
    """
    journal = Journal(folder)
    limit = raise_file_limit(IN_FLIGHT_LIMIT)
    load = Load(settings, run, journal.add, in_flight_limit=limit)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, load.stop)

    def write(ended: str, because: str = "") -> None:
        stats = {**load.report(), "ended": ended, "ended_because": because}
        folder.write(STATS, {**stats, "in_flight_limit": limit, "written": time.time()})

    timer: asyncio.TimerHandle | None = None

    def keep_writing() -> None:
        nonlocal timer
        try:
            write("running")
        except OSError as error:
            load.stop(error)
            return
        timer = loop.call_later(STATS_EVERY, keep_writing)

    work = loop.create_task(load.run())
    # Its first step sets the clock that a report needs.
    await asyncio.sleep(0)
    keep_writing()
    on_begin()
    try:
        ended = await work
    except Exception as error:
        _cancel(timer)
        write("error", f"the probe broke off: {error}")
        raise
    _cancel(timer)
    because = (
        "it was stopped"
        if ended == "stopped"
        else f"it ended by itself after max_seconds ({settings.max_seconds:g} s)"
    )
    write(ended, because)
    return ended


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def start(folder: Folder, settings: Settings, run: str) -> None:
    """Start the probe in the background, and return once it offers load.

    :raises DeliveryError: it did not come that far.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _detach(folder, settings, run, writing)
        finally:
            # Nothing of the module's own end may run here: it would delete the module's files
            # and print a result.
            os._exit(1)
    os.close(writing)
    try:
        os.waitpid(child, 0)
        said = _read_all(reading)
    finally:
        os.close(reading)
    if said != READY:
        reason = said.decode(errors="replace") or "it ended without a word"
        raise DeliveryError(
            f"the traffic probe did not start: {reason}",
            next_step=f"Look into {folder.path / LOG}.",
        )


def _read_all(handle: int) -> bytes:
    deadline = Deadline(READY_SECONDS)
    said = b""
    while not deadline.passed:
        readable, _w, _x = select.select([handle], [], [], deadline.remaining)
        if not readable:
            break
        part = os.read(handle, 4096)
        if not part:
            return said
        said += part
    return said or b"it was not ready in time"


def _detach(folder: Folder, settings: Settings, run: str, ready: int) -> NoReturn:
    """Become a process that belongs to nobody, and offer load in it."""
    os.setsid()
    # Fork again: no leader of a session can be given a terminal, and init takes it over.
    if os.fork():
        os._exit(0)
    code = 1
    begun = False

    def begin() -> None:
        nonlocal begun
        # This fails, and so ends the process, where whoever started it has given up on it.
        os.write(ready, READY)
        os.close(ready)
        begun = True

    try:
        os.umask(0o077)
        os.chdir("/")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        _redirect(folder)
        _close_others(ready)
        folder.write(RECORD, Record(own_identity(), run, settings).as_json())
        asyncio.run(offer(folder, settings, run, begin))
        code = 0
    except BaseException as error:
        with suppress(OSError):
            os.write(2, traceback.format_exc().encode())
            # Once the load has begun, the statistics say it instead.
            if not begun:
                os.write(ready, (str(error) or type(error).__name__).encode()[:1000])
    os._exit(code)


def _redirect(folder: Folder) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(folder.path / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)


def _close_others(ready: int) -> None:
    """Close what was inherited: Ansible waits for whoever holds its pipes, and a lock is held."""
    for number in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if number > 2 and number != ready:
            with suppress(OSError):
                os.close(number)
