# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets of all lengths that are planted in options, and the search for what shows them.

The search is not that of the collection: it knows no rule but that of words.
"""

from __future__ import annotations

import http.server
import json
import re
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LETTERS = "ZYXWVUTSRPNMLKHGFDCB"
# By their lengths; each has one for each of a module's options, and none is a word of a message.
KINDS: dict[str, tuple[str, ...]] = {
    "1": tuple("QJŴЖ§ØßY¥ЮЩÞĦŊŦЯЂЏÆŒ"),
    "3": tuple(f"{a}q7" for a in LETTERS),
    "5": tuple(f"{a}9#Kw" for a in LETTERS),
    "6": tuple(f"{a}8$Wvv" for a in LETTERS),
    "40": tuple(f"{a}m4" * 13 + "!" for a in LETTERS),
    "lines": tuple(f'{a}q1x"\n{a}y2\n{{\n\t{a}longer line\\of it' for a in LETTERS),
    "not ASCII": tuple(f"{a}Ünï©ø€&<>%'" for a in LETTERS),
}


def shown(text: str, secrets: Iterable[str]) -> list[str]:
    """Which lines of the secrets a text shows; the short ones as words of their own."""
    found = []
    for secret in secrets:
        for line in filter(None, map(str.strip, secret.splitlines())):
            if line != secret and not any(map(str.isalnum, line)):
                continue
            forms = (line, line.encode("unicode_escape").decode(), json.dumps(line)[1:-1])
            for form in dict.fromkeys(forms):
                pattern = re.escape(form)
                if len(form) < 6:
                    pattern = rf"(?<!\w){pattern}(?!\w)"
                if re.search(pattern, text):
                    found.append(form)
    return found


def files_showing(folder: Path, secrets: Collection[str], but: Iterable[Path] = ()) -> list[str]:
    """The files below a folder that show a secret; *but* those that it belongs in."""
    own, found = set(but), []
    for path in sorted(folder.rglob("*")):
        with suppress(OSError):
            if path in own or not path.is_file() or path.is_symlink():
                continue
            if lines := shown(path.read_bytes().decode("utf-8", "replace"), secrets):
                found.append(f"{path}: {lines}")
    return found


class _Echo(http.server.BaseHTTPRequestHandler):
    """Refuses every request, and says all of it again, as a careless server does."""

    def _refuse(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length).decode("utf-8", "replace")
        said = f"no {self.command} {self.path} with {dict(self.headers)} and {body}"
        answer = json.dumps(dict.fromkeys(("message", "error", "Message"), said)).encode()
        self.send_response(400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _refuse

    def log_message(self, *_arguments: object) -> None:
        """Nobody reads it."""


@contextmanager
def echo_server() -> Iterator[str]:
    """The address of a server that refuses everything, and repeats it in its answer."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
