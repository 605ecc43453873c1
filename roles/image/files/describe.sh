# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Say what the folder $1 of a git checkout holds: the commit that last touched it, as git describes it;
# where something differs from that, "-dirty-" and a hash of what does. So a name stands for one content.
set -euo pipefail
cd "$1"
# The checkout may belong to another user than the one who builds.
git() { command git -c safe.directory='*' "$@"; }
commit="$(git log -1 --format=%H -- .)"
if [ -z "${commit}" ]; then
  echo "nothing in $1 has been committed" >&2
  exit 1
fi
name="$(git describe --always --tags --abbrev=12 "${commit}")"
differs="$(
  git diff --binary HEAD -- .
  git ls-files -zo --exclude-standard -- . | LC_ALL=C sort -z | xargs -0r sha256sum --
)"
if [ -n "${differs}" ]; then
  name="${name}-dirty-$(printf '%s' "${differs}" | sha256sum | cut -c1-12)"
fi
# A tag of an image takes fewer characters than one of git.
printf '%s\n' "${name}" | tr -c 'A-Za-z0-9_.\n-' '-'
