# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HAProxy's answers and the runtime API's client, against a socket that answers as it is told."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import RouterError
from ansible_collections.immutable.delivery.plugins.module_utils.routers.haproxy import HaProxy
from ansible_collections.immutable.delivery.plugins.module_utils.routers.haproxy_backends import (
    as_targets,
    is_slot,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.haproxy_options import (
    haproxy_of,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.haproxy_parse import (
    Garbage,
    parse_counts,
    parse_map,
    parse_servers,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.haproxy_runtime import (
    Runtime,
)

SERVERS = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_port srv_use_ssl
4 demo-a 1 t1 127.0.0.1 2 4 18481 0
4 demo-a 2 t2 ::1 2 0 443 1
4 demo-a 3 t3 127.0.0.1 0 5 1 0
"""
STAT = """# pxname,svname,scur,status,check_status,last_chk
web,FRONTEND,4,OPEN,,
demo-a,t1,3,UP 1/2,L7OK,"HTTP, fine"
demo-a,t2,0,DOWN,L4CON,
demo-a,t3,0,MAINT,,
demo-a,t4,0,no check,,
demo-a,BACKEND,3,UP,,
"""
REGISTERED = "0x1 demo demo-a\n0x2 demo:weight 10\n"


def test_map() -> None:
    assert parse_map("") == {}
    assert parse_map("0x1 demo demo-a\n0x2 demo:weight 10") == {
        "demo": "demo-a",
        "demo:weight": "10",
    }
    # HAProxy finds the first one of two.
    assert parse_map("0x1 a b\n0x2 a c") == {"a": "b"}


def test_servers() -> None:
    servers = parse_servers(SERVERS)
    assert [server.url for server in servers] == [
        "http://127.0.0.1:18481",
        "https://[::1]:443",
        None,
    ]
    assert {server.backend for server in servers} == {"demo-a"}


def test_counts() -> None:
    counts = parse_counts(STAT)
    assert [count.name for count in counts] == ["t1", "t2", "t3", "t4", "BACKEND"]
    assert [count.up for count in counts] == [True, False, False, True, True]
    assert [count.maintained for count in counts] == [False, False, True, False, False]
    assert [count.sessions for count in counts if count.whole] == [3]
    assert counts[0].check == "L7OK HTTP, fine"


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_map, "hello"),
        (parse_map, "0x1 alone"),
        (parse_map, "<html>"),
        (parse_servers, ""),
        (parse_servers, "2\n# be_id be_name\n"),
        (parse_servers, SERVERS + "4 demo-a\n"),
        (parse_servers, SERVERS.replace("18481", "port")),
        (parse_counts, ""),
        (parse_counts, "pxname,svname,scur\n"),
        (parse_counts, STAT.replace("t1,3,", "t1,three,")),
        (parse_counts, "# pxname,svname,scur\na,b,1\n"),
    ],
)
def test_garbage(parse: object, text: str) -> None:
    assert callable(parse)
    with pytest.raises(Garbage):
        parse(text)


@pytest.mark.parametrize(
    ("backend", "service", "is_one"),
    [
        ("demo-a", "demo", True),
        ("demo-z", "demo", True),
        ("demo-a-a", "demo", False),
        ("demo-a-a", "demo-a", True),
        ("demo", "demo", False),
        ("demo-1", "demo", False),
        ("demos-a", "demo", False),
    ],
)
def test_which_backends_are_a_services(backend: str, service: str, is_one: bool) -> None:
    assert is_slot(backend, service) is is_one


def test_targets() -> None:
    assert as_targets(["http://10.0.0.5", "https://[::1]/"]) == (
        "http://10.0.0.5:80",
        "https://[::1]:443",
    )


@pytest.mark.parametrize(
    ("urls", "message"),
    [
        ([], "at least one address"),
        (["http://10.0.0.5", "http://10.0.0.5:80/"], "none of them twice"),
        (["http://portal.internal:80"], "does not look up names"),
        (["ftp://10.0.0.5"], "Give http or https"),
        (["http://10.0.0.5:99999"], "Give http or https"),
        (["http://10.0.0.5/base"], "a backend has no path"),
    ],
)
def test_targets_that_haproxy_cannot_have(urls: list[str], message: str) -> None:
    with pytest.raises(RouterError, match=message):
        as_targets(urls)


# The client.


class Fake:
    """Answers each command by what its beginning stands for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, bytes] = {}
        self.asked: list[str] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _address = self._listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.settimeout(10)
                command = connection.makefile().readline().strip()
                self.asked.append(command)
                for beginning, answer in self.answers.items():
                    if command.startswith(beginning):
                        connection.sendall(answer)
                        break

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@pytest.fixture
def fake() -> Iterator[Fake]:
    # The path of a unix socket is short.
    with tempfile.TemporaryDirectory() as folder:
        server = Fake(Path(folder) / "s")
        yield server
        server.close()


def router(fake: Fake, folder: Path) -> HaProxy:
    (folder / "m.map").touch()
    return HaProxy(
        Runtime(str(fake.path), 10),
        "http://127.0.0.1",
        map_name="/m",
        map_file=folder / "m.map",
        state_file=folder / "s.state",
        check_timeout=0,
    )


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "closed the connection without an answer"),
        (b"\xff\xfe\n", "is not that of HAProxy's runtime API"),
        (b"\0\0", "is not that of HAProxy's runtime API"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is not that of HAProxy's runtime API"),
        (b"Permission denied\n", "level admin"),
        (b"Unknown command: 'show map', but maybe\n", "does not know 'show map'"),
        (b"Unknown map identifier. Please use #<id> or <file>.\n", "does not have the map"),
    ],
)
def test_answers_that_cannot_be_used(
    fake: Fake, tmp_path: Path, answer: bytes, message: str
) -> None:
    fake.answers["show map"] = answer
    with pytest.raises(RouterError, match=message):
        router(fake, tmp_path).observe("demo")


