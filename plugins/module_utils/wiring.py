# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is the same in every module's ``main``: run the change, return its result or failure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ansible.module_utils.basic import missing_required_lib

from .change import Change, Outcome, after, run
from .delivery_module import DeliveryModule
from .errors import DeliveryError, Unexpected, as_delivery_error
from .lock.work import Acquisition, call_myself, work_under

ObservedT = TypeVar("ObservedT")

LOCKS_SPEC: dict[str, Any] = {"deploy_locks": {"type": "list", "elements": "dict", "default": []}}


def changing_module(
    argument_spec: dict[str, Any],
    make: Callable[..., DeliveryModule] = DeliveryModule,
    **more: Any,
) -> DeliveryModule:
    """Return a module that changes something: it works under the play's locks until it ends.

    meta/runtime.yml names it as well, by which it is told of those locks.

    :param make: the class to make it of.
    :param more: what else that class takes.
    """
    module = make(argument_spec={**argument_spec, **LOCKS_SPEC}, **more)
    if module.check_mode:
        return module
    try:
        for one in module.params["deploy_locks"]:
            work_under(Acquisition.from_dict(one))
            call_myself(one["module"])
    except Exception as error:
        fail(module, error)
    return module


def require_requests(module: DeliveryModule) -> None:
    """Fail with the library's name if requests is not installed."""
    # Here, because a module that asks nobody starts in two thirds of the time without it.
    from . import http

    require_library(module, "requests", http.REQUESTS_IMPORT_ERROR)


def require_library(module: DeliveryModule, name: str, import_error: str | None) -> None:
    """Fail with the library's name if its guarded import failed."""
    if import_error is not None:
        missing = DeliveryError(
            missing_required_lib(name),
            next_step="Install it for the Python that runs the module, then run this again.",
        )
        fail(module, missing, exception=import_error)


def hand_over(
    module: DeliveryModule,
    make: Callable[[], Change[ObservedT]],
    result: Callable[[Outcome[ObservedT]], dict[str, Any]],
) -> None:
    """Make the change, run it, and end the module with its result or its failure."""

    def work() -> dict[str, Any]:
        outcome = run(make(), check_mode=module.check_mode)
        with after(outcome):
            return {**outcome.result(), **result(outcome)}

    end_with(module, work)


def end_with(module: DeliveryModule, work: Callable[[], Mapping[str, Any]]) -> None:
    """End the module with what *work* returns, or with its failure."""
    try:
        values = work()
    except (Exception, KeyboardInterrupt) as error:
        fail(module, error)
    else:
        module.exit_json(**values)


def fail(module: DeliveryModule, failure: BaseException | Mapping[str, Any], **more: Any) -> None:
    """End the module with a failure: every module that fails ends here.

    It returns ``msg, kind, state, next_step, log``, so that a play can act on them.

    :param failure: an exception, or what :meth:`DeliveryError.result` made of one.
    :param more: what else the module returns.
    """
    if isinstance(failure, BaseException):
        error = as_delivery_error(failure)
        if isinstance(error, Unexpected):
            more["exception"] = error.traceback
        failure = error.result()
    module.fail_json(**{**more, **failure})
