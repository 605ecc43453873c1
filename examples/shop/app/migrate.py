# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring the tables to what this version needs. Safe to repeat, and older versions still work."""

from __future__ import annotations

import asyncio

import database

CHANGES = """
CREATE TABLE IF NOT EXISTS orders (id text PRIMARY KEY, item text NOT NULL);
ALTER TABLE orders ADD COLUMN IF NOT EXISTS shipped_at timestamptz;
"""


async def main() -> None:
    pool = await database.connect()
    await pool.execute(CHANGES)
    await pool.close()


asyncio.run(main())
