# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ships what was ordered. Any number of workers may run at a time."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import database

# The health check looks how old it is.
ALIVE = Path("/tmp/alive")
SHIP = """
UPDATE orders SET shipped_at = now() WHERE id IN (
    SELECT id FROM orders WHERE shipped_at IS NULL LIMIT 100 FOR UPDATE SKIP LOCKED
)
"""


async def main() -> None:
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    pool = await database.connect()
    while not over.is_set():
        await database.wait(lambda: pool.execute(SHIP))
        ALIVE.touch()
        await asyncio.sleep(0.5)
    await pool.close()


asyncio.run(main())
