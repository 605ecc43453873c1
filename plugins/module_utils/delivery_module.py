# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module class of this collection: whatever leaves it is shown without secrets.

Ansible hides the values of ``no_log`` options itself, as parts of any text: a password of one
character would blank every message and number. So the rule of :mod:`.redaction` takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.validation import check_type_dict

from .given import text_of
from .redaction import IN_ARGUMENTS, KNOWN, Redaction, names_secret, passwords_in, split_settings

Spec = Mapping[str, Mapping[str, Any]]
Shown = Callable[[Any], Any]


class DeliveryModule(AnsibleModule):  # type: ignore[misc]
    """An :class:`AnsibleModule` that shows no secrets.

    :param entries: the options of each entry of a list, by the name of the list, if they are
        checked later and Ansible is not told them.
    """

    def __init__(
        self, argument_spec: Spec, *, entries: Mapping[str, Spec] | None = None, **more: Any
    ) -> None:
        self._shown_spec = dict(argument_spec)
        for name, options in (entries or {}).items():
            self._shown_spec[name] = {**argument_spec[name], "options": options}
        self._checked = False
        super().__init__(argument_spec=argument_spec, **more)
        self._checked = True
        self._learn()

    def _learn(self) -> None:
        """Note the secrets among the options, as far as those have been read."""
        params = getattr(self, "params", {})
        learn_secrets(KNOWN, self._shown_spec, params)
        # Should a way out of here be overlooked, Ansible hides these as a part of any text.
        self.no_log_values = KNOWN.long

    def warn(self, warning: str, **more: Any) -> None:
        """Warn of something."""
        super().warn(KNOWN.text(warning), **more)

    def log(self, msg: str, log_args: Mapping[str, Any] | None = None) -> None:
        """Write to the system's log, as Ansible does before the module gets its options."""
        self._learn()
        super().log(KNOWN.text(msg), KNOWN.value(log_args or {}))

    def _return_formatted(self, kwargs: dict[str, Any]) -> None:
        if not self._checked:
            # An option was refused; what Ansible had found by then may be of another type here.
            KNOWN.learn(str(value) for value in self.no_log_values)
        self._learn()
        arguments = kwargs.pop("invocation", None) or {
            "module_args": hide_arguments(KNOWN, self._shown_spec, self.params)
        }
        super()._return_formatted({**KNOWN.value(kwargs), "invocation": arguments})


def learn_secrets(known: Redaction, spec: Spec, params: Mapping[str, Any]) -> None:
    """Have *known* hide the secrets among a module's options."""

    def secret(value: Any) -> None:
        if isinstance(value, Mapping):
            known.learn(*split_settings({str(name): text_of(item) for name, item in value.items()}))
            for item in value.values():
                if isinstance(item, (Mapping, list)):
                    secret(item)
        elif isinstance(value, list):
            for item in value:
                secret(item)
        elif value is not None:
            known.learn([str(value)])

    def plain(value: Any) -> None:
        if isinstance(value, str):
            known.learn(passwords_in(value))
        elif isinstance(value, (Mapping, list)):
            for item in value.values() if isinstance(value, Mapping) else value:
                plain(item)

    _each(spec, params, secret, plain)


def hide_arguments(known: Redaction, spec: Spec, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return a module's options as its result may show them."""

    def hidden(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: hidden(item) for name, item in value.items()}
        if isinstance(value, list):
            return [hidden(item) for item in value]
        return value if value is None else IN_ARGUMENTS

    return _each(spec, params, hidden, known.value)


def _each(spec: Spec, params: Mapping[str, Any], secret: Shown, plain: Shown) -> dict[str, Any]:
    """Return the options with each value as *secret* or *plain* returns it."""
    options = {
        alias: option
        for name, option in spec.items()
        for alias in (name, *(option.get("aliases") or ()))
    }

    def shown(name: str, value: Any) -> Any:
        # One that does not exist may be a secret with a wrong name.
        option = options.get(name, {"no_log": names_secret(name)})
        if isinstance(value, str) and option.get("type") == "dict":
            value = _as_dict(value)
        inner = option.get("options")
        if inner and isinstance(value, Mapping):
            return _each(inner, value, secret, plain)
        if inner and isinstance(value, list):
            return [
                _each(inner, entry, secret, plain) if isinstance(entry, Mapping) else secret(entry)
                for entry in map(_as_dict, value)
            ]
        return secret(value) if option.get("no_log") else plain(value)

    return {name: shown(name, value) for name, value in params.items()}


def _as_dict(value: Any) -> Any:
    """Return what Ansible makes of ``name=value`` or JSON; the text itself if it is neither."""
    try:
        return check_type_dict(value)
    except (TypeError, ValueError):
        return value
