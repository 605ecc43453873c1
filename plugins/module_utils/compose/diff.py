# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The containers of a project before and after a redeploy, for diff mode: no secrets."""

from __future__ import annotations

from ..errors import enumerate_words
from .decision import State, Wanted, decide
from .engine_state import Instance


def describe(state: State) -> str:
    """Show what stands, for diff mode."""
    lines = [_shown(one) for name in sorted(state.instances) for one in state.of(name)]
    lines += [f"traffic of {name}: not sent to its containers" for name in sorted(state.astray)]
    return "".join(f"{line}\n" for line in lines)


def expected(wanted: Wanted, state: State) -> str:
    """Show what will stand, and why; of the environment the names only."""
    lines = []
    decisions = decide(wanted, state)
    for name in sorted(decisions):
        decision = decisions[name]
        service = wanted.project.services[name]
        lines += [_shown(one) for one in decision.keep]
        ids = sorted(short(found) for found in wanted.images.get(name, ()))
        why = enumerate_words(dict.fromkeys(why for _one, why in decision.olds))
        if decision.alive:
            why += f"; {_how(wanted, name)}"
        for _slot in range(decision.news):
            names = ", ".join(service.environment_names)
            lines.append(
                f"{name}: new, image {ids[0] if ids else f'{service.image} as it will be'}"
                + (f", environment {names}" if names else "")
                + (f" ({why})" if why else "")
            )
    if any(decision.news for decision in decisions.values()):
        lines += [f"{one}: new" for one in state.missing]
    for name in sorted(set(state.instances) - set(decisions)):
        lines += [f"{_shown(one)}, of no service in the compose files" for one in state.of(name)]
    return "".join(f"{line}\n" for line in lines)


def _how(wanted: Wanted, name: str) -> str:
    """Say how a service is replaced, and why so."""
    said = "replaced in lock-step" if wanted.rolls(name) else "replaced in turn"
    why = wanted.hows[name].why if name in wanted.hows else ""
    return f"{said}, since {why}" if why else said


def _shown(one: Instance) -> str:
    seen = one.container
    health = f", {seen.health}" if seen.health else ""
    return (
        f"{one.service}: {one.name} ({seen.status}{health}) image {short(seen.image_id)} "
        f"container {one.id[:12]}"
    )


def short(image_id: str) -> str:
    """Return an image's id as people read it."""
    return image_id.removeprefix("sha256:")[:12]
