# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The integration tests: of the service at $URL, or of one that they start themselves.

The exit code is 0 where all of them passed, and the last line says so or what failed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, build_opener

# Seconds for one answer, and until the service must have answered for the first time.
PATIENCE = 10.0
WAIT = float(os.environ.get("WAIT", "30"))
LOOK_EVERY = 0.1
OPENER = build_opener()


class Failed(Exception):
    """A test's finding, as one sentence on one line."""

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.split()))


def ask(base: str, path: str) -> tuple[int, str]:
    """Status and body of the answer to GET. Raises Failed."""
    try:
        with OPENER.open(Request(base + path), timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except HTTPError as exc:
        with exc:
            return exc.code, exc.read().decode(errors="replace")
    except URLError as exc:
        raise Failed(f"{base}{path} does not answer: {exc.reason}") from None
    except (OSError, HTTPException) as exc:
        raise Failed(f"{base}{path} does not answer: {exc}") from None


def document(base: str, path: str) -> dict[str, object]:
    """The JSON object that is answered with 200. Raises Failed."""
    status, body = ask(base, path)
    if status != 200:
        raise Failed(f"{path} is answered with {status}: {body[:200]}")
    try:
        value = json.loads(body)
    except ValueError:
        raise Failed(f"{path} is not answered with JSON: {body[:200]}") from None
    if not isinstance(value, dict):
        raise Failed(f"{path} is not answered with a JSON object: {body[:200]}")
    return value


def recommends_a_number(base: str) -> None:
    """A recommendation is a number."""
    for somebody in ("1", "2", "somebody-else"):
        number = document(base, f"/{somebody}").get("rec")
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise Failed(f"/{somebody} recommends {number!r}, which is not a number")


def is_healthy(base: str) -> None:
    """The service says that it is well."""
    health = document(base, "/health")
    if health.get("status") != "ok":
        raise Failed(f"/health says {health.get('status')!r}")


def is_the_version(base: str) -> None:
    """The service is the version in $EXPECT_VERSION, where that is set."""
    expected = os.environ.get("EXPECT_VERSION")
    seen = document(base, "/health").get("version")
    if not seen or (expected and seen != expected):
        raise Failed(f"the version is {seen!r}, not {expected or 'told'}")


def knows_nothing_else(base: str) -> None:
    """What is not there is not found."""
    status, _body = ask(base, "/1/2")
    if status != 404:
        raise Failed(f"/1/2 is answered with {status}, not with 404")


TESTS: tuple[Callable[[str], None], ...] = (
    is_healthy,
    is_the_version,
    recommends_a_number,
    knows_nothing_else,
)


@contextmanager
def own_service() -> Iterator[str]:
    """A service on a free port of this machine; raises Failed."""
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready"
        main = Path(__file__).with_name("main.py")
        argv = [sys.executable, str(main), "--listen", "127.0.0.1:0", "--ready-file", str(ready)]
        with subprocess.Popen(argv) as process:
            try:
                wait_until(lambda: ready.exists() or process.poll() is not None)
                if not ready.exists():
                    raise Failed(f"the service ended at once, with {process.poll()}")
                yield json.loads(ready.read_text())["url"]
            finally:
                process.terminate()
                process.wait(PATIENCE)


def wait_until(done: Callable[[], bool]) -> None:
    """Return once done() is true, or after WAIT seconds."""
    deadline = time.monotonic() + WAIT
    while not done() and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY)


def answers(base: str) -> bool:
    """Whether anything answers there."""
    try:
        ask(base, "/health")
    except Failed:
        return False
    return True


def test(base: str) -> list[str]:
    """Run all tests; returns what failed."""
    wait_until(lambda: answers(base))
    failures = []
    for one in TESTS:
        try:
            one(base)
        except Failed as exc:
            failures.append(f"{one.__name__}: {exc}")
            print(f"FAILED {failures[-1]}", flush=True)
        else:
            print(f"passed {one.__name__}", flush=True)
    return failures


def main() -> int:
    """The exit code."""
    url = os.environ.get("URL", "").rstrip("/")
    try:
        if url:
            failures = test(url)
        else:
            with own_service() as own:
                failures = test(own)
    except Failed as exc:
        failures = [str(exc)]
    where = url or "a service of their own"
    if failures:
        print(f"{len(failures)} of {len(TESTS)} tests of {where} FAILED: {'; '.join(failures)}")
        return 1
    print(f"All {len(TESTS)} tests of {where} passed.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