def test_observe_and_candidate(fake: Fake, tmp_path: Path) -> None:
    fake.answers["show map"] = REGISTERED.encode()
    fake.answers["show servers"] = SERVERS.encode()
    fake.answers["show stat"] = STAT.encode()
    subject = router(fake, tmp_path)
    assert subject.observe("demo").urls == ("http://127.0.0.1:18481", "https://[::1]:443")
    assert subject.observe("demo").candidate is None
    assert subject.in_flight("demo") == 0
    fake.answers["show map"] = b"0x1 demo demo-b\n"
    assert subject.in_flight("demo") == 3
    with pytest.raises(RouterError, match="the backend demo-b, which does not exist"):
        subject.observe("demo")
    fake.answers["show map"] = b"0x1 demo demo-a\n0x1 demo:candidate demo-a\n0x1 demo:weight x\n"
    with pytest.raises(RouterError, match="is not that of HAProxy"):
        subject.observe("demo")


def test_a_change_that_is_confirmed_and_not_made(fake: Fake, tmp_path: Path) -> None:
    fake.answers["show map"] = REGISTERED.encode()
    fake.answers["show servers"] = SERVERS.encode()
    fake.answers["del map"] = b"\n"
    with pytest.raises(RouterError, match="lost the change 3 times"):
        router(fake, tmp_path).unstage("demo")
    fake.answers["del map"] = b"Key not found.\n"
    with pytest.raises(
        RouterError, match="HAProxy answered 'del map /m demo:weight' with: Key not"
    ):
        router(fake, tmp_path).unstage("demo")


@pytest.mark.parametrize("name", ["", "a b", "a;b", "a:b", "a\nb", "ä", "a" * 129])
def test_names_that_a_service_cannot_have(fake: Fake, tmp_path: Path, name: str) -> None:
    subject = router(fake, tmp_path)
    fake.answers["show map"] = b"\n"
    for call in (subject.observe, subject.remove, subject.in_flight, subject.unstage):
        with pytest.raises(RouterError, match="cannot be the name of a service"):
            call(name)
    with pytest.raises(RouterError, match="cannot be the name of a service"):
        subject.switch(name, ["http://127.0.0.1"])
    # Nothing of it reached HAProxy.
    assert set(fake.asked) <= {"show map /m"}


def test_nobody_there(tmp_path: Path) -> None:
    for address in (str(tmp_path / "nobody"), "127.0.0.1:1", "[::1]:1"):
        with pytest.raises(RouterError, match="HAProxy"):
            Runtime(address, 5).ask("show version")


def test_one_that_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        with pytest.raises(RouterError, match=r"did not answer within 0.1 s \(show version\)"):
            Runtime(f"127.0.0.1:{port}", 0.1).ask("show version")


@pytest.mark.parametrize("address", ["", "relative", "host:", "host:0", "host:99999", "a:1:2"])
def test_addresses_of_no_runtime_api(address: str) -> None:
    with pytest.raises(RouterError, match="runtime API cannot be at"):
        Runtime(address, 5)


OPTIONS = {"api_url": "http://proxy", "timeout": 5.0, "haproxy": {}}


def test_options() -> None:
    subject = haproxy_of(OPTIONS)
    assert subject.map_file == Path("/var/lib/haproxy-delivery/services.map")
    assert subject.state_file == Path("/var/lib/haproxy-delivery/servers.state")
    assert subject.entrance("demo") == "http://proxy"
    subject = haproxy_of({**OPTIONS, "haproxy": {"map": "/etc/m", "map_file": "/srv/m"}})
    assert (subject.map_name, str(subject.state_file)) == ("/etc/m", "/srv/servers.state")


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"api_url": ""}, "the address at which clients reach"),
        ({"api_url": "ftp://proxy"}, "is not an http or https address"),
        ({"haproxy": {"check_timeout": 0}}, "check_timeout must be more than 0"),
        ({"haproxy": {"map": "a; b"}}, "cannot be the name of a map"),
        ({"haproxy": {"socket": "here"}}, "runtime API cannot be at"),
    ],
)
def test_bad_options(others: dict[str, object], message: str) -> None:
    with pytest.raises(DeliveryError, match=message):
        haproxy_of({**OPTIONS, **others})
