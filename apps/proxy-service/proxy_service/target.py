# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One address behind a name, and what a name and an address may be."""

from __future__ import annotations

import re
import time
from urllib.parse import urlsplit

RESERVED = "services"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_URL_TEXT = re.compile(r"[\x21-\x7e]{1,2048}")
_PORTS = {"http": 80, "https": 443}
# How long a target that took no connection is asked only where no other is left, in seconds.
_REST = 1.0


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

    __slots__ = (
        "authority",
        "base_path",
        "host",
        "in_flight",
        "port",
        "rests_until",
        "retired",
        "tls",
        "url",
    )

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
        self.rests_until = 0.0

    def rest(self) -> None:
        """Prefer others for a while: it has just refused a connection."""
        self.rests_until = time.monotonic() + _REST
