# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Delete the manifests of old tags from a registry, and print as JSON what was deleted and kept.

In each repository the tags that were pushed last are kept. A tag's age is that of its link in the
storage: what an image says of its own age is when it was built, and a tag that was pushed today
may name an old build. A manifest goes by its digest, and all its tags with it; so none is deleted
that a kept tag names as well, or that the manifest list of a kept tag is made of.

Protocol: https://distribution.github.io/distribution/spec/api/
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import re
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)
SECONDS = 60


@dataclass(frozen=True)
class Tag:
    """A tag as it is now.

    ``pushed`` is in seconds since 1970; ``parts`` are the digests that a manifest list is made of.
    """

    name: str
    digest: str
    pushed: float
    parts: tuple[str, ...]


class Registry:
    """What is asked of the registry; raises ``urllib.error.URLError`` where it does not answer."""

    def __init__(self, url: str, ca: str, storage: Path) -> None:
        self._url = url
        self._context = ssl.create_default_context(cafile=ca)
        self._repositories = storage / "docker" / "registry" / "v2" / "repositories"

    def _call(self, path: str, method: str = "GET") -> tuple[Any, bytes]:
        url = urllib.parse.urljoin(self._url, path)
        request = urllib.request.Request(url, method=method)
        request.add_header("Accept", ", ".join(MANIFESTS))
        with urllib.request.urlopen(request, timeout=SECONDS, context=self._context) as answer:
            return answer.headers, answer.read()

    def _listed(self, path: str, key: str) -> list[str]:
        """Return a list that may come in several pages."""
        found: list[str] = []
        following: str | None = path
        while following:
            try:
                headers, body = self._call(following)
            except urllib.error.HTTPError as error:
                if error.code == 404:
                    return found
                raise
            found += json.loads(body).get(key) or []
            link = re.match(r'<([^>]*)>; *rel="?next', headers.get("Link", ""))
            following = link and link[1]
        return found

    def repositories(self) -> list[str]:
        """Return their names; those whose images were all deleted are still among them."""
        return self._listed("/v2/_catalog?n=1000", "repositories")

    def tags(self, repository: str) -> list[Tag]:
        """Return the tags of a repository."""
        names = self._listed(f"/v2/{repository}/tags/list", "tags")
        return [self._tag(repository, name) for name in names]

    def _tag(self, repository: str, name: str) -> Tag:
        headers, body = self._call(f"/v2/{repository}/manifests/{name}")
        link = self._repositories / repository / "_manifests" / "tags" / name / "current" / "link"
        parts = json.loads(body).get("manifests") or []
        return Tag(
            name,
            headers["Docker-Content-Digest"],
            link.stat().st_mtime,
            tuple(part["digest"] for part in parts),
        )

    def delete(self, repository: str, digest: str) -> None:
        """Delete a manifest, and with it every tag that names it."""
        self._call(f"/v2/{repository}/manifests/{digest}", "DELETE")


def plan(
    tags: list[Tag], keep: int, patterns: list[str], digests: set[str]
) -> tuple[list[str], dict[str, list[str]]]:
    """Return the tags to keep, and the digests to delete with the tags that they take along.

    :param keep: how many of the tags pushed last are kept, those of *patterns* not counted.
    :param digests: manifests to keep, whatever their tags; their tags stay with them.
    """
    named = [tag for tag in tags if any(fnmatch.fnmatchcase(tag.name, each) for each in patterns)]
    others = [tag for tag in tags if tag not in named]
    newest = sorted(others, key=lambda tag: (tag.pushed, tag.name), reverse=True)[:keep]
    # A list that is deployed by its digest needs its images as well.
    kept = named + newest + [tag for tag in tags if tag.digest in digests]
    safe = digests | {tag.digest for tag in kept} | {part for tag in kept for part in tag.parts}
    deleted: dict[str, list[str]] = {}
    for tag in tags:
        if tag.digest not in safe:
            deleted.setdefault(tag.digest, []).append(tag.name)
    return sorted(tag.name for tag in tags if tag.digest in safe), deleted


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--storage", type=Path, required=True)
    parser.add_argument("--keep", type=int, required=True)
    parser.add_argument("--keep-tag", action="append", default=[])
    parser.add_argument("--keep-digest", action="append", default=[])
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    registry = Registry(options.url, options.ca, options.storage)
    report: dict[str, list[dict[str, Any]]] = {"deleted": [], "kept": []}
    try:
        for repository in registry.repositories():
            tags = registry.tags(repository)
            # As --keep-digest may be given as an image's name, with its repository before it.
            digests = {digest.rpartition("@")[2] for digest in options.keep_digest}
            kept, deleted = plan(tags, options.keep, options.keep_tag, digests)
            report["kept"].append({"repository": repository, "tags": kept})
            for digest, names in deleted.items():
                if not options.dry_run:
                    registry.delete(repository, digest)
                report["deleted"].append(
                    {"repository": repository, "digest": digest, "tags": sorted(names)}
                )
    except (OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"{options.url} could not be pruned: {error!r}\n")
        return 1
    sys.stdout.write(f"{json.dumps(report)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
