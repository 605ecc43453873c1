# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keeps a run that was proved as a release, and finds the one that ``rolled_back`` means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..errors import DeliveryError
from .engine_state import Image
from .project import Project
from .releases import Release, Releases, forget, path_of, read_releases
from .session import Session
from .strategies import Given


def going_back(session: Session) -> Session:
    """Return the session that brings the former release back.

    :raises NoRelease: there is none.
    """
    return replace(session, release=_releases(session, session.name).back)


def keep(
    session: Session, project: Project, given: Given, images: Mapping[str, Image | None]
) -> None:
    """Note that what stands has been proved; a file that cannot be written is warned of."""
    most = int(session.params["keep_releases"])
    if session.check_mode or (not most and session.release is not None):
        return
    try:
        if not most:
            forget(_path(session, project.name))
            return
        before = _releases(session, project.name)
        if session.release is not None:
            now = before.gone_back()
        else:
            newest = Release.of(project, images, given.said)
            if session.params["services"] and before.found:
                newest = newest.upon(before.found[-1])
            now = before.with_newest(newest, most)
        if now != before:
            now.write()
    except DeliveryError as error:
        session.warn(f"this release cannot come back later, since {error.message}")


def forget_all(session: Session, project: str) -> None:
    """Remove what is kept of a project, secrets among it; a file that stays is warned of."""
    try:
        forget(_path(session, project))
    except DeliveryError as error:
        session.warn(error.message)


def _releases(session: Session, project: str) -> Releases:
    return read_releases(_path(session, project))


def _path(session: Session, project: str) -> Path:
    folder = Path(session.params["releases_dir"]).expanduser()
    return path_of(folder, project, session.connection)
