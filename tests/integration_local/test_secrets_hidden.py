# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No module shows a secret, of whatever length, in whatever option: made from the modules' options.

A new option with ``no_log`` is among them by itself. The servers repeat what they were sent.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from ansible.module_utils import basic

from tests.support.secrets_planted import KINDS, echo_server, files_showing, shown
from tests.support.specs import PACKAGE, module_names, plant, secret_paths, spec_of, walk

ROUTERS = ("registry", "etcd", "consul", "alb")
ADDRESSES = ("url", "urls", "endpoint", "endpoints", "address", "docker_host")
# It takes any number, so all kinds of secrets go into it at once.
VARIABLE = "DB_PASSWORD"


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    with echo_server() as url:
        yield url


def run_forked(folder: Path, module: str, arguments: Mapping[str, Any]) -> str:
    """Run a module in a child of this process; return its output, and what it wrote to syslog."""
    main = importlib.import_module(f"{PACKAGE}.{module}").main
    output = folder / "output"
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            os.chdir(folder)
            os.environ.update(TMPDIR=str(folder), HOME=str(folder))
            for name in [name for name in os.environ if name.startswith(("DOCKER_", "AWS_"))]:
                del os.environ[name]
            tempfile.tempdir = None
            handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            for number in (1, 2):
                os.dup2(handle, number)
            sys.stdout = sys.stderr = io.TextIOWrapper(io.FileIO(1, "w", closefd=False))
            basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": dict(arguments)}).encode()
            basic._ANSIBLE_PROFILE = "legacy"
            basic.AnsibleModule._log_to_syslog = lambda self, msg: print("syslog:", msg)
            main()
        except SystemExit:
            pass
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(0)
    os.waitpid(child, 0)
    return output.read_text()


def scenarios(module: str, echo: str, folder: Path) -> list[dict[str, Any]]:
    """Arguments with which a module gets as far as its servers, one for each way to go."""
    file = folder / "file"
    file.touch()
    alb = {"load_balancer": "lb", "port": 443, "region": "eu-central-1", "endpoint_url": echo}
    targets = {"blue": "http://127.0.0.1:1", "green": "http://127.0.0.1:2"}
    router = {
        "etcd": {"endpoints": [echo], "user": "me"},
        "consul": {"address": echo},
        "alb": {**alb, "access_key": "AKIA", "target_groups": targets, "health_timeout": 1},
    }
    quick = {"timeout": 1, "health_timeout": 1, "prove_timeout": 1, "drain_timeout": 1}
    portal = {"api_url": echo, "timeout": 2, "conflict_timeout": 1, "poll_interval": 0.1}
    service = {"name": "demo", "image": "example.test/demo:1", "container_port": 8080}
    service["registry_username"] = "me"
    (folder / "compose.yml").write_text("services: {a: {image: a}}\n")
    shell = f'env; echo "password is ${VARIABLE}"; exit 3'
    own: dict[str, list[dict[str, Any]]] = {
        "alb_switch": [{**alb, "access_key": "AKIA", "state": "staged", "target_group": "blue"}],
        "compose_redeploy": [{"project_src": str(folder)}],
        "health_probe": [{"url": echo, "timeout": 1, "checks": [{"path": "/"}]}],
        "local_process": [
            {"name": "demo", "dir": str(folder / "demo"), "argv": ["/bin/sh", "-c", shell]}
        ],
        "portal_export": [{**portal, "dest": str(folder / "export")}],
        "portal_import": [{**portal, "src": str(file)}],
        "portal_lock": [{"api_url": echo, "timeout": 1, "export_id": "1", "state": "released"}],
        "portal_plan": [
            {"router": name, "api_url": echo, "service": "demo", "version": "2", "timeout": 1}
            for name in ROUTERS
        ],
        "portal_switch": [
            {
                **portal,
                "router": name,
                "router_url": echo,
                "service": "demo",
                "health_timeout": 1,
                "candidate_url": echo,
                "archive": str(file),
            }
            for name in ROUTERS
        ],
        "proxy_candidate": [
            {**quick, "router": name, "api_url": echo, "service": "demo", "state": "absent"}
            for name in ("etcd", "consul")
        ],
        "proxy_register": [
            {**quick, "router": name, "api_url": echo, "service": "demo", "state": "absent"}
            for name in ROUTERS
        ],
        "service_deploy": [service, {"services": [service]}],
        "service_heal": [{}],
        "traffic_probe": [{"dir": str(folder / "probe"), "url": echo, "timeout": 1}],
    }
    found = own.get(module, [])
    for arguments in found:
        known = spec_of(module)
        if "docker_host" in known:
            arguments["docker_host"] = echo.replace("http:", "tcp:")
        arguments.update({name: dict(router[name]) for name in router if name in known})
    return found


