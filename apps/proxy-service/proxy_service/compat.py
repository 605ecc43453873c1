# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What aiohttp 3.8, as Debian 12 has it, does otherwise than its successors."""

from __future__ import annotations

import inspect
from typing import Any

from aiohttp import ClientPayloadError, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpResponseParser
from aiohttp.web_protocol import RequestHandler

# 3.9 has both of these, and 3.8 neither.
_CANCELS = "handler_cancellation" in inspect.signature(web.Server).parameters
_LIMITS = "max_line_size" in inspect.signature(ResponseHandler.set_response_params).parameters


def writing_paused(protocol: BaseProtocol) -> bool:
    """Whether the other side takes less than is sent to it."""
    return protocol._paused


def refuse_upgrade(request: web.BaseRequest) -> None:
    """Make the connection HTTP again, before an answer that does not change the protocol.

    Later versions do so once the answer is out; 3.8 loses what the client has sent by then.
    """
    protocol: Any = request.protocol
    if _CANCELS or not protocol._upgrade:
        return
    protocol._request_parser.set_upgraded(False)
    protocol._upgrade = False
    tail, protocol._message_tail = protocol._message_tail, b""
    protocol.data_received(tail)


class _CancellingServer(web.Server):
    """Ends the work for a client that has hung up."""

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        task = handler._task_handler
        if task is not None:
            task.cancel()


def cancelling_server(handler: Any, **options: Any) -> web.Server:
    """A server whose handlers are cancelled when their client hangs up."""
    if _CANCELS:
        return web.Server(handler, handler_cancellation=True, **options)
    return _CancellingServer(handler, **options)


class ClientProtocol(ResponseHandler):
    """A connection to a service, with the limits and the time-outs of later versions."""

    def prepare(self, *, head_only: bool, idle_timeout: float, bufsize: int, max_line: int) -> None:
        """Get ready for an answer; the time-out (seconds) begins with `start_timeout`."""
        options: dict[str, Any] = {
            "skip_payload": head_only,
            "read_until_eof": True,
            "auto_decompress": False,
            "read_bufsize": bufsize,
        }
        if _LIMITS:
            options |= {"max_line_size": max_line, "max_field_size": max_line}
            self.set_response_params(**options, read_timeout=idle_timeout)
            return
        # This one starts the time-out at once, and would break off a long upload.
        self.set_response_params(**options, read_timeout=None)
        self._read_timeout = idle_timeout
        self._parser = HttpResponseParser(
            self,
            self._loop,
            bufsize,
            payload_exception=ClientPayloadError,
            response_with_body=not head_only,
            read_until_eof=True,
            auto_decompress=False,
            max_line_size=max_line,
            max_field_size=max_line,
        )

    def start_timeout(self) -> None:
        """Let the time-out run from now on."""
        self._reschedule_timeout()

    def no_timeout(self) -> None:
        """Let the service be silent for as long as it likes."""
        self._read_timeout = None
        self._drop_timeout()

    def abort(self) -> None:
        """Close at once, leaving unsent what is unsent."""
        self._exception = None  # or it would keep this object alive
        transport = self.transport
        if transport is not None:
            transport.abort()
            self.transport = None
            self._payload = None
            self._drop_timeout()
