# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of a deploy, names of images, and what an engine's words mean."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import APIError, ImageNotFound

from ansible_collections.immutable.delivery.plugins.module_utils.engine.errors import (
    EngineError,
    meaning,
    reason,
)
from ansible_collections.immutable.delivery.plugins.module_utils.engine.images import (
    Images,
    Reference,
)
from ansible_collections.immutable.delivery.plugins.module_utils.engine.inspect import Container
from ansible_collections.immutable.delivery.plugins.module_utils.errors import (
    BadOption,
    DeliveryError,
)
from ansible_collections.immutable.delivery.plugins.module_utils.service.model import (
    RELEASE,
    SALT,
    Release,
    Shape,
    find_release,
)
from ansible_collections.immutable.delivery.plugins.module_utils.service.options import (
    OPTIONS,
    each_of,
    routing_of,
    wanted_of,
)

DIGEST = "sha256:" + "a" * 64


def params(**given: Any) -> dict[str, Any]:
    values = {name: option.get("default") for name, option in OPTIONS.items()}
    return {**values, "name": "demo", "image": "demo", "container_port": 8080, **given}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("demo", ("demo", "latest", "")),
        ("demo:1.2", ("demo", "1.2", "")),
        ("cd:5000/demo", ("cd:5000/demo", "latest", "")),
        ("cd:5000/a/demo:1", ("cd:5000/a/demo", "1", "")),
        (f"cd:5000/demo@{DIGEST}", ("cd:5000/demo", "", DIGEST)),
        (f"cd:5000/demo:1@{DIGEST}", ("cd:5000/demo", "", DIGEST)),
        (DIGEST, ("", "", DIGEST)),
    ],
)
def test_references(text: str, expected: tuple[str, str, str]) -> None:
    found = Reference.of(text)
    assert (found.repository, found.tag, found.digest) == expected


@pytest.mark.parametrize(
    "text", ["", "@", "demo@", "demo@sha256:12", " demo", "de mo", "-x", "demo\n"]
)
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(DeliveryError, match="is no image"):
        Reference.of(text)


@pytest.mark.parametrize(
    "given",
    [
        {"name": ""},
        {"name": "-demo"},
        {"name": "d" * 64},
        {"name": "de/mo"},
        {"instances": 0},
        {"keep_releases": -1},
        {"stop_timeout": -1},
        {"container_port": 0},
        {"published_port": 65536},
        {"published_port": 80, "instances": 2},
        {"health_timeout": float("inf")},
        {"health_timeout": float("nan")},
        {"soak": -1.0},
        {"soak": float("nan")},
        {"health_path": "health"},
        {"networks": ["host"]},
        {"memory": "much"},
        {"environment": {"A=B": "c"}},
        {"router": "registry", "route": "a/b"},
    ],
)
def test_options_that_cannot_be_used(given: dict[str, Any]) -> None:
    with pytest.raises(BadOption):
        wanted_of(params(**given), "127.0.0.1")


def test_what_a_container_gets() -> None:
    given = params(memory="256m", environment={"A": True, "B": None, "C": 1}, router="registry")
    found = wanted_of(given, "prod")
    assert found.shape is not None
    assert found.shape.memory == 256 * 1024**2
    assert found.shape.environment == {"A": "true", "B": "", "C": "1"}
    assert (found.route, found.address) == ("demo", "prod")


def test_a_release_is_its_image_and_its_configuration() -> None:
    plain = Shape(8080)
    assert plain.digest("s") == Shape(8080, environment={}).digest("s")
    assert plain.digest("s") != Shape(8080, environment={"A": "1"}).digest("s")
    assert plain.digest("s") != plain.digest("t")
    assert Shape(1, environment={"A": "1", "B": "2"}).digest("s") == (
        Shape(1, environment={"B": "2", "A": "1"}).digest("s")
    )
    assert Release(DIGEST, plain.digest("s")).id == f"{'a' * 12}-{plain.digest('s')[:8]}"
    assert "swordfish" not in repr(Shape(1, environment={"A": "swordfish"}))


def test_a_release_is_found_again_by_the_salt_of_its_service() -> None:
    def made(release: Release, created: str) -> Container:
        labels = {RELEASE: release.id, SALT: release.salt}
        return Container("id", "name", "image", "running", created, labels=labels)

    shape, changed = Shape(8080, environment={"PIN": "1"}), Shape(8080, environment={"PIN": "2"})
    first = find_release([], DIGEST, shape)
    assert len(first.salt) == 32 and first.salt not in repr(first)
    assert find_release([], DIGEST, shape).id != first.id, "no salt is there twice"
    one = made(first, "2026-01-01T00:00:00Z")
    assert find_release([one], DIGEST, shape) == first
    second = find_release([one], DIGEST, changed)
    assert second.salt == first.salt and second.id != first.id
    # Two deploys at once can each have made a salt: both of their releases are found.
    other = find_release([], DIGEST, changed)
    two = made(other, "2026-01-02T00:00:00Z")
    assert find_release([one, two], DIGEST, shape) == first
    assert find_release([one, two], DIGEST, changed) == other
    assert find_release([one, two], DIGEST, Shape(1)).salt == other.salt


