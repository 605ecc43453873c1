# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where images come from, and whether they are built or pulled."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.compose.cli import ComposeError
from ansible_collections.immutable.delivery.plugins.module_utils.compose.engine_state import Image
from ansible_collections.immutable.delivery.plugins.module_utils.compose.image_sources import (
    BUILD,
    PULL,
    PULL_OR_BUILD,
    Policy,
    Source,
    find_sources,
    is_due,
    normal,
    pull_rule,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.project import Project
from ansible_collections.immutable.delivery.plugins.module_utils.compose.service import Service

BUILT = {"context": "/srv"}
NOW = 1_000_000.0


def project(*wanted: str, **specs: dict[str, Any]) -> Project:
    """A project of these services, of which those that are *wanted* are of the run."""
    services = {
        name: Service(name, spec, spec.get("image") or f"p-{name}", 1)
        for name, spec in specs.items()
        if not wanted or name in wanted
    }
    return Project("p", {"name": "p", "services": specs}, services)


def there(tagged: float = NOW) -> Image:
    return Image("sha256:1", tagged=int(tagged * 1e9))


@pytest.mark.parametrize(
    "name",
    ["app", "app:latest", "docker.io/app", "docker.io/library/app", "library/app:latest"],
)
def test_names_of_one_image_are_one(name: str) -> None:
    assert normal(name) == "app:latest"


@pytest.mark.parametrize(
    "name", ["app:1", "registry:5000/app:latest", "app@sha256:0", "registry:5000/app:1"]
)
def test_other_names_are_left_alone(name: str) -> None:
    assert normal(name) == name


def test_an_image_that_another_service_builds_is_built_once() -> None:
    found = find_sources(
        project(
            web={"image": "app", "build": BUILT},
            worker={"image": "app:latest"},
            cron={"image": "docker.io/library/app", "build": BUILT},
            db={"image": "postgres:16"},
        )
    )
    (app,) = [one for one in found.values() if one.builder]
    assert (sorted(app.users), app.builder) == (["cron", "web", "worker"], "cron")
    assert found["postgres:16"] == Source("postgres:16", ("db",))


def test_who_builds_an_image_need_not_be_of_the_run() -> None:
    found = find_sources(
        project("worker", web={"image": "app", "build": BUILT}, worker={"image": "app"})
    )
    assert found == {"app": Source("app", ("worker",), "web")}


def test_what_a_build_takes_from_other_services_is_built_with_it() -> None:
    contexts = {"base": "service:base", "docs": "https://example.org/docs.git"}
    found = find_sources(
        project(
            "web",
            web={"build": {**BUILT, "additional_contexts": contexts}},
            base={"build": {**BUILT, "additional_contexts": {"x": "service:rock"}}},
            rock={"build": BUILT},
            other={"build": BUILT},
        )
    )
    assert {one.builder: one.users for one in found.values()} == {
        "web": ("web",),
        "base": (),
        "rock": (),
    }
    assert set(found) == {"p-web", "p-base", "p-rock"}


def test_one_name_for_two_builds_is_refused() -> None:
    other = {"context": "/elsewhere"}
    with pytest.raises(ComposeError, match="services a and b build app from different things"):
        find_sources(
            project(a={"image": "app", "build": BUILT}, b={"image": "app", "build": other})
        )


@pytest.mark.parametrize(
    ("said", "option", "rule"),
    [
        ("", None, "missing"),
        ("always", None, "always"),
        ("daily", None, "daily"),
        ("always", "missing", "missing"),
        ("", "always", "always"),
        ("never", "always", "never"),
        ("build", "always", "never"),
        ("always", "never", "never"),
    ],
)
def test_the_option_overrides_the_files_but_not_what_is_at_no_registry(
    said: str, option: str | None, rule: str
) -> None:
    assert pull_rule(said, option) == rule


@pytest.mark.parametrize(
    ("rule", "age", "due"),
    [
        ("missing", None, True),
        ("never", None, False),
        ("every_12h", None, True),
        ("missing", 10**6, False),
        ("if_not_present", 10**6, False),
        ("always", 0, True),
        ("refresh", 0, True),
        ("daily", 86_000, False),
        ("daily", 87_000, True),
        ("weekly", 6 * 86_400, False),
        ("weekly", 8 * 86_400, True),
        ("every_1h30m", 5300, False),
        ("every_1h30m", 5500, True),
        ("every_2w", 13 * 86_400, False),
    ],
)
def test_an_image_is_pulled_again_by_its_age(rule: str, age: int | None, due: bool) -> None:
    assert is_due(rule, None if age is None else there(NOW - age), NOW) is due


@pytest.mark.parametrize(
    ("policy", "missing", "way"),
    [
        (Policy(), False, BUILD),
        (Policy(), True, BUILD),
        (Policy(build="missing"), False, ""),
        (Policy(build="missing"), True, BUILD),
        (Policy(build="never"), True, ""),
        (Policy(pull="always"), False, BUILD),
    ],
)
def test_what_can_be_built_is_built_by_the_option(policy: Policy, missing: bool, way: str) -> None:
    for said in ("", "build", "never"):
        source = Source("app", ("web",), "web", pull_policy=said)
        assert source.way(None if missing else there(), policy, NOW) == way


@pytest.mark.parametrize(
    ("said", "policy", "missing", "ways"),
    [
        ("missing", Policy(), True, {PULL_OR_BUILD}),
        ("missing", Policy(), False, {""}),
        ("always", Policy(), False, {PULL_OR_BUILD}),
        # Whoever wants no pulls gets a build.
        ("always", Policy(pull="never"), False, {BUILD}),
    ],
)
def test_files_may_prefer_the_registry_to_a_build(
    said: str, policy: Policy, missing: bool, ways: Collection[str]
) -> None:
    source = Source("app", ("web",), "web", pull_policy=said)
    assert {source.way(None if missing else there(), policy, NOW)} == ways
    # A name that compose made up is at no registry.
    assert Source("p-web", ("web",), "web", False, said).way(None, policy, NOW) == BUILD


def test_what_is_not_built_is_pulled() -> None:
    source = Source("postgres:16", ("db",))
    assert source.way(None, Policy(), NOW) == PULL
    assert source.way(there(), Policy(), NOW) == ""
    assert source.way(there(), Policy(pull="always"), NOW) == PULL
    assert source.way(None, Policy(pull="never"), NOW) == ""
