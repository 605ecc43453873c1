# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is hidden of a text: no secret of any length stands in it, and all else stays readable."""

from __future__ import annotations

import base64
import json
import re
import shlex
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.immutable.delivery.plugins.module_utils.delivery_module import (
    hide_arguments,
    learn_secrets,
)
from ansible_collections.immutable.delivery.plugins.module_utils.redaction import (
    HIDDEN,
    IN_ARGUMENTS,
    LONG,
    Redaction,
    names_secret,
    passwords_in,
    split_settings,
)

SECRETS = st.text(
    st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs", "Cc")),
    min_size=1,
    max_size=44,
).filter(lambda text: bool(text.strip()))
LETTERS = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=44)
WORDS = ("deploy", "of", "the", "instance", "demo-1", "at", "http://127.0.0.1:8080/x", "failed")


def words_of(text: str) -> list[str]:
    """The words and numbers of a text."""
    return re.findall(r"\d+(?:[.:]\d+)*(?!\w)|\w+", text)


@given(LETTERS, st.lists(st.sampled_from(WORDS), max_size=6), st.integers(0, 6))
def test_a_secret_is_in_no_text_as_a_word(secret: str, words: list[str], place: int) -> None:
    known = Redaction([secret])
    for written in (secret, f"'{secret}'", f"key={secret}", f"key: {secret}", f"x://u:{secret}@h"):
        words.insert(place, written)
        shown = known.text(" ".join(words))
        assert secret not in words_of(shown.replace(HIDDEN, " "))
        assert len(secret) < LONG or secret not in shown
        assert HIDDEN in shown


@given(st.lists(SECRETS, min_size=1, max_size=4), st.text(max_size=5), st.text(max_size=5))
def test_long_secrets_are_in_no_text_at_all(secrets: list[str], before: str, after: str) -> None:
    known = Redaction(secrets)
    text = before + "".join(secrets) + after
    shown = known.text(text)
    for secret in secrets:
        assert len(secret) < LONG or secret not in shown.replace(HIDDEN, "\0")


@given(SECRETS)
def test_a_secret_is_hidden_however_it_is_written(secret: str) -> None:
    known = Redaction([secret])
    written = [
        json.dumps(secret),
        json.dumps(secret, ensure_ascii=False),
        json.dumps({"key": secret}),
        repr([secret]),
        repr(secret.encode()),
        f"p={quote(secret, safe='')}&",
        f"curl -u {shlex.quote(secret)} x",
        f"Basic {base64.b64encode(secret.encode()).decode().rstrip('=')}",
    ]
    for text in written:
        assert HIDDEN in known.text(text), text


@given(SECRETS)
def test_each_line_of_a_secret_is_hidden(secret: str) -> None:
    known = Redaction([f"BEGIN of it\n{secret}\nthe END"])
    for line in secret.splitlines():
        if any(map(str.isalnum, line)):
            assert HIDDEN in known.text(line)
    assert known.text("line: BEGIN of it, ") == f"line: {HIDDEN}, "


@given(st.lists(LETTERS.filter(lambda text: len(text) < LONG), max_size=5))
def test_what_is_no_secret_stays_as_it_is(secrets: list[str]) -> None:
    longer = "xx".join(["", *secrets, ""])
    assert Redaction(secrets).text(f"{longer} 7") == f"{longer} {HIDDEN if '7' in secrets else 7}"
    assert Redaction(secrets).value({"pid": 7, "up": True, "none": None, "x": [1.5]}) == (
        {"pid": 7, "up": True, "none": None, "x": [1.5]}
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("took 1.5 s, v1, 10 of 11", "took 1.5 s, v1, 10 of 11"),
        ("took 1 s; it ended with 1.", f"took {HIDDEN} s; it ended with {HIDDEN}."),
        ("at 10.0.0.1:80 and :1", f"at 10.0.0.1:80 and :{HIDDEN}"),
        ("xfoobarbaz12y", f"x{HIDDEN}y"),
        ("ok!! or '!!'", f"ok!! or '{HIDDEN}'"),
        ("Maß ß", f"Maß {HIDDEN}"),
        ("LEVEL=info LEVEL: 'info' info", f"LEVEL={HIDDEN} LEVEL: '{HIDDEN}' info"),
        ('{"LEVEL": "info", "MYLEVEL": "info"}', f'{{"LEVEL": "{HIDDEN}", "MYLEVEL": "info"}}'),
    ],
)
def test_where_a_secret_is_hidden(text: str, shown: str) -> None:
    known = Redaction(["1", "foobar", "barbaz12", "!!", "ß"], [("LEVEL", "info")])
    assert known.text(text) == shown