def test_several_services_take_what_they_do_not_say_from_the_task() -> None:
    given = {**params(name=None, health_path="/h", user="u", memory="1g"), "parallel": 2}
    entries = [
        {"name": "a"},
        {"name": "b", "health_path": "/b", "instances": "3", "user": None, "memory": ""},
    ]
    one, other = each_of({**given, "services": entries})
    assert (one["name"], one["health_path"], one["instances"]) == ("a", "/h", 1)
    assert (one["user"], one["memory"]) == ("u", "1g")
    assert (other["name"], other["health_path"], other["instances"]) == ("b", "/b", 3)
    assert (other["user"], other["memory"]) == (None, None)
    assert each_of({**given, "services": None, "name": "c"})[0]["name"] == "c"


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([{"image": "x"}], "needs a name"),
        ([{"name": "a"}, {"name": "a"}], "twice"),
        ([{"name": "a", "imagee": "x"}], "imagee"),
        ([{"name": "a", "instances": "many"}], "a: .*instances"),
        ([{"name": "a", "state": "gone"}], "a: .*state"),
    ],
)
def test_several_services_that_cannot_be(entries: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(BadOption, match=said):
        each_of({**params(name=None), "parallel": 2, "services": entries})


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write /var/lib/docker/x: no space left on device", "disk_full"),
        ("driver failed: Bind for 0.0.0.0:80 failed: port is already allocated", "port_taken"),
        ("listen tcp4 0.0.0.0:80: bind: address already in use", "port_taken"),
        ("manifest for demo:1 not found: manifest unknown", "image_missing"),
        ("no basic auth credentials", "registry_denied"),
        ("dial tcp 10.0.0.1:5000: connect: connection refused", "registry_away"),
        ("x509: certificate signed by unknown authority", "registry_away"),
        ("something quite different", "engine"),
    ],
)
def test_what_an_engine_means(text: str, kind: str) -> None:
    found = meaning(EngineError(f"could not do it: {text}"))
    assert found.kind == kind
    assert text in found.message


def test_an_image_that_the_engine_lacks_and_nobody_may_pull() -> None:
    def inspect_image(name: str) -> None:
        raise ImageNotFound("404", explanation=f"no such image: {name}: No such image: {name}")

    client = SimpleNamespace(api=SimpleNamespace(inspect_image=inspect_image))
    images = Images(client, local=True, engine="tcp://prod:2376")
    with pytest.raises(EngineError) as caught:
        images.resolve(Reference.of("shop:2"))
    assert caught.value.result()["msg"] == (
        "the image shop:2 is not on the engine tcp://prod:2376. Nothing was changed. "
        "Pull or build it there, or set pull to missing."
    )
    assert caught.value.kind == "image_missing"
    with pytest.raises(EngineError) as caught:
        images.resolve(Reference.of(f"sha256:{'0' * 64}"))
    # No registry has that.
    assert caught.value.next_step == "Pull or build it there."


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("no such image: demo:1: No such image: demo:1", "No such image: demo:1"),
        ("no such image: demo:1", "no such image: demo:1"),
        ("port is taken", "port is taken"),
        (": ", ":"),
    ],
)
def test_what_an_engine_says_twice_is_told_once(said: str, told: str) -> None:
    assert reason(APIError("409", explanation=said)) == told


HAPROXY = {"router": "haproxy", "api_url": "http://127.0.0.1"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"state": "canary", **HAPROXY}, "missing: weight"),
        ({"state": "staged", "image": None, **HAPROXY}, "missing: image"),
        ({"router": "nginx"}, "missing: api_url"),
        ({"router": "etcd", "api_url": "http://127.0.0.1"}, "missing: etcd"),
        ({"router": "alb"}, "must be one of"),
    ],
)
def test_options_that_belong_together(given: dict[str, Any], words: str) -> None:
    with pytest.raises(BadOption, match=words):
        each_of({**params(**given), "services": None, "parallel": 1})


@pytest.mark.parametrize("weight", [-1, 100])
def test_a_share_is_a_part(weight: int) -> None:
    with pytest.raises(BadOption, match=f"weight must be 0 to 99 percent, not {weight}"):
        wanted_of(params(state="canary", weight=weight, **HAPROXY), "127.0.0.1")


@pytest.mark.parametrize("state", ["canary", "promoted", "rolled_back"])
def test_what_is_about_what_stands_needs_no_image_and_keeps_a_digest_in_mind(state: str) -> None:
    given = params(state=state, weight=5, image=None, container_port=None, **HAPROXY)
    wanted = wanted_of(given, "127.0.0.1")
    assert (wanted.shape, wanted.absent, wanted.digest) == (None, False, "")
    for more in ({"digest": DIGEST}, {"image": f"cd:5000/demo@{DIGEST}"}):
        assert wanted_of({**given, **more}, "127.0.0.1").digest == DIGEST


@pytest.mark.parametrize(
    ("more", "kind", "words"),
    [
        ({"router": "registry"}, "router", "registry cannot have a candidate beside the live"),
        ({"address": "prod.example.com"}, "router", "HAProxy cannot send traffic to http://prod"),
    ],
)
def test_routers_that_will_not_do_are_refused_without_being_asked(
    more: dict[str, Any], kind: str, words: str
) -> None:
    given = params(**{**HAPROXY, "state": "staged", **more})
    with pytest.raises(DeliveryError, match=words) as refused:
        routing_of(given, wanted_of(given, "127.0.0.1"))
    assert refused.value.kind == kind
