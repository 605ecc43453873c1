# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A test double of the portal's client: no HTTP, answers from a script."""

from __future__ import annotations

from typing import Any, BinaryIO

from ansible_collections.immutable.delivery.plugins.module_utils.deadline import Deadline
from ansible_collections.immutable.delivery.plugins.module_utils.http import Http
from ansible_collections.immutable.delivery.plugins.module_utils.portal.client import (
    Cancelled,
    PortalClient,
    Status,
)


class ScriptedPortalClient(PortalClient):
    """Answers each call with the next entry of its script, the last one for ever.

    An entry that is an exception is raised. ``calls`` holds the calls in their order.
    """

    def __init__(self, **script: list[Any]) -> None:
        super().__init__(Http("http://portal.test"))
        self.script = script
        self.calls: list[str] = []

    def _next(self, call: str) -> Any:
        self.calls.append(call)
        entries = self.script[call]
        entry = entries.pop(0) if len(entries) > 1 else entries[0]
        if isinstance(entry, BaseException):
            raise entry
        return entry

    def begin_export(self, deadline: Deadline) -> str:
        return str(self._next("begin_export"))

    def export_status(self, export_id: str, deadline: Deadline) -> Status:
        status = self._next("export_status")
        assert isinstance(status, Status)
        return status

    def cancel_export(self, export_id: str, deadline: Deadline) -> Cancelled:
        return Cancelled(self._next("cancel_export"))

    def begin_import(self, archive: BinaryIO, sha256: str, deadline: Deadline) -> str:
        return str(self._next("begin_import"))
