# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why a request failed, out of the errors that requests, urllib3, http.client and ssl nest."""

from __future__ import annotations

import contextlib
import http.client
import ssl

# ``http`` tells people where it is missing.
with contextlib.suppress(ImportError):
    import urllib3.exceptions


def reason(error: BaseException) -> str:
    """Return the innermost reason of an error of requests, in a few words for people."""
    seen: set[int] = set()
    inner: BaseException = error
    while id(inner) not in seen:
        seen.add(id(inner))
        nested = getattr(inner, "reason", None)
        if not isinstance(nested, BaseException):
            nested = next((arg for arg in inner.args if isinstance(arg, BaseException)), None)
        if nested is None and isinstance(inner, urllib3.exceptions.NewConnectionError):
            # Before 2.0 urllib3 does not name the cause.
            nested = inner.__context__
        inner = nested or inner.__cause__ or inner
    if isinstance(inner, ssl.SSLCertVerificationError):
        return inner.verify_message.rstrip(".")
    if isinstance(inner, ssl.SSLError):
        if inner.reason == "WRONG_VERSION_NUMBER":
            return "the server does not speak TLS on this port"
        return (inner.reason or str(inner)).replace("_", " ").lower()
    if isinstance(inner, http.client.IncompleteRead):
        more = f", {inner.expected} more were due" if inner.expected is not None else ""
        return f"{_length(inner.partial)} bytes came{more}"
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    return " ".join(str(inner).split()) or type(inner).__name__


def _length(partial: bytes | int) -> int:
    """Return the count in an IncompleteRead: urllib3 puts a number where Python puts the bytes."""
    return partial if isinstance(partial, int) else len(partial)


def never_sent(error: BaseException) -> bool:
    """Tell whether the connection failed before it stood."""
    failures = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
    for arg in (*error.args, error.__cause__):
        inner = arg.reason if isinstance(arg, urllib3.exceptions.MaxRetryError) else arg
        if isinstance(inner, failures):
            return True
    return False
