# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What may not be shown, and how text is shown without it. One rule for the whole collection.

- A *secret* is the value of an option with ``no_log``, and a password in an address.
- If such an option is a dict, such as an environment, each value of it is a secret, except for an
  *ordinary* one: a short word or number, or an address, of a variable whose name does not end as
  a secret's does (``DB_PASSWORD``). That is hidden only beside its name: ``LOG_LEVEL=info``.
- A secret of :data:`LONG` or more characters is hidden everywhere. A shorter one is hidden where it
  is no part of a longer word or number, or every message with a 1 in it would become unreadable.
- Each line of a secret is one, too. So is what it becomes in JSON, in an address, in ``repr``, in
  a shell's quotes and in Base64.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

HIDDEN = "********"
# What Ansible itself writes in place of an argument.
IN_ARGUMENTS = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
LONG = 6

# How the name of a secret ends: as a part of its last word, or as the whole of it.
_ENDINGS = (
    *("password", "passwd", "passphrase", "secret", "token", "credential", "credentials"),
    *("apikey", "authorization", "cookie"),
)
_WORDS = frozenset({"pass", "pwd", "key", "pin", "otp", "auth", "dsn"})
_BETWEEN_WORDS = re.compile(r"[^A-Za-z]+|(?<=[a-z])(?=[A-Z])")
_ORDINARY = re.compile(r"|true|false|[A-Za-z]?[a-z]*|[A-Z]+|v?[0-9][0-9.:]*[A-Za-z]{0,2}")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#]*@")
# What may be before and after a short secret that has no letter or digit.
_APART = r"\s\"'`=:,;()\[\]{}<>"


class Redaction:
    """Knows secrets, and returns what is to be shown without them.

    :param secrets: the values that are never shown.
    :param settings: names and values that are not shown side by side.
    """

    def __init__(
        self, secrets: Iterable[str] = (), settings: Iterable[tuple[str, str]] = ()
    ) -> None:
        self._patterns: dict[str, re.Pattern[str]] = {}
        self._settings: dict[tuple[str, str], re.Pattern[str]] = {}
        self.learn(secrets, settings)

    def learn(self, secrets: Iterable[str], settings: Iterable[tuple[str, str]] = ()) -> None:
        """Hide these as well from now on."""
        for secret in secrets:
            for form in _forms(secret):
                self._patterns.setdefault(form, _pattern(form))
        for name, value in settings:
            self._settings.setdefault((name, value), _beside(name, value))

    def text(self, shown: str) -> str:
        """Return *shown* without the secrets."""
        spans = [
            (found.start(1), found.end(1))
            for form, pattern in self._patterns.items()
            if form in shown
            for found in pattern.finditer(shown)
        ]
        for (name, _value), pattern in self._settings.items():
            if name in shown:
                spans += [found.span(1) for found in pattern.finditer(shown)]
        parts, end = [], 0
        # Two that overlap are hidden as one: the end of neither is left.
        for start, stop in sorted(spans):
            if start >= end:
                parts += [shown[end:start], HIDDEN]
            end = max(end, stop)
        return "".join([*parts, shown[end:]])

    def value(self, shown: Any) -> Any:
        """Return a result without the secrets. Numbers and the names in a dict stay as they are."""
        if isinstance(shown, str):
            return self.text(shown)
        if isinstance(shown, Mapping):
            return {name: self.value(item) for name, item in shown.items()}
        if isinstance(shown, (list, tuple, set, frozenset)):
            return [self.value(item) for item in shown]
        return shown

    @property
    def long(self) -> set[str]:
        """The secrets that may be hidden as a part of any text."""
        return {form for form in self._patterns if len(form) >= LONG and not form.isdigit()}


# What this process knows: a module is a process of its own, with the options of one task.
KNOWN = Redaction()


def redact(shown: str) -> str:
    """Return *shown* without the secrets of this process."""
    return KNOWN.text(shown)


def names_secret(name: str) -> bool:
    """Tell whether what has that name is a secret: ``DB_PASSWORD``, but not ``PASSWORD_FILE``."""
    words = [word.lower() for word in _BETWEEN_WORDS.split(name) if word]
    return bool(words) and (words[-1] in _WORDS or words[-1].endswith(_ENDINGS))


def split_settings(settings: Mapping[str, str]) -> tuple[set[str], set[tuple[str, str]]]:
    """Return the secrets among an environment's values, and the ordinary ones by their names."""
    secrets, ordinary = set(), set()
    for name, value in settings.items():
        if names_secret(name) or not _is_ordinary(value):
            secrets.add(value)
        elif value:
            ordinary.add((name, value))
    return secrets, ordinary


def passwords_in(text: str) -> Iterator[str]:
    """Yield the passwords of the addresses in a text, as they are written and as they are meant."""
    for found in _ADDRESS.finditer(text):
        try:
            user = urlsplit(found[0]).netloc.rpartition("@")[0]
        except ValueError:
            user = found[0].partition("://")[2].rpartition("@")[0]
        name, colon, password = user.partition(":")
        # Some services take a token as the name of a user without a password.
        secret = password if colon else name if found[0].startswith("http") else ""
        yield from {secret, unquote(secret)}


def _is_ordinary(value: str) -> bool:
    if len(value) < LONG and _ORDINARY.fullmatch(value):
        return True
    try:
        ipaddress.ip_address(value.rpartition(":")[0] if value.count(":") == 1 else value)
    except ValueError:
        return False
    return True


def _forms(secret: str) -> set[str]:
    """Return what is to be hidden of a secret."""
    lines = {secret, secret.strip(), *(line.strip() for line in secret.splitlines())}
    # A line such as } of a secret that is JSON tells nothing.
    told = {line for line in lines if any(map(str.isalnum, line)) or line == secret.strip()}
    found = {form for line in told if line for form in (line, *_encoded(line))}
    return {form for form in found if form.strip()}


def _encoded(secret: str) -> Iterator[str]:
    data = secret.encode("utf-8", "surrogateescape")
    for ascii_only in (True, False):
        escaped = json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
        yield escaped
        # Go writes these so.
        for character in "&<>":
            escaped = escaped.replace(character, f"\\u{ord(character):04x}")
        yield escaped
    yield repr(secret)[1:-1]
    yield repr(data)[2:-1]
    yield quote(data)
    yield quote(data, safe="")
    yield quote_plus(data)
    yield secret.replace("'", "'\"'\"'")
    yield secret.replace("'", "'\\''")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(data).decode().rstrip("=")


def _pattern(form: str) -> re.Pattern[str]:
    """Return what finds a form; each match may overlap the one before."""
    text = re.escape(form)
    before = after = ""
    if len(form) < LONG:
        if re.search(r"\w", form) is None:
            before, after = f"(?<![^{_APART}])", f"(?![^{_APART}])"
        else:
            before = r"(?<!\w)" if re.match(r"\w", form) else ""
            before += r"(?<!\d[.:])" if form[0].isdigit() else ""
            after = r"(?!\w)" if re.search(r"\w\Z", form) else ""
            after += r"(?![.:]\d)" if form[-1].isdigit() else ""
    return re.compile(f"{before}(?=({text}){after})")


def _beside(name: str, value: str) -> re.Pattern[str]:
    """Return what finds a value beside its name, as in ``NAME=value`` and ``"NAME": "value"``."""
    return re.compile(
        rf"(?<!\w){re.escape(name)}[\"']?\s*[=:]\s*(?:b?[\"'])?({re.escape(value)})(?!\w)"
    )
