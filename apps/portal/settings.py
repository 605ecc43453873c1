# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line and the environment of the portal."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crypto import DIGESTS
from faults import Faults
from jobs import Timing

KEY_VARIABLE = "PORTAL_DEPLOYMENT_KEY"
FAULTS_VARIABLE = "PORTAL_FAULTS"
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


class BadSettings(Exception):
    """The portal cannot be started like this; the message is a sentence."""


@dataclass(frozen=True)
class Settings:
    """Everything that was asked for, checked as far as it can be without touching the data."""

    host: str
    port: int
    ready_file: Path | None
    data: Path
    static: Path
    version: str
    release: str
    hosts: tuple[str, ...]
    rate: int
    rate_window: float
    timing: Timing
    digest: str
    tls: tuple[Path, Path] | None
    allow_faults: bool
    faults: Faults
    key: str

    def __repr__(self) -> str:
        """Without the key."""
        return f"Settings({self.host}:{self.port}, data={self.data}, version={self.version})"


def _seconds(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or value < 0:
        raise ValueError(text)
    return value


def _window(text: str) -> float:
    value = _seconds(text)
    if value == 0:
        raise ValueError(text)
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def _label(text: str) -> str:
    if not LABEL.fullmatch(text):
        raise ValueError(text)
    return text


# argparse names these in its messages.
_seconds.__name__ = _window.__name__ = "number of seconds"
_count.__name__ = "count"
_label.__name__ = "label"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; the usage is for --help."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise BadSettings(f"The command line is wrong: {message}.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="portal",
        description=f"Stand-in for wicked's portal; takes the deployment key from ${KEY_VARIABLE}.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--listen", default="127.0.0.1:0", metavar="HOST:PORT", help="port 0: any free one")
    add("--ready-file", type=Path, help="written when listening: {url, pid} as JSON")
    add("--data", type=Path, required=True, help="folder of the dynamic data")
    add("--static", type=Path, required=True, help="folder with apis.json and plans.json")
    add("--version", type=_label, required=True, help="answered as X-Portal-Version")
    add("--release", type=_label, help="id of this release (default: the version)")
    add("--host", action="append", default=[], help="accepted Host; may be given again")
    add("--key-file", type=Path, help=f"the deployment key, instead of ${KEY_VARIABLE}")
    add("--lock-seconds", type=_window, default=60, help="how long an export locks")
    add("--rate", type=_count, default=25, help="deploy calls a window; 0: no limit")
    add("--rate-window", type=_window, default=60, help="seconds")
    add("--export-delay", type=_seconds, default=0, help="seconds added to an export")
    add("--import-delay", type=_seconds, default=0, help="seconds before an import's work")
    add("--webhook-delay", type=_seconds, default=0, help="seconds until an import is done")
    add("--digest", choices=DIGESTS, default=DIGESTS[0], help="key derivation of exports")
    add("--tls-cert", type=Path, help="PEM chain: serve HTTPS")
    add("--tls-key", type=Path, help="PEM key of --tls-cert")
    add("--allow-faults", action="store_true", help="tests may PUT /faults from loopback")
    return parser


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) <= 65535):
        raise BadSettings(f"--listen must be HOST:PORT, not {text!r}.")
    return host, int(port)


def _key(file: Path | None) -> str:
    # Out of the environment, so that nothing this process starts or dumps has it.
    key = os.environ.pop(KEY_VARIABLE, "")
    if file is not None:
        try:
            key = file.read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            raise BadSettings(f"The key file {file} cannot be read as text.") from None
    if not key:
        raise BadSettings(f"The deployment key is missing: set ${KEY_VARIABLE} or --key-file.")
    if not key.isprintable():
        raise BadSettings("The deployment key has characters that no header can carry.")
    return key


def _faults() -> Faults:
    try:
        return Faults.parse(json.loads(os.environ.get(FAULTS_VARIABLE) or "{}"))
    except ValueError as exc:
        raise BadSettings(f"${FAULTS_VARIABLE} is unusable: {exc}") from None


def _folder(path: Path, what: str) -> Path:
    if not path.is_dir():
        raise BadSettings(f"The folder of the {what}, {path}, does not exist.")
    return path


def _data(path: Path) -> Path:
    """The data's folder, made where only it is missing: a new portal has no data yet."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as exc:
        raise BadSettings(
            f"The folder of the dynamic data, {path}, cannot be made: {exc.strerror}."
        ) from None
    return path


def parse(arguments: Sequence[str]) -> Settings:
    """Settings from arguments and the environment. Raises BadSettings."""
    given = _parser().parse_args(arguments)
    host, port = _address(given.listen)
    if (given.tls_cert is None) != (given.tls_key is None):
        raise BadSettings("--tls-cert and --tls-key belong together.")
    if given.ready_file is not None:
        _folder(given.ready_file.absolute().parent, "ready file")
    return Settings(
        host=host,
        port=port,
        ready_file=given.ready_file,
        data=_data(given.data),
        static=_folder(given.static, "static configuration"),
        version=given.version,
        release=given.release or given.version,
        hosts=tuple(given.host),
        rate=given.rate,
        rate_window=given.rate_window,
        timing=Timing(
            lock=given.lock_seconds,
            export_delay=given.export_delay,
            import_delay=given.import_delay,
            webhook_delay=given.webhook_delay,
        ),
        digest=given.digest,
        tls=None if given.tls_cert is None else (given.tls_cert, given.tls_key),
        allow_faults=given.allow_faults,
        faults=_faults(),
        key=_key(given.key_file),
    )
