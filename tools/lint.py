# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs every linter over a copy of the checkout and says which of them found something.

Why a copy: ansible-test works only in a folder named ansible_collections/immutable/delivery, and
refuses a link to one. The copy holds what git would: no virtual environment, no lab, no cache.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINT = ROOT / ".build" / "lint"
COLLECTION = "ansible_collections/immutable/delivery"
COPY = LINT / COLLECTION
HOME = ROOT / ".build" / "home"
# Collections of others that ours imports and quotes: linters look for them beside the copy.
NEEDED = ("amazon", "community")
BIN = Path(sys.executable).parent
PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

# ansible-test fetches the script that puts pip into its environments. Python can do that by itself,
# so this stands where ansible-test looks for a script fetched earlier: one download less to fail.
GET_PIP = """\
import ensurepip

ensurepip.bootstrap()
"""

# Lines of pip in ansible-test's output, which hide those that matter; the log file has them all.
INSTALLING = re.compile(
    r"^(Looking in|Processing|Collecting|Installing|Successfully installed|Using cached|"
    r"  +(Downloading|Using cached|[\u2501 ]+)|WARNING: (Location|Using locale)).*\n",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Check:
    """One linter: what it is called in the report, how it is started, and where."""

    name: str
    argv: tuple[str, ...]
    cwd: Path = COPY


def files_of(checkout: Path, git_dir: Path) -> list[str]:
    """Names of all files in checkout that its .gitignore admits, tracked yet or not.

    An empty repository of our own is asked, so that an unpacked archive serves as well as a clone.
    """
    subprocess.run(["git", "init", "--quiet", "--bare", str(git_dir)], check=True)
    repository = (f"--git-dir={git_dir}", f"--work-tree={checkout}")
    listed = subprocess.run(
        ["git", *repository, "ls-files", "-z", "--others", "--exclude-standard"],
        cwd=checkout,
        check=True,
        stdout=subprocess.PIPE,
    )
    return [name for name in os.fsdecode(listed.stdout).split("\0") if name]


def lay_copy() -> None:
    """Make COPY equal to the checkout, file times included, so that the linters' caches serve."""
    names = set(files_of(ROOT, LINT / "list.git"))
    COPY.mkdir(parents=True, exist_ok=True)
    if not (COPY / ".git").exists():
        subprocess.run(["git", "init", "--quiet", str(COPY)], check=True)
    for name in files_of(COPY, LINT / "list.git"):
        if name not in names:
            (COPY / name).unlink()
            remove_empty(COPY / name)
    for name in names:
        target = COPY / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_symlink() or target.exists():
            target.unlink()
        # A file that is gone since it was listed is none of the checkout's any more.
        with contextlib.suppress(FileNotFoundError):
            shutil.copy2(ROOT / name, target, follow_symlinks=False)


def lay_needed() -> None:
    """Link the collections that ours needs, which the package `ansible` brings, beside the copy."""
    for namespace in NEEDED:
        link = COPY.parent.parent / namespace
        installed = Path(sysconfig.get_path("purelib")) / "ansible_collections" / namespace
        if link.is_symlink() and link.resolve() != installed.resolve():
            link.unlink()
        if not link.is_symlink():
            link.symlink_to(installed)


def remove_empty(path: Path) -> None:
    """Remove the folders above path that hold nothing more: they would pass for packages."""
    for folder in path.parents:
        if folder == COPY or any(folder.iterdir()):
            return
        folder.rmdir()


def lay_home() -> None:
    """Make a home folder for ansible-test's environments, which leaves the user's own untouched."""
    cache = HOME / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    # The version in the name is the one that ansible-test of ansible-core 2.19 asks for.
    (cache / "get_pip_24_2.py").write_text(GET_PIP)
    # pip goes on using the user's settings (a proxy's certificate, a mirror) and cache.
    for name in (".config/pip", ".pip", ".cache/pip"):
        theirs, ours = Path.home() / name, HOME / name
        if theirs.exists() and not ours.is_symlink():
            ours.parent.mkdir(parents=True, exist_ok=True)
            ours.symlink_to(theirs)


def environment() -> dict[str, str]:
    """The environment that all linters run in."""
    env = dict(os.environ)
    env["PATH"] = f"{BIN}{os.pathsep}{env.get('PATH', os.defpath)}"
    env["HOME"] = str(HOME)
    env["ANSIBLE_COLLECTIONS_PATH"] = str(LINT)
    env["MYPYPATH"] = str(LINT)
    # What mypy knows of others' modules serves its next run: there is one for each app.
    env["MYPY_CACHE_DIR"] = str(LINT / ".mypy_cache")
    env["NO_COLOR"] = "1"
    # The virtual environment lies in the checkout, whose git ignores it: antsibull-docs would ask
    # that git for the files of a collection that is installed there, and be told of none.
    env["GIT_CEILING_DIRECTORIES"] = sysconfig.get_path("purelib")
    for name in ("ANSIBLE_CONFIG", "PYTHONPATH", "VIRTUAL_ENV"):
        env.pop(name, None)
    return env


def lanes() -> list[list[Check]]:
    """The linters; those of one lane run one after the other, lanes beside each other."""
    here = ("--local", "--python", PYTHON_VERSION)
    sanity = ("ansible-test", "sanity", *here)
    # These take as long as all others and share no environment with them: they can run beside them.
    slow = ("pylint", "validate-modules")
    chosen = [f"--test={test}" for test in slow]
    rest = [f"--skip-test={test}" for test in slow]
    config = f"--config-file={COPY / 'pyproject.toml'}"
    plugins = f"{COLLECTION}/plugins".replace("/", ".")
    own = ("benchmarks", "tools", "tests/support", "tests/matrix")
    docs = ("antsibull-docs", "lint-collection-docs", "--plugin-docs", ".")
    apps = [
        Check(f"mypy {app.name}", ("mypy", config, "."), app)
        for app in sorted((COPY / "apps").glob("*/"))
        if any(app.glob("*.py"))
    ]
    return [
        [
            Check("ansible-test sanity", (*sanity, *rest)),
            Check("ansible-test units", ("ansible-test", "units", *here)),
            Check("antsibull-docs", docs),
            Check("antsibull-changelog", ("antsibull-changelog", "lint")),
        ],
        [
            Check("ruff", ("ruff", "check", "--no-fix", ".")),
            Check("ruff format", ("ruff", "format", "--check", "--diff", ".")),
            Check("mypy plugins", ("mypy", config, "-p", plugins), LINT),
            *apps,
            Check("mypy tools", ("mypy", config, *own)),
            Check("ansible-test sanity, slow ones", (*sanity, *chosen)),
            Check("ansible-lint", ("ansible-lint", "--profile", "production", "--offline")),
        ],
    ]


def run_lane(checks: list[Check], env: dict[str, str], stop: threading.Event) -> list[str]:
    """Run the checks in turn until stop; returns names of those that failed, having shown why."""
    failed: list[str] = []
    for check in checks:
        if stop.is_set():
            return failed
        started = time.monotonic()
        done = subprocess.run(
            check.argv,
            cwd=check.cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        seconds = time.monotonic() - started
        (LINT / f"{re.sub('[^a-z]+', '-', check.name)}.log").write_text(done.stdout)
        if done.returncode:
            failed.append(check.name)
            print(INSTALLING.sub("", done.stdout).rstrip())
        result = "FAILED" if done.returncode else "ok    "
        print(f"lint: {result} {check.name}, {seconds:.1f} s", flush=True)
    return failed


def main() -> int:
    """Run the linters, all of them or those whose name contains the given word."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("only", nargs="?", default="", help="a part of the linters' names")
    only = parser.parse_args().only

    lay_copy()
    lay_needed()
    lay_home()
    env = environment()
    wanted = [[check for check in lane if only in check.name] for lane in lanes()]
    if not any(wanted):
        print(f"lint: no linter's name contains {only!r}.", file=sys.stderr)
        return 2
    started = time.monotonic()
    failed: list[str] = []
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=len(wanted)) as pool:
        try:
            for lane in as_completed([pool.submit(run_lane, lane, env, stop) for lane in wanted]):
                failed += lane.result()
        except BaseException:
            stop.set()
            raise
    seconds = time.monotonic() - started
    if failed:
        print(f"lint: {len(failed)} failed in {seconds:.1f} s: {', '.join(sorted(failed))}")
        return 1
    print(f"lint: all clean in {seconds:.1f} s")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("lint: interrupted.")
