# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plans of the portal's modules: pure functions from what was observed to a list of steps."""

from __future__ import annotations

from dataclasses import dataclass

from ..change import Step


@dataclass(frozen=True)
class ExportWanted:
    """What a caller of portal_export asked for."""

    dest: str
    keep_lock: bool
    verify: bool
    compare_with: str = ""


@dataclass(frozen=True)
class ImportWanted:
    """What a caller of portal_import asked for."""

    src: str
    keep_lock: bool


@dataclass(frozen=True)
class LockObserved:
    """Whether an export's lock is held, and for how much longer by what the caller knows."""

    held: bool
    remaining: float | None = None


def plan_export(wanted: ExportWanted) -> list[Step]:
    """Return the steps of an export.

    The lock is given back as soon as the archive is here, before it is read: users wait for that,
    and nobody waits for the proof. ``dest`` is replaced last, by an archive that was proved.
    """
    steps = [
        Step("begin", "start an export, which makes the portal read-only"),
        Step("await", "wait until the portal has made the archive"),
        Step("download", "download the archive and compare its hash"),
    ]
    if not wanted.keep_lock:
        steps.append(Step("release", "give the portal's lock back"))
    if wanted.verify:
        steps.append(Step("verify", "decrypt and read the archive, and count what is in it"))
    if wanted.compare_with:
        steps.append(Step("compare", f"compare its entities with those of {wanted.compare_with}"))
    steps.append(Step("place", f"put the archive at {wanted.dest}"))
    return steps


def plan_import(wanted: ImportWanted) -> list[Step]:
    """Return the steps of an import."""
    steps = [
        Step("begin", f"upload {wanted.src}"),
        Step("await", "wait until the portal has imported it"),
    ]
    if wanted.keep_lock:
        steps.append(Step("lock", "make the portal read-only until it is proved"))
    return steps


def plan_release(observed: LockObserved) -> list[Step]:
    """Return the steps that give a lock back; none where it has lapsed."""
    return [Step("release", "give the portal's lock back")] if observed.held else []


def lock_shortcoming(observed: LockObserved, min_remaining: float) -> str:
    """Return why a lock does not do for what comes next, or an empty string."""
    if not observed.held:
        return "the lock has lapsed, so the portal may have taken writes since the export"
    if observed.remaining is not None and observed.remaining < min_remaining:
        return (
            f"the lock lapses in {max(0.0, observed.remaining):.1f} s, "
            f"and {min_remaining:.1f} s are wanted"
        )
    return ""
