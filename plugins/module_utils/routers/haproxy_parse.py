# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What HAProxy's runtime API answers, as values: pure, and strict about what is no such answer."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

# Of srv_admin_state: forced maintenance, inherited maintenance, and maintenance since the name
# could not be resolved. Having been disabled by the configuration (4) stays set for ever.
IN_MAINTENANCE = 0x01 | 0x02 | 0x20


class Garbage(Exception):
    """The text is not what HAProxy would have answered."""


@dataclass(frozen=True)
class Server:
    """One server of a backend; ``url`` is None while it is out of service."""

    backend: str
    name: str
    url: str | None
    tls: bool


@dataclass(frozen=True)
class Count:
    """Of a backend or a server: requests under way, and for a server what its checks say."""

    backend: str
    name: str
    sessions: int
    status: str
    check: str

    @property
    def up(self) -> bool:
        """Whether traffic would be sent there; a server without checks counts as well."""
        return self.status.split(" ")[0] in ("UP", "no")

    @property
    def maintained(self) -> bool:
        """Whether the server is out of service."""
        return self.status.startswith("MAINT")

    @property
    def whole(self) -> bool:
        """Whether this is a backend, and not one of its servers."""
        return self.name == "BACKEND"


def parse_map(text: str) -> dict[str, str]:
    """Return the entries of ``show map``.

    :raises Garbage: it is something else.
    """
    entries: dict[str, str] = {}
    for line in text.splitlines():
        fields = line.split(" ", 2)
        if len(fields) != 3 or not fields[0].startswith("0x"):
            raise Garbage(line)
        # Of two entries of one name HAProxy finds the first one.
        entries.setdefault(fields[1], fields[2].strip())
    return entries


def parse_servers(text: str) -> list[Server]:
    """Return the servers of ``show servers state``, in its order.

    :raises Garbage: it is something else.
    """
    lines = text.splitlines()
    if len(lines) < 2 or lines[0] != "1" or not lines[1].startswith("# be_id "):
        raise Garbage(text[:100])
    columns = lines[1].removeprefix("# ").split(" ")
    servers = []
    for line in lines[2:]:
        values = dict(zip(columns, line.split(" "), strict=False))
        try:
            tls = values.get("srv_use_ssl") == "1"
            maintained = int(values["srv_admin_state"]) & IN_MAINTENANCE
            url = None if maintained else url_of(tls, values["srv_addr"], int(values["srv_port"]))
            servers.append(Server(values["be_name"], values["srv_name"], url, tls))
        except (KeyError, ValueError):
            raise Garbage(line) from None
    return servers


def parse_counts(text: str) -> list[Count]:
    """Return the backends (named ``BACKEND``) and the servers of ``show stat``.

    :raises Garbage: it is something else.
    """
    if not text.startswith("# pxname,svname,"):
        raise Garbage(text[:100])
    counts = []
    for row in csv.DictReader(io.StringIO(text.removeprefix("# "))):
        if row["svname"] == "FRONTEND":
            continue
        try:
            counts.append(
                Count(
                    row["pxname"],
                    row["svname"],
                    int(row["scur"] or 0),
                    row["status"],
                    " ".join(filter(None, (row["check_status"], row.get("last_chk")))),
                )
            )
        except (KeyError, TypeError, ValueError):
            raise Garbage(str(row)[:100]) from None
    return counts


def url_of(tls: bool, host: str, port: int) -> str:
    """Return the address of a server as a URL."""
    name = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{name}:{port}"
