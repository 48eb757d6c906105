"""The test infrastructure keeps its own promises: workers run on every pool and broker, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis
import yaml

from tests.processes import ROOT, ChildProcess, eventually
from tests.servers import RedisServer, SentinelServer
from tests.workers import start_worker, worker

APP = "tests.apps.basic"
SERVED = ["redis", "rabbitmq", "mongodb", "etcd", "zookeeper"]


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent"])
def test_a_task_runs_in_a_real_worker(pool, broker_url, redis_database):
    with worker(APP, broker=broker_url, backend=redis_database, pool=pool) as w:
        assert w.tasks.add.delay(2, 3).get(timeout=20) == 5
        w.wait_for("succeeded")


def test_a_second_worker_shares_the_queue_of_the_first(redis_database):
    with worker(APP, broker=redis_database, backend=redis_database, pool="solo") as first:
        second = start_worker(first.settings, pool="solo", tasks=first.tasks)
        try:
            results = [first.tasks.sleep_and_tell_pid.delay(0.2) for _ in range(8)]
            assert {result.get(timeout=20) for result in results} == {first.pid, second.pid}
        finally:
            second.stop()


def test_killing_a_worker_leaves_no_process_of_its_pool(redis_database):
    with worker(APP, broker=redis_database, backend=redis_database, concurrency=3) as w:
        children = w.children
        assert len(children) >= 3
        w.kill()
        assert eventually(lambda: not any(_alive(pid) for pid in children), within=5)


def test_a_killed_test_session_leaves_no_process(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from tests.processes import ChildProcess\n"
        "child = ChildProcess(['sleep', '600'], log=Path(sys.argv[1]) / 'log')\n"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    session = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT)
    with session.stdout as output:
        child = int(output.readline())
    assert _alive(child)
    session.kill()
    session.wait()
    assert eventually(lambda: not _alive(child), within=5)


def test_a_paused_server_answers_again_after_resume(redis_server):
    with redis.Redis.from_url(redis_server.url, socket_timeout=0.2) as client:
        redis_server.pause()
        with pytest.raises(redis.exceptions.TimeoutError):
            client.ping()
        redis_server.resume()
        assert eventually(lambda: _pings(client), within=5)


def test_a_restarted_redis_is_empty_and_keeps_its_port(redis_server):
    with redis.Redis.from_url(redis_server.url) as client:
        client.set("kept", "no")
        redis_server.kill()
        redis_server.start()
        assert eventually(lambda: _pings(client), within=5)
        assert client.get("kept") is None


def test_a_sentinel_promotes_the_replica_of_a_killed_master(redis_server, tmp_path):
    with (
        redis_server.replica(tmp_path / "replica") as replica,
        SentinelServer(tmp_path / "sentinel", redis_server) as sentinel,
        redis.Redis(port=sentinel.port, decode_responses=True) as client,
    ):
        eventually(lambda: client.sentinel_master("tests")["num-slaves"] == 1, within=15)
        redis_server.kill()
        assert eventually(lambda: client.sentinel_get_master_addr_by_name("tests")[1] == replica.port, within=20)


def test_each_redis_database_is_empty_and_different(new_backend_url):
    first, second = new_backend_url("redis"), new_backend_url("redis")
    assert first != second
    with redis.Redis.from_url(first) as client:
        assert client.dbsize() == 0


def test_a_server_that_cannot_start_shows_its_log(tmp_path):
    with pytest.raises(RuntimeError, match="no-such-option"):
        RedisServer(tmp_path, "--no-such-option", "1").start()


def test_a_stopped_process_is_gone_even_if_it_ignores_sigterm(tmp_path):
    child = ChildProcess(["sh", "-c", "trap '' TERM; echo up; sleep 600"], log=tmp_path / "log")
    assert eventually(lambda: "up" in child.log(), within=5)
    child.stop(signal.SIGTERM, within=0.3)
    assert not child.running


@pytest.mark.parametrize("service", SERVED)
def test_a_server_of_docker_compose_says_when_it_is_ready_and_listens_on_this_host_only(service):
    described = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"][service]
    (port,) = described["ports"]
    assert port.startswith(f"127.0.0.1:${{TASKLOCKS_{service.upper()}_PORT-")
    assert described["healthcheck"]["test"][0] == "CMD"
    assert "profiles" not in described


def test_the_example_of_docker_compose_is_two_beats_and_a_worker_that_start_on_demand():
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    example = {name: service for name, service in services.items() if service.get("profiles") == ["example"]}
    assert sorted(example) == ["beat1", "beat2", "worker"]
    assert sum("beat --scheduler tasklocks" in each["environment"]["EXAMPLE_COMMAND"] for each in example.values()) == 2
    assert all(
        (ROOT / each["working_dir"].removeprefix("/tasklocks/") / "tasks.py").exists() for each in example.values()
    )


@pytest.mark.parametrize("service", SERVED)
def test_a_server_of_docker_compose_is_named_to_the_tests_as_they_read_it(service):
    # Docker's part is played by a function: which port it chose is all that it would say.
    script = f"""
        . tools/compose_servers.sh
        compose() {{ [ "$1" != port ] || echo 127.0.0.1:54321; }}
        compose_up {service} && env
    """
    done = subprocess.run(["bash", "-euc", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=20)
    variable = f"TASKLOCKS_TEST_{service.upper()}_URL"
    (url,) = [line.partition("=")[2] for line in done.stdout.splitlines() if line.startswith(f"{variable}=")]
    assert "127.0.0.1:54321" in url
    assert variable in (ROOT / "tests" / "conftest.py").read_text()


def _pings(client: redis.Redis) -> bool:
    try:
        return client.ping()
    except redis.exceptions.RedisError:
        return False


def _alive(pid: int) -> bool:
    """Whether it runs; one that is dead but not collected by its parent yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z" and os.path.exists(f"/proc/{pid}")
