# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which service a name stands for, how many requests each target still carries, and the file
that remembers the names over a restart."""

from __future__ import annotations

import asyncio
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

RESERVED = "services"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_URL_TEXT = re.compile(r"[\x21-\x7e]{1,2048}")
_PORTS = {"http": 80, "https": 443}


class RegistryError(Exception):
    """The registry's file cannot be used; the text is one sentence for a person."""


class BadRegistration(ValueError):
    """A name or an address that cannot be registered; the text is one sentence for a person."""


def check_name(name: str) -> str:
    """Return `name`, or raise BadRegistration."""
    if name == RESERVED:
        raise BadRegistration(f"The name {RESERVED!r} is taken by the proxy's own API.")
    if not _NAME.fullmatch(name) or name in {".", ".."}:
        raise BadRegistration(
            "A service's name consists of 1 to 128 letters, digits, dots, dashes and underscores."
        )
    return name


class Target:
    """One address that requests are sent to, and how many it carries at this moment."""

    __slots__ = ("authority", "base_path", "host", "in_flight", "port", "retired", "tls", "url")

    def __init__(self, url: str) -> None:
        """Read an absolute http or https address; raises BadRegistration for any other text."""
        if not _URL_TEXT.fullmatch(url):
            raise BadRegistration(
                "The address must be an absolute http or https URL of printable ASCII characters."
            )
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as exc:
            raise BadRegistration(f"The address is not a valid URL: {exc}.") from None
        if parts.scheme not in _PORTS or not parts.hostname or port == 0:
            raise BadRegistration(
                "The address must be an absolute http or https URL such as http://host:8080."
            )
        if "@" in parts.netloc:
            raise BadRegistration("The address must not carry a user name or a password.")
        if "?" in url or "#" in url:
            raise BadRegistration("The address must not carry a query or a fragment.")
        if "\\" in url or not re.fullmatch(r"[A-Za-z0-9._~:%-]+", parts.hostname):
            raise BadRegistration("The address carries a host name that cannot be right.")
        self.url = url
        self.tls = parts.scheme == "https"
        self.host = parts.hostname
        self.port = port or _PORTS[parts.scheme]
        self.authority = parts.netloc.encode("ascii")
        self.base_path = parts.path.rstrip("/").encode("ascii")
        self.in_flight = 0
        self.retired = False


class Service:
    """A name: the target that gets its new requests, and earlier ones still finishing theirs."""

    __slots__ = ("current", "draining", "name", "waiters")

    def __init__(self, name: str) -> None:
        self.name = name
        self.current: Target | None = None
        self.draining: list[Target] = []
        self.waiters: set[asyncio.Future[None]] = set()

    @property
    def in_flight(self) -> int:
        """Requests on targets that are not the current one."""
        return sum(target.in_flight for target in self.draining)

    def claim(self) -> Target | None:
        """Count one request on the current target.

        There is no await between reading `current` and counting, so a request belongs either
        wholly before a switch (and is seen by its drain) or wholly after it.
        """
        target = self.current
        if target is not None:
            target.in_flight += 1
        return target

    def release(self, target: Target) -> None:
        """Give back one claim."""
        target.in_flight -= 1
        if target.in_flight == 0 and target in self.draining:
            self.draining.remove(target)
            self._tell_drained()

    def switch(self, target: Target | None) -> Target | None:
        """Make `target` current and return the one it replaces."""
        previous = self.current
        self.current = target
        if previous is not None:
            previous.retired = True
            if previous.in_flight:
                self.draining.append(previous)
        if target is not None:
            target.retired = False
            if target in self.draining:
                self.draining.remove(target)
        self._tell_drained()
        return previous

    def _tell_drained(self) -> None:
        if not self.draining:
            for waiter in self.waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def drained(self, seconds: float) -> None:
        """Return once nothing is left on earlier targets, or after `seconds`."""
        if not self.draining:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiters.add(waiter)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await waiter
        finally:
            self.waiters.discard(waiter)


class Registry:
    """All services, kept in one JSON file that is complete at every moment."""

    def __init__(self, path: Path, on_retire: Callable[[Target], None]) -> None:
        """Read `path`, or create it empty; raises RegistryError."""
        self._path = path
        self._on_retire = on_retire
        self._saving = asyncio.Lock()
        self._services: dict[str, Service] = {}
        if path.exists():
            for name, url in _load(path).items():
                self._service(name).current = Target(url)
        _save(path, self._urls())

    def get(self, name: str) -> Service | None:
        """The service of that name, also one that was removed and still drains."""
        return self._services.get(name)

    def live(self) -> Iterator[Service]:
        """The services that have a current target, by name."""
        for name in sorted(self._services):
            if self._services[name].current is not None:
                yield self._services[name]

    async def register(self, name: str, url: str) -> None:
        """Send the new requests of `name` to `url`; on return the file says so too.

        Raises BadRegistration, and RegistryError when the file cannot be written: then nothing
        has changed.
        """
        check_name(name)
        target = Target(url)
        # A caller that hangs up must not leave the file and the memory with different answers.
        await asyncio.shield(asyncio.ensure_future(self._switch(name, target)))

    async def remove(self, name: str) -> bool:
        """Forget `name`; False when it was not known. Raises RegistryError."""
        return await asyncio.shield(asyncio.ensure_future(self._switch(name, None)))

    async def _switch(self, name: str, target: Target | None) -> bool:
        async with self._saving:
            service = self._services.get(name)
            current = service.current if service else None
            if target is None and current is None:
                return False
            if target is not None and current is not None and current.url == target.url:
                return True
            urls = self._urls()
            urls.pop(name, None)
            if target is not None:
                urls[name] = target.url
            await asyncio.to_thread(_save, self._path, urls)
            service = self._service(name)
            if target is not None:
                # Back to one that still drains: its old requests and the new ones count as one.
                target = next((t for t in service.draining if t.url == target.url), target)
            previous = service.switch(target)
            if previous is not None:
                self._on_retire(previous)
            self._forget_removed()
            return True

    def _service(self, name: str) -> Service:
        return self._services.setdefault(name, Service(name))

    def _urls(self) -> dict[str, str]:
        return {s.name: s.current.url for s in self.live() if s.current is not None}

    def _forget_removed(self) -> None:
        # Names come and go at run time: without this a year of them would pile up.
        for name, service in list(self._services.items()):
            if service.current is None and not service.draining and not service.waiters:
                del self._services[name]


def _load(path: Path) -> dict[str, str]:
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
        services = data["services"]
        for name, url in services.items():
            check_name(name)
            Target(url)
    except OSError as exc:
        raise RegistryError(f"The registry {path} cannot be read: {exc.strerror}.") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise RegistryError(
            f"The registry {path} is damaged; repair it or move it away, for starting without it "
            "would drop every registered service."
        ) from None
    return dict(services)


def _save(path: Path, urls: dict[str, str]) -> None:
    text = json.dumps({"version": 1, "services": urls}, indent=2, sort_keys=True) + "\n"
    try:
        write_atomically(path, text)
    except OSError as exc:
        raise RegistryError(f"The registry {path} cannot be written: {exc.strerror}.") from None


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text`, mode 0644, durable on return; raises OSError."""
    with _temporary(path.parent) as (handle, name):
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        Path(name).replace(path)
    # The rename itself is durable only once the folder is.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _temporary(folder: Path) -> Iterator[tuple[int, str]]:
    handle, name = tempfile.mkstemp(prefix=".registry-", dir=folder)
    try:
        yield handle, name
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
