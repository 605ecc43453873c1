# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A task's failure as one block of text, for a flow that rescues it and then fails itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.immutable.delivery.plugins.module_utils.errors import (
    DeliveryError,
    cut_log,
    join_sentences,
    sentence,
)

STATE = "State: "
NEXT_STEP = "Next step: "
LOG = "Last lines:"


@dataclass
class _Parts:
    message: str
    state: str = ""
    next_step: str = ""
    log: list[str] = field(default_factory=list)


def format_failure(
    result: Mapping[str, Any] | str, what: str = "", state: str = "", next_step: str = ""
) -> str:
    """Return what failed, the current state, the next step and the last lines, each by itself.

    :param result: a failed task's, or text that this function returned.
    :param what: what the flow was doing, such as "The deploy of demo v24 failed".
    :param state: the state that the flow has seen since; its own words for the task's
        "Nothing was changed."
    :param next_step: what to do next, beside what the task says.
    """
    parts = _read({"msg": result} if isinstance(result, str) else result)
    message = parts.message.strip()
    if what:
        message = f"{what.strip()}: {message}"
    known = "" if state.strip() and parts.state == DeliveryError.usual_state else parts.state
    lines = [sentence(message)]
    if now := join_sentences(known, state):
        lines.append(STATE + now)
    if then := join_sentences(parts.next_step, next_step):
        lines.append(NEXT_STEP + then)
    if parts.log:
        lines += [LOG, *(f"  {line}" for line in parts.log)]
    return "\n".join(lines)


def _read(result: Mapping[str, Any]) -> _Parts:
    """Return the parts of a failed task's result; of a loop's, those of the last that failed."""
    failed = [one for one in result.get("results") or () if one.get("failed")]
    if failed:
        return _read(failed[-1])
    message = str(result.get("msg") or "no message")
    if "next_step" in result:
        state, next_step = str(result.get("state") or ""), str(result["next_step"])
        message = message.removesuffix(next_step).rstrip().removesuffix(state)
        return _Parts(message, state, next_step, cut_log(result.get("log") or ()))
    if any(f"\n{mark}" in message for mark in (STATE, NEXT_STEP, LOG)):
        return _parse(message)
    output = str(result.get("stderr") or result.get("stdout") or "")
    return _Parts(message, log=cut_log(output.splitlines()))


def _parse(text: str) -> _Parts:
    """Read what :func:`format_failure` wrote in a flow within a flow."""
    head, _mark, log = text.partition(f"\n{LOG}\n")
    parts = _Parts("", log=[line.removeprefix("  ") for line in log.splitlines()])
    message = []
    for line in head.splitlines():
        if line.startswith(STATE):
            parts.state = line.removeprefix(STATE)
        elif line.startswith(NEXT_STEP):
            parts.next_step = line.removeprefix(NEXT_STEP)
        else:
            message.append(line)
    parts.message = "\n".join(message)
    return parts


class FilterModule:
    """Filters for failures."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """Return them by name."""
        return {"format_failure": format_failure}
