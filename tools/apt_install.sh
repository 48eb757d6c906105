#!/usr/bin/env bash
# Install Debian packages: apt_install.sh PACKAGE... Says what to do by hand where it may not.
set -euo pipefail

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "Missing: $*. Install them with your system's package manager, for example:" >&2
    echo "    sudo apt-get install --no-install-recommends $*" >&2
    exit 1
fi

# A server package starts its server as soon as it is installed. The tests start their own, so forbid that meanwhile.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null
