# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# shellcheck shell=bash
# What the provisioning programs share. To be sourced; the caller has `set -euo pipefail`.

# shellcheck disable=SC2034 # for those who source this
PROVISION=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
CACHE=${SERVICENET_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/servicenet}
mkdir -p "$CACHE"

# Progress goes to standard error: standard output belongs to what a program answers.
say() { printf 'provision: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# Waits for another run that provisions the same thing in the same cache; the lock goes with this process.
lock() {
  exec 9>"$CACHE/$1.lock"
  flock --nonblock 9 || { say "waiting for another run that provisions $1"; flock 9; }
}

# Installs those of the named packages that are missing. Without any missing one, apt is not even asked.
install_packages() {
  command -v dpkg-query >/dev/null ||
    die "This is not Debian or Ubuntu. Install what corresponds to these packages, then call the test runner by hand: $*"
  local installed missing=() package policy status
  installed=$(dpkg-query --show --showformat='${Package} ${db:Status-Status}\n' "$@" 2>/dev/null || true)
  for package in "$@"; do
    grep -qx "$package installed" <<<"$installed" || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || die "These packages are missing, and only root can install them: ${missing[*]}"
  say "installing packages: ${missing[*]}"
  # A test machine wants the programs, not their services on ports 53, 80 and 2379.
  policy=/usr/sbin/policy-rc.d
  if [ -e "$policy" ]; then policy=; else printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod 755 "$policy"; fi
  status=0
  {
    apt-get -qq update &&
      DEBIAN_FRONTEND=noninteractive apt-get -qq --yes --no-install-recommends install "${missing[@]}"
  } >"$CACHE/apt.log" 2>&1 || status=$?
  [ -z "$policy" ] || rm -f "$policy"
  [ "$status" = 0 ] || { tail -n 20 "$CACHE/apt.log" >&2; die "apt-get failed; all it said is in $CACHE/apt.log"; }
}

# Where this machine's own apt has Debian from; nothing if its sources name no Debian: then mmdebstrap takes the archive that it knows.
debian_mirror() {
  # shellcheck disable=SC2016 # apt replaces it
  { apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null || true; } |
    awk '$1 == "Debian" && !found++ { print $2 }'
}
