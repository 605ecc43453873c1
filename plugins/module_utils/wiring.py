# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is the same in every module's ``main``: run the change, hand over its result or error."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ansible.module_utils.basic import missing_required_lib

from .change import Change, Outcome, run
from .errors import DeliveryError

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

ObservedT = TypeVar("ObservedT")


def require_requests(module: AnsibleModule) -> None:
    """Fail with the library's name where requests is not installed."""
    # Here, because a module that asks nobody starts in two thirds of the time without it.
    from . import http

    require_library(module, "requests", http.REQUESTS_IMPORT_ERROR)


def require_library(module: AnsibleModule, name: str, import_error: str | None) -> None:
    """Fail with the library's name where its guarded import went wrong."""
    if import_error is not None:
        module.fail_json(msg=missing_required_lib(name), exception=import_error)


def hand_over(
    module: AnsibleModule,
    make: Callable[[], Change[ObservedT]],
    result: Callable[[Outcome[ObservedT]], dict[str, Any]],
) -> None:
    """Make the change, run it, and end the module with its result or its error.

    A failure carries ``kind``, ``state`` and ``next_step`` beside ``msg``, so that a play can act
    on them.
    """
    try:
        outcome = run(make(), check_mode=module.check_mode)
        values = outcome.result()
        values.update(result(outcome))
    except DeliveryError as error:
        fail(module, error)
    else:
        module.exit_json(**values)


def fail(module: AnsibleModule, error: DeliveryError) -> None:
    """End the module with *error*, as ``hand_over`` does."""
    module.fail_json(msg=str(error), kind=error.kind, state=error.state, next_step=error.next_step)
