# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running stand-in portal for tests, with the calls that most of them need."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any

import requests

from tests.support.apps import AppProcess, start_app
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
MAIN = ROOT / "apps" / "portal" / "main.py"
STATIC = ROOT / "apps" / "portal" / "static"
STATIC_INCOMPATIBLE = ROOT / "apps" / "portal" / "static-incompatible"
EXPORT = ROOT / "tests" / "data" / "portal-export.tgz.enc"
EXPORT_MD5 = ROOT / "tests" / "data" / "portal-export-md5.tgz.enc"
EXPORT_COUNTS = {"users": 155, "applications": 150, "subscriptions": 113}
KEY = "ThisIsUsedInDeploy"


@dataclass
class Portal:
    """A portal process; its session takes no proxies from the environment."""

    app: AppProcess
    key: str
    data: Path
    session: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        self.session.trust_env = False

    @property
    def url(self) -> str:
        return self.app.url

    @property
    def process(self) -> Popen[bytes]:
        return self.app.process

    def stop(self) -> int:
        """End it gracefully; the exit code."""
        return self.app.stop()

    def kill(self) -> None:
        self.app.kill()

    def log(self) -> str:
        return self.app.log()

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """Any request, without the deployment key."""
        return self.session.request(method, self.url + path, **{"timeout": 30, **options})

    def deploy(self, method: str, path: str, **options: Any) -> requests.Response:
        """A call of the deploy API, path without its prefix, with the deployment key."""
        headers = {"Authorization": self.key, **options.pop("headers", {})}
        return self.call(method, f"/deploy/v1/{path}", headers=headers, **options)

    def faults(self, **faults: Any) -> None:
        """Replace the faults (needs allow_faults, which start_portal gives by default)."""
        response = self.call("PUT", "/faults", json=faults)
        assert response.status_code == 200, response.text

    def wait_for(self, path: str, timeout: float = 30) -> requests.Response:
        """The first answer of a status path that is not 204."""

        def ended() -> list[requests.Response]:  # a list: an error answer is false itself
            response = self.deploy("GET", path)
            return [] if response.status_code == 204 else [response]

        return eventually(ended, f"{path} has ended", timeout)[0]

    def locked(self) -> bool:
        locked: bool = self.call("GET", "/health").json()["locked"]
        return locked

    def begin_export(self) -> str:
        response = self.deploy("POST", "export")
        assert response.status_code == 201, response.text
        export_id: str = response.json()["exportId"]
        return export_id

    def export(self) -> tuple[str, bytes]:
        """A finished export, still locking: its id and its archive."""
        export_id = self.begin_export()
        assert self.wait_for(f"export/{export_id}/status").status_code == 200
        return export_id, self.deploy("GET", f"export/{export_id}/data").content

    def post_import(self, archive: bytes, sha256: str | None = None) -> requests.Response:
        sha256 = hashlib.sha256(archive).hexdigest() if sha256 is None else sha256
        return self.deploy("POST", "import", data=archive, headers={"X-SHA256-Hash": sha256})

    def import_archive(self, archive: bytes) -> requests.Response:
        """Import to the end; the last status answer."""
        response = self.post_import(archive)
        assert response.status_code == 201, response.text
        return self.wait_for(f"import/{response.json()['importId']}/status")

    def leavings(self) -> list[str]:
        """What lies in the data folder's tmp/, but for the file that claims the folder."""
        return [path.name for path in (self.data / "tmp").iterdir() if path.name != "in-use"]

    def counts(self) -> dict[str, int]:
        counts: dict[str, int] = self.call("GET", "/counts").json()
        return counts

    def sign_up(self, name: str) -> requests.Response:
        body = {"firstName": name, "lastName": "Tester", "email": f"{name}@example.org"}
        return self.call("POST", "/users", json=body)


def portal_argv(data: Path, ready_file: Path, /, **options: Any) -> list[str]:
    """The command line; options are its options with underscores, a list for a repeated one.

    Left out: version v24, the fitting static configuration, no rate limit, faults allowed.
    """
    given = {
        "listen": "127.0.0.1:0",
        "ready_file": ready_file,
        "data": data,
        "static": STATIC,
        "version": "v24",
        "rate": 0,
        "allow_faults": True,
        **options,
    }
    argv = [sys.executable, str(MAIN)]
    for name, value in given.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            argv.append(option)
        elif value is not False and value is not None:
            for one in value if isinstance(value, list) else [value]:
                argv += [option, str(one)]
    return argv


@contextmanager
def start_portal(
    tmp_path: Path,
    *,
    name: str = "portal",
    key: str = KEY,
    env: Mapping[str, str] | None = None,
    **options: Any,
) -> Iterator[Portal]:
    """A portal whose data is tmp_path/NAME (made where missing, kept), ended in the end.

    options: see portal_argv. Raises AppDidNotStart where it refuses.
    """
    data = Path(options.pop("data", tmp_path / name))
    data.mkdir(exist_ok=True)
    ready_file = tmp_path / f"{name}.ready.json"
    argv = portal_argv(data, ready_file, **options)
    app = start_app(argv, {"PORTAL_DEPLOYMENT_KEY": key, **(env or {})}, ready_file)
    portal = Portal(app=app, key=key, data=data)
    try:
        yield portal
    finally:
        portal.session.close()
        if app.process.poll() is None:
            app.stop()
