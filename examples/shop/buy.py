# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Buys at the shop without a pause, and counts what became of the orders.

    python3 buy.py start    begin to buy, in the background
    python3 buy.py count    look for every order that was acknowledged, and go on
    python3 buy.py stop     end, and count

An order that failed is not sent again. SHOP_URL says where the shop is.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

URL = os.environ.get("SHOP_URL", "http://127.0.0.1:8000")
FOLDER = Path(__file__).with_name(".buyer")
PID, ORDERS, COUNTED = FOLDER / "pid", FOLDER / "orders", FOLDER / "counted"
LOG = FOLDER / "log"
BUYERS = 4
PAUSE_SECONDS = 0.05
GIVE_UP_SECONDS = 60


def start() -> str:
    FOLDER.mkdir(exist_ok=True)
    if PID.exists():
        sys.exit("Somebody buys already; python3 buy.py stop ends it.")
    COUNTED.write_text("0")
    with ORDERS.open("w") as orders, LOG.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, __file__, "run"],
            stdin=subprocess.DEVNULL,
            stdout=orders,
            stderr=log,
            start_new_session=True,
        )
    PID.write_text(str(process.pid))
    while not ORDERS.stat().st_size:
        time.sleep(0.1)
    return f"{BUYERS} buyers have begun."


def stop() -> str:
    pid = int(PID.read_text())
    os.kill(pid, signal.SIGTERM)
    # It waits for the answers to what it has sent.
    while Path(f"/proc/{pid}").exists() and "Z" not in state_of(pid):
        time.sleep(0.1)
    PID.unlink()
    return count()


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def run() -> str:
    """Write a line for each order: its id, the version that took it or why not, the seconds."""
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: over.set())
    me = secrets.token_hex(4)
    buyers = [threading.Thread(target=buy, args=(f"{me}-{n}", over)) for n in range(BUYERS)]
    for buyer in buyers:
        buyer.start()
    for buyer in buyers:
        buyer.join()
    return ""


def buy(name: str, over: threading.Event) -> None:
    connection = http.client.HTTPConnection(urlsplit(URL).netloc, timeout=GIVE_UP_SECONDS)
    number = 0
    while not over.wait(PAUSE_SECONDS):
        number += 1
        order = {"id": f"{name}-{number}", "item": "coffee"}
        began, version, why = time.monotonic(), None, None
        try:
            connection.request("POST", "/orders", json.dumps(order))
            answer = connection.getresponse()
            text = answer.read()
            if answer.status == 201:
                version = json.loads(text)["version"]
            else:
                why = f"status {answer.status}"
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            why = type(error).__name__
        seconds = round(time.monotonic() - began, 3)
        done = {"id": order["id"], "version": version, "why": why, "seconds": seconds}
        # In one write, so that lines of several buyers do not mix.
        os.write(1, f"{json.dumps(done)}\n".encode())


def count() -> str:
    """Tell what became of all orders, and of those since the last time."""
    text = ORDERS.read_text()
    orders = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    acknowledged = {one["id"] for one in orders if one["version"]}
    found = set()
    for prefix in {name.partition("-")[0] for name in acknowledged}:
        with urllib.request.urlopen(f"{URL}/orders/{prefix}", timeout=GIVE_UP_SECONDS) as answer:
            found.update(json.load(answer)["ids"])
    lost = sorted(acknowledged - found)
    new = orders[int(COUNTED.read_text()) :]
    COUNTED.write_text(str(len(orders)))
    versions = Counter(one["version"] for one in new if one["version"])
    taken = [f"{number} by version {name}" for name, number in sorted(versions.items())]
    failed = Counter(one["why"] for one in new if one["why"])
    lines = [
        f"{len(acknowledged)} orders acknowledged, {len(lost)} of them lost",
        f"since the last count: {', '.join(taken) or 'none taken'}; {failed.total()} failed",
        f"longest wait: {max((one['seconds'] for one in new), default=0.0):.2f} s",
    ]
    lines += [f"failed: {number} by {why}" for why, number in failed.items()]
    lines += [f"lost: {name}" for name in lost]
    if lost:
        sys.exit("\n".join(lines))
    return "\n".join(lines)


if __name__ == "__main__":
    commands = {"start": start, "count": count, "stop": stop, "run": run}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    if said := commands[sys.argv[1]]():
        print(said)
