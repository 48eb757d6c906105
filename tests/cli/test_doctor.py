"""`doctor` tries a backend as locks use it, and says what is wrong."""

from __future__ import annotations

import pytest

from tasklocks.cli.checks import checks
from tasklocks.types import Grant
from tests.processes import free_port


def test_a_backend_that_works_passes_every_check_and_is_left_as_it_was(tasklocks, backend):
    answer = tasklocks.knows("doctor")
    assert answer["ok"] is True
    names = [check["name"] for check in answer["checks"]]
    assert {"answers", "clock", "mutual exclusion", "expiry", "wakes waiters"} <= set(names)
    assert not [state for state in backend.page().limits if state.holders or state.waiters]


def test_a_backend_that_gives_a_permit_twice_fails():
    from tasklocks.backends.memory import MemoryBackend

    class Generous(MemoryBackend):
        def acquire(self, request):
            answer = super().acquire(request)
            return answer if isinstance(answer, Grant) else Grant(request.name, request.owner, 1, 1.0, 1, 0.0)

    failed = [check.name for check in checks(Generous()) if not check.ok]
    assert "mutual exclusion" in failed


@pytest.mark.parametrize("scheme", ["redis", "mongodb", "etcd", "zookeeper"])
def test_a_backend_that_does_not_answer_is_exit_code_3(scheme, at):
    options = {"mongodb": "/db?serverSelectionTimeoutMS=300", "etcd": "?timeout=0.3", "zookeeper": "/x?timeout=0.5"}
    url = f"{scheme}://127.0.0.1:{free_port()}{options.get(scheme, '')}"
    result = at(url)("doctor")
    assert result.exit_code == 3, result.output


def test_a_redis_that_may_evict_locks_is_named(redis_server, at):
    import redis

    with redis.Redis.from_url(redis_server.url) as client:
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
    result = at(redis_server.url)("doctor")
    assert result.exit_code == 1
    assert "evicts keys" in result.output


def test_a_user_without_the_rights_is_told_which_step_fails_and_where_to_look(redis_server, at):
    import redis

    with redis.Redis.from_url(redis_server.url) as client:
        client.acl_setuser(
            "reader",
            enabled=True,
            passwords=["+secret-1"],
            keys=["*"],
            categories=["+@read", "+@connection", "+@scripting"],
            commands=["+time"],
        )
    result = at(redis_server.url.replace("redis://", "redis://reader:secret-1@"))("doctor")
    assert result.exit_code == 1
    assert "FAIL  acquire" in result.output
    assert "look at the rights" in result.output
    assert "secret-1" not in result.output
