#!/usr/bin/env bash
# Install ZooKeeper's jars and a Java to run them, for tests only.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=()
[ -e /usr/share/java/zookeeper.jar ] || packages+=(zookeeper)
command -v java >/dev/null || packages+=(default-jre-headless)
[ ${#packages[@]} = 0 ] || tools/apt_install.sh "${packages[@]}"
