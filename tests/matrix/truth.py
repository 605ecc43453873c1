# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a failure says what is true: its message, and the state that it claims. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.matrix.flows import Kept

# What a state says of containers by their names, and whether they run then; None: they are gone.
CLAIMS: Sequence[tuple[str, bool | None]] = (
    (r"live as before: ([^;.]*)", True),
    (r"([^;.:]*?) serves? (?:port \d+ )?again", True),
    (r"([^;.:]*?) (?:was|were) stopped again", False),
    (r"([^;.:]*?) (?:was|were) removed", None),
)
NOBODY = "live as before: "


def false_claims(state: str, containers: Iterable[Kept]) -> list[str]:
    """Return what *state* says of containers that is not so."""
    by_name = {one.name: one for one in containers}
    found = []
    for pattern, runs in CLAIMS:
        for match in re.finditer(pattern, state, re.IGNORECASE):
            said = re.sub(r" at \S+", "", match[1])
            for name in filter(None, re.split(r", | and |\s", said)):
                one = by_name.get(name)
                if runs is None:
                    if one is not None:
                        found.append(f"'{match[0].strip()}', but {name} is {one.status}")
                elif one is not None and one.running != runs:
                    found.append(f"'{match[0].strip()}', but {name} is {one.status}")
                elif one is None and runs and re.search(r"-\d+$", name):
                    found.append(f"'{match[0].strip()}', but there is no {name}")
    return found


def faults_of_message(result: Mapping[str, Any], logged: str) -> list[str]:
    """Return what a failure's message lacks.

    :param logged: what the log of the container that failed says.
    """
    found = []
    text = str(result.get("msg", ""))
    if not result.get("next_step"):
        found.append("no next_step")
    if not result.get("state"):
        found.append("no state")
    if "Traceback" in text:
        found.append("a traceback")
    if logged and logged not in " ".join([text, *map(str, result.get("log") or ())]):
        found.append("no lines of its log")
    if "exit code 0" in text:
        found.append("'exit code 0' of one that crashed with 3")
    elif "exit code 3" not in text and "restarted" not in text:
        found.append("the exit code is not said")
    if re.search("somebody else|who else", text + str(result.get("next_step"))):
        found.append("blames somebody else")
    return found


def first_sentence(result: Mapping[str, Any]) -> str:
    """Return the first sentence of a message, without its log."""
    text = str(result.get("msg", ""))
    return re.split(r"\. |; its last lines", text)[0][:160]
