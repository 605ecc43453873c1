# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets of all lengths that are planted in options, and the search for what shows them.

The search is not that of the collection: it knows no rule but that of words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

# Each kind has as many as a module has options; none of them is a word of a message.
KINDS: dict[str, tuple[str, ...]] = {
    "1": ("Q", "J", "Ŵ", "Ж", "§", "Ø", "ß", "Y", "¥", "Ю"),
    "3": tuple(f"{a}q7" for a in "ZYXWVUTSRP"),
    "5": tuple(f"{a}9#Kw" for a in "ZYXWVUTSRP"),
    "6": tuple(f"{a}8$Wvv" for a in "ZYXWVUTSRP"),
    "40": tuple(f"{a}m4" * 13 + "!" for a in "ZYXWVUTSRP"),
    "lines": tuple(f'{a}q1x"\n{a}y2\n{{\n\t{a}longer line\\of it' for a in "ZYXWVUTSRP"),
    "not ASCII": tuple(f"{a}Ünï©ø€&<>%'" for a in "ZYXWVUTSRP"),
}


def shown(text: str, secrets: Iterable[str]) -> list[str]:
    """Which lines of the secrets a text shows; the short ones as words of their own."""
    found = []
    for secret in secrets:
        for line in filter(None, map(str.strip, secret.splitlines())):
            if not any(map(str.isalnum, line)) and len(line) < 6 and "\n" in secret:
                continue
            written = {line, line.encode("unicode_escape").decode(), ascii(line)[1:-1]}
            for form in written:
                whole = len(form) >= 6
                pattern = re.escape(form) if whole else rf"(?<!\w){re.escape(form)}(?!\w)"
                if re.search(pattern, text):
                    found.append(form)
    return found


def files_showing(folder: Path, secrets: Iterable[str], but: Iterable[Path] = ()) -> Iterator[str]:
    """The files below a folder that show a secret; *but* those that it belongs in."""
    own = set(but)
    for path in sorted(folder.rglob("*")):
        if path in own or not path.is_file() or path.is_symlink():
            continue
        with suppress(OSError):
            if lines := shown(path.read_bytes().decode("utf-8", "replace"), secrets):
                yield f"{path}: {lines}"
