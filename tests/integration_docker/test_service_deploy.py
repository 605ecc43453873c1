# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""service_deploy on a real engine: the whole flow, and what the next runs make of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from docker import DockerClient

from tests.support.proxy import start_proxy
from tests.support.registry import start_registry
from tests.support.service import Shop, traffic


@pytest.fixture(scope="module")
def shop(
    engine: DockerClient, prefix: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    with start_registry(folder) as registry, start_proxy(folder) as proxy:
        shop = Shop(engine, registry, proxy, prefix, folder)
        try:
            yield shop
        finally:
            shop.clean_up()


def test_deploy_and_again_under_load(shop: Shop) -> None:
    name = shop.new_name()
    checks = {"test_image": shop.image("v1"), "test_command": ["python3", "/app/check.py"]}
    first = shop.deploy(name, shop.image("v1"), **checks)
    assert first.code == 0, first.output
    print(first.result)
    with traffic(f"{shop.proxy.url}/{name}/1") as seen:
        second = shop.deploy(name, shop.image("v2"), **checks)
        assert second.code == 0, second.output
    print(second.result)
    assert seen.lost == []
    assert seen.versions == ["v1", "v2"]
    again = shop.deploy(name, shop.image("v2"), **checks)
    assert again.code == 0, again.output
    assert not again.result["changed"]
