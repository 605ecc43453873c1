# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shop's database: how to reach it, and how to wait while it is replaced."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import asyncpg

# Below the 60 seconds after which HAProxy gives up on an answer.
WAIT_SECONDS = 45.0
AWAY = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    # What asyncpg makes of a connection that ends just when it is used.
    asyncpg.InternalClientError,
)

T = TypeVar("T")


async def connect() -> asyncpg.Pool:
    """Connect to the database, as soon as it is up."""
    password = Path(os.environ["DB_PASSWORD_FILE"]).read_text().strip()
    return await wait(
        lambda: asyncpg.create_pool(
            host=os.environ["DB_HOST"],
            user="shop",
            database="shop",
            password=password,
            min_size=1,
            timeout=5,
            command_timeout=10,
        )
    )


async def wait(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask the database, again and again while it is away.

    What is asked must be safe to repeat: an answer may have been lost on its way.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return await ask()
        except AWAY:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)
