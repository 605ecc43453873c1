# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults that tests ask for; all are off in a portal that nobody asked."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


@dataclass
class Faults:
    """One field a fault; README.md says what each does."""

    export_fails: bool = False
    import_fails: bool = False
    export_never_done: bool = False
    truncate_data: int | None = None
    wrong_hash: bool = False
    html_answers: bool = False
    drop_connection_on: str | list[str] | None = None
    drop_times: int | None = None
    slow_ms: float = 0
    lapse_now: bool = False
    cancel_slow: int = 0

    @classmethod
    def parse(cls, value: Any) -> Faults:
        """Faults from a JSON object. Raises ValueError with a sentence."""
        if not isinstance(value, dict):
            raise ValueError("Faults are a JSON object.")
        allowed: dict[str, tuple[type, ...]] = {
            "truncate_data": (int, type(None)),
            "drop_connection_on": (str, list, type(None)),
            "drop_times": (int, type(None)),
            "slow_ms": (int, float),
            "cancel_slow": (int,),
        }
        names = {field.name for field in fields(cls)}
        for name, given in value.items():
            if name not in names:
                raise ValueError(
                    f"There is no fault {name!r}; there are {', '.join(sorted(names))}."
                )
            kinds = allowed.get(name, (bool,))
            if not isinstance(given, kinds) or (isinstance(given, bool) and bool not in kinds):
                raise ValueError(f"The value of fault {name!r} is of the wrong type.")
            if isinstance(given, int | float) and given < 0:
                raise ValueError(f"The value of fault {name!r} is negative.")
        return cls(**value)

    def drops(self, method: str, path: str) -> bool:
        """Whether to cut this request's connection; counts down drop_times."""
        wanted = self.drop_connection_on or []
        for rule in [wanted] if isinstance(wanted, str) else wanted:
            rule_method, _space, prefix = str(rule).partition(" ")
            if rule_method in (method, "*") and path.startswith(prefix):
                if self.drop_times is not None:
                    if self.drop_times <= 0:
                        return False
                    self.drop_times -= 1
                return True
        return False