@pytest.mark.parametrize("turn", range(len(KINDS)))
@pytest.mark.parametrize("module", [name for name in module_names() if secret_paths(name)])
def test_no_secret_is_shown(tmp_path: Path, echo: str, module: str, turn: int) -> None:
    given = scenarios(module, echo, tmp_path)
    assert given, f"{module} has options with secrets: give it a scenario"
    # Every option gets every kind of secret in its turn, and every way has several of them.
    arguments = given[turn % len(given)]
    if turn % 2:
        arguments.update(_ansible_check_mode=True, _ansible_diff=True, _ansible_verbosity=3)
    kinds, secrets = list(KINDS.values()), []
    for number, path in enumerate(secret_paths(module)):
        if path[0] == "services" and "services" not in arguments:
            continue
        option = dict(walk(spec_of(module)))[path]
        own = kinds[(number + turn) % len(kinds)][number]
        value: Any = own
        if option.get("type") == "dict":
            values = [kind[number] for kind in kinds]
            value = {f"{VARIABLE}_{count}": text for count, text in enumerate(values)}
            value[VARIABLE] = own
            secrets += values
        plant(module, arguments, path, value)
        secrets.append(own)
    output = run_forked(tmp_path, module, arguments)
    check(output, module)
    assert shown(output, secrets) == []
    # A program's log is its own.
    logs = [path for path in tmp_path.rglob("*") if path.name == "process.log"]
    assert files_showing(tmp_path, secrets, logs) == []


ADDRESSED = [
    (module, path)
    for module in module_names()
    for path, option in walk(spec_of(module))
    if path[-1].rpartition("_")[2] in ADDRESSES and option.get("type") in {None, "str", "list"}
    if path[0] != "services"
]


@pytest.mark.parametrize(
    ("module", "path"),
    ADDRESSED,
    ids=lambda part: part if isinstance(part, str) else ".".join(part),
)
def test_no_password_of_an_address_is_shown(
    tmp_path: Path, echo: str, module: str, path: tuple[str, ...]
) -> None:
    arguments = next(iter(scenarios(module, echo, tmp_path)), {})
    kinds = list(KINDS.values())
    number = ADDRESSED.index((module, path))
    secret = kinds[number % len(kinds)][number % 7]
    if path[0] in ROUTERS:
        arguments["router"] = path[0]
    scheme = "tcp" if path[-1] == "docker_host" else "http"
    url = echo.replace("http://", f"{scheme}://me:{quote(secret, safe='')}@")
    option = dict(walk(spec_of(module)))[path]
    plant(module, arguments, path, [url] if option.get("type") == "list" else url)
    output = run_forked(tmp_path, module, arguments)
    check(output, module)
    assert shown(output, [secret, quote(secret, safe="")]) == []
    assert files_showing(tmp_path, [secret, quote(secret, safe="")]) == []


def check(output: str, module: str) -> None:
    """The module came to an end of its own, and says so in words."""
    result = json.loads(output.strip().splitlines()[-1])
    assert result["invocation"]["module_args"], module
    if result.get("failed"):
        assert len(str(result["msg"]).replace("*", "").split()) > 3, result["msg"]
