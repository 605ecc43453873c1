# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for the options of every module, of modules to come as well."""

from __future__ import annotations

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.redaction import names_secret
from tests.support.specs import module_names, secret_paths, spec_of, walk

# Half of a pair whose other half is the secret; AWS logs it itself.
NO_SECRETS = {"access_key"}


@pytest.mark.parametrize("module", module_names())
def test_an_option_that_is_called_like_a_secret_is_one(module: str) -> None:
    for path, option in walk(spec_of(module)):
        aliases = option.get("aliases") or ()
        if any(map(names_secret, (path[-1], *aliases))) and option.get("type") != "path":
            assert option.get("no_log") or path[-1] in NO_SECRETS, f"{module}: {'.'.join(path)}"


def test_secrets_are_found_wherever_they_are() -> None:
    assert ("services", "consul", "token") in secret_paths("service_deploy")
    assert ("alb", "session_token") in secret_paths("proxy_register")
    assert ("secret_key",) in secret_paths("alb_switch")
    assert {("environment",), ("etcd", "password")} <= set(secret_paths("compose_redeploy"))