@pytest.mark.parametrize("name", ["DB_PASSWORD", "PGPASSWORD", "apiKey", "X-Auth-Token", "KEY_2"])
def test_names_of_secrets(name: str) -> None:
    assert names_secret(name)


@pytest.mark.parametrize("name", ["KEYCLOAK_REALM", "MONKEY", "TOKEN_TTL", "PASSWORD_FILE", ""])
def test_names_of_other_things(name: str) -> None:
    assert not names_secret(name)


def test_what_of_an_environment_is_secret() -> None:
    ordinary = {
        "LEVEL": "info",
        "PORT": "8080",
        "ON": "true",
        "AT": "10.0.0.1",
        "V": "1.2",
        "NO": "",
    }
    secret = {
        "PIN": "7",
        "DB_PASSWORD": "info",
        "CODE": "x7!q",
        "NUMBER": "123456",
        "URL": "redis://x",
    }
    secrets, settings = split_settings({**ordinary, **secret})
    assert secrets == {"7", "info", "x7!q", "123456", "redis://x"}
    assert settings == {
        *(("LEVEL", "info"), ("PORT", "8080"), ("ON", "true"), ("AT", "10.0.0.1"), ("V", "1.2"))
    }


def test_passwords_of_addresses() -> None:
    text = "see http://u:p%40w@h:1/x, amqp://u:@h and https://ghp_x@github.com, ssh://me@h, a@b"
    assert set(passwords_in(text)) == {"p%40w", "p@w", "", "ghp_x"}


SPEC: dict[str, Any] = {
    "name": {"type": "str"},
    "url": {"type": "str"},
    "password": {"type": "str", "no_log": True, "aliases": ["secret_word"]},
    "environment": {"type": "dict", "no_log": True},
    "consul": {"type": "dict", "options": {"token": {"no_log": True}, "prefix": {"type": "str"}}},
    "services": {"type": "list", "no_log": True, "options": {"password": {"no_log": True}}},
}


@pytest.mark.parametrize(
    ("params", "arguments"),
    [
        ({"name": "demo", "password": "x"}, {"name": "demo", "password": IN_ARGUMENTS}),
        ({"secret_word": "x"}, {"secret_word": IN_ARGUMENTS}),
        ({"password": None}, {"password": None}),
        ({"url": "http://u:x@h"}, {"url": f"http://u:{HIDDEN}@h"}),
        (
            {"environment": {"PIN": "x", "B": 1}},
            {"environment": dict.fromkeys(["PIN", "B"], IN_ARGUMENTS)},
        ),
        (
            {"environment": "PASS=x B=1"},
            {"environment": dict.fromkeys(["PASS", "B"], IN_ARGUMENTS)},
        ),
        (
            {"consul": {"token": "x", "prefix": "p"}},
            {"consul": {"token": IN_ARGUMENTS, "prefix": "p"}},
        ),
        ({"consul": "token=x prefix=p"}, {"consul": {"token": IN_ARGUMENTS, "prefix": "p"}}),
        (
            {"services": [{"password": "x", "n": "y"}]},
            {"services": [{"password": IN_ARGUMENTS, "n": "y"}]},
        ),
        ({"services": ["odd"]}, {"services": [IN_ARGUMENTS]}),
        # Misspelt, so Ansible knows nothing of it.
        (
            {"registry_passwort": "y", "tokn_token": "x"},
            {"registry_passwort": "y", "tokn_token": IN_ARGUMENTS},
        ),
    ],
)
def test_how_arguments_are_shown(params: dict[str, Any], arguments: dict[str, Any]) -> None:
    known = Redaction()
    learn_secrets(known, SPEC, params)
    assert hide_arguments(known, SPEC, params) == arguments
    there = re.search(r"\bx\b", str(params)) is not None
    assert known.text("say x here") == (f"say {HIDDEN} here" if there else "say x here")
