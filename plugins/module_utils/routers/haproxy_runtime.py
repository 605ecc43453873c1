# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HAProxy's runtime API: one command a connection, over its unix socket or over TCP.

Source: HAProxy's Management Guide, section 9.3 "Unix Socket commands", the same from 2.6 to 3.0.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

from ..deadline import Deadline
from .base import RouterDown, RouterError

# The state of some ten thousand servers; more than that is no answer of a router's.
LIMIT = 16 * 1024 * 1024
TCP = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^:/\s]+)):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True)
class Runtime:
    """The runtime API at one address.

    :param address: the path of a unix socket, or ``host:port``.
    :param timeout: seconds that one command may take.
    """

    address: str
    timeout: float

    def __post_init__(self) -> None:
        if self.address.startswith("/"):
            return
        match = TCP.fullmatch(self.address)
        if match is None or not 0 < int(match["port"]) < 65536:
            raise RouterError(
                f"HAProxy's runtime API cannot be at {self.address!r}",
                next_step="Give the path of its socket, or host:port.",
            )

    def ask(self, command: str) -> str:
        """Send *command* and return the answer, without the empty lines around it.

        :raises RouterError: HAProxy cannot be reached, may not be told this, or answers with
            something that is not its runtime API's.
        """
        what = " ".join(command.split()[:2])
        try:
            raw = self._exchange(command)
        except OSError as error:
            raise self._unreachable(error, what) from error
        try:
            answer = raw.decode("utf-8")
        except UnicodeDecodeError:
            answer = "\0"
        if "\0" in answer:
            raise self.garbage(what)
        answer = answer.strip("\n")
        if answer.startswith("Permission denied"):
            raise RouterError(
                f"HAProxy at {self.address} does not allow {what!r} on this socket",
                next_step="Give its 'stats socket' line 'level admin', and reload HAProxy.",
            )
        if answer.startswith("Unknown command"):
            raise RouterError(
                f"HAProxy at {self.address} does not know {what!r}",
                next_step="Give the socket of HAProxy 2.6 or newer, and not its master's.",
            )
        if answer.startswith("Unknown map"):
            raise RouterError(
                f"HAProxy at {self.address} does not have the map of {command!r}",
                next_step="Name the map's file as HAProxy's configuration does.",
            )
        return answer

    def tell(self, command: str) -> None:
        """Send a command that changes something.

        :raises RouterError: HAProxy answers with more than that it has moved an address.
        """
        answer = self.ask(command).strip()
        if answer and "changed from" not in answer and "no need to change" not in answer:
            raise RouterError(f"HAProxy answered {command!r} with: {answer[:300]}")

    def garbage(self, what: str) -> RouterError:
        """Return the error for an answer that is not HAProxy's."""
        return RouterError(
            f"the answer of {self.address} to {what!r} is not that of HAProxy's runtime API",
            next_step="Check that the socket is HAProxy's 'stats socket'.",
        )

    def _exchange(self, command: str) -> bytes:
        deadline = Deadline(self.timeout)
        chunks: list[bytes] = []
        size = 0
        with self._connect() as connection:
            connection.settimeout(_left(deadline))
            connection.sendall(command.encode("ascii") + b"\n")
            while True:
                connection.settimeout(_left(deadline))
                chunk = connection.recv(65536)
                if not chunk:
                    break
                chunks.append(chunk)
                size += len(chunk)
                if size > LIMIT:
                    raise self.garbage(" ".join(command.split()[:2]))
        if not size:
            # Even a command without a result is answered with an empty line.
            raise ConnectionResetError
        return b"".join(chunks)

    def _connect(self) -> socket.socket:
        match = TCP.fullmatch(self.address)
        if match is not None and not self.address.startswith("/"):
            where = (match["six"] or match["host"], int(match["port"]))
            return socket.create_connection(where, self.timeout)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(self.timeout)
            connection.connect(self.address)
        except BaseException:
            connection.close()
            raise
        return connection

    def _unreachable(self, error: OSError, what: str) -> RouterError:
        if isinstance(error, PermissionError):
            return RouterError(
                f"no right to use HAProxy's socket {self.address}",
                next_step="Become root or a member of the socket's group (its 'mode' and 'group').",
            )
        if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
            return RouterDown(
                f"HAProxy does not listen at {self.address}",
                next_step="See whether HAProxy runs on this host, and its 'stats socket' line.",
            )
        if isinstance(error, TimeoutError):
            reason = f"did not answer within {self.timeout:g} s"
        elif isinstance(error, (ConnectionResetError, BrokenPipeError)):
            reason = "closed the connection without an answer"
        else:
            reason = f"cannot be asked: {error.strerror or error}"
        return RouterDown(
            f"HAProxy at {self.address} {reason} ({what})",
            next_step="See whether HAProxy runs, and its log.",
        )


def _left(deadline: Deadline) -> float:
    left = deadline.remaining
    if left <= 0:
        raise TimeoutError
    return left
