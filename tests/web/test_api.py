"""What the page asks: what is there now, what changes, and what an operator may do."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from benchmarks.listing import fill
from tasklocks import RateLimit, Semaphore, connect
from tasklocks.errors import LeaseLost
from tasklocks.resizing import sizes
from tasklocks.testing.asking import Line, taken
from tests.processes import eventually
from tests.web.scene import about, ticks


@pytest.fixture
def sqlite_url(new_backend_url) -> Iterator[str]:
    url = new_backend_url("sqlite")
    yield url
    connect(url).close()


def events_of(stream: httpx.Response) -> Iterator[tuple[str, Any]]:
    """Yield what is heard: kind and content."""
    kind = ""
    for line in stream.iter_lines():
        if line.startswith("event: "):
            kind = line[7:]
        elif line.startswith("data: "):
            yield kind, json.loads(line[6:])


def heard(client: httpx.Client, seconds: float, **wish: str) -> list[tuple[str, Any]]:
    """Return the events of so many seconds."""
    until = time.monotonic() + seconds
    with client.stream("GET", "/api/live", params=wish) as stream:
        return list(itertools.takewhile(lambda _: time.monotonic() < until, events_of(stream)))


def test_a_limit_is_shown_on_every_backend(process_backend_url, backend_of, serve):
    backend = backend_of(process_backend_url)
    taken(backend, "id-1:x", "report", capacity=2, info=about("report", "id-1", pid=17))
    with Line(backend) as line:
        line.join("id-2:x", "report", permits=2, capacity=2, info=about("report", "id-2"))
        RateLimit("partner", "10/s", backend=backend).reserve()
        with serve(process_backend_url).client() as client:
            (row,) = client.get("/api/limits").json()["rows"]
            limit = client.get("/api/limit", params={"name": "report"}).json()["limit"]
            rates = client.get("/api/rates").json()["rates"]
    assert (row["name"], row["held"], row["capacity"], row["waiters"]) == ("report", 1, 2, 1)
    assert [(each["task"], each["id"], each["pid"]) for each in limit["holders"]] == [("shop.report", "id-1", "17")]
    assert "has waited for 2 permits of 'report'" in limit["waiters"][0]["why"]
    assert [rate["name"] for rate in rates] == ["partner"]


def test_a_stream_sends_what_changes_and_nothing_else(sqlite_url, serve):
    backend = connect(sqlite_url)
    for name in ("still-1", "still-2", "moves"):
        taken(backend, "a", name, capacity=5)
    with serve(sqlite_url, "--every", "0.2").client() as client, client.stream("GET", "/api/live") as stream:
        events = events_of(stream)
        lists = [next(data for kind, data in events if kind == "list")]
        # Some looks at which nothing is new.
        assert all(next(events)[0] in ("look", "totals") for _ in range(5))
        taken(backend, "b", "moves", capacity=5)
        lists.append(next(data for kind, data in events if kind == "list"))
    assert set(lists[0]["rows"]) == {"still-1", "still-2", "moves"}
    assert [set(each["rows"]) for each in lists[1:]] == [{"moves"}]
    assert lists[1]["rows"]["moves"]["held"] == 2


def test_nobody_reads_while_nobody_watches(redis_server, serve):
    import redis

    served = serve(redis_server.url, "--every", "0.1")
    with served.client() as client, redis.Redis.from_url(redis_server.url) as server:

        def reads() -> int:
            return server.info("commandstats").get("cmdstat_scan", {"calls": 0})["calls"]

        assert reads() == 0
        heard(client, 1.0)
        assert reads() > 3

        def stopped() -> bool:
            before = reads()
            time.sleep(1.0)
            return reads() == before

        # It goes on for some seconds, for a viewer that turns a page comes back at once.
        assert eventually(stopped, within=30)


def test_ten_thousand_limits_are_searched_at_once(redis_server, serve):
    fill(redis_server.url, 10_000)
    with serve(redis_server.url).client() as client:
        first = client.get("/api/limits").json()
        assert (first["total"], len(first["rows"])) == (10_000, 50)
        for text, count in (("import-77", 111), ("import-*9", 1000), ("task-1234", 1), ("nothing", 0)):
            began = time.monotonic()
            answer = client.get("/api/limits", params={"q": text}).json()
            assert answer["found"] == count, text
            assert time.monotonic() - began < 3  # some milliseconds, if nothing else runs
        page = client.get("/api/limits", params={"order": "name", "page": "199"}).json()
        assert page["rows"][-1]["name"] == "import-9999"


def test_a_backend_that_is_gone_is_said_and_found_again(redis_server, serve):
    with serve(redis_server.url, "--every", "0.2").client() as client:
        assert client.get("/api/limits").status_code == 200
        redis_server.stop()
        errors = [data["error"] for kind, data in heard(client, 2.0) if kind == "look"]
        assert "cannot be reached" in errors[-1]
        assert client.get("/api/limits").status_code == 503
        redis_server.start()
        assert eventually(lambda: client.get("/api/limits").status_code == 200, within=10)


def test_a_task_is_explained(sqlite_url, serve):
    backend = connect(sqlite_url)
    taken(backend, "holder", "report", info=about("report", "aaaa-1"))
    with Line(backend) as line, serve(sqlite_url).client() as client:
        line.join("waiter", "report", info=about("report", "bbbb-2"))
        (answer,) = client.get("/api/why", params={"task": "bbbb"}).json()["sentences"]
        assert client.get("/api/why", params={"task": "cccc"}).json()["sentences"] == []
        assert client.get("/api/why").status_code == 400
    assert answer["limit"] == "report"
    assert "held by shop.report[aaaa-1]" in answer["sentence"]


def test_the_beats_leader_and_its_ticks_are_shown(sqlite_url, serve):
    ticks(connect(sqlite_url), "shop-beat")
    with serve(sqlite_url).client() as client:
        (beat,) = client.get("/api/beats").json()["beats"]
    assert (beat["schedule"], beat["entries"], beat["leader"]["host"]) == ("shop-beat", 4, "beat-1.shop")
    assert [(tick["entry"], tick["sent"]) for tick in beat["ticks"]] == [
        ("cleanup", False),
        ("nightly-report", True),
        ("refresh-rates", True),
    ]


def test_an_operator_releases_one_lease_and_no_other(sqlite_url, serve):
    backend = connect(sqlite_url)
    taken(backend, "other", "report", capacity=2)
    with (
        Semaphore("report", 2, backend=backend, ttl=1.0) as lease,
        serve(sqlite_url, "--allow-actions").logged_in() as client,
    ):
        assert client.post("/api/release", json={"name": "report", "owner": lease.owner}).json() == {"released": 1}
        assert client.post("/api/release", json={"name": "report", "owner": lease.owner}).json() == {"released": 0}
        assert client.post("/api/release", json={"name": "report"}).status_code == 400
        assert client.post("/api/release", json={"name": "unknown", "owner": "x"}).status_code == 404
        with pytest.raises(LeaseLost):
            lease.renew()
    assert [each.owner for each in backend.inspect("report").holders] == ["other"]


def test_an_operator_pauses_resumes_and_resizes(sqlite_url, serve):
    backend = connect(sqlite_url)
    rate = RateLimit("partner", "1000/s", backend=backend)
    rate.reserve()
    taken(backend, "a", "report")
    with serve(sqlite_url, "--allow-actions").logged_in() as client:
        assert client.post("/api/pause", json={"name": "partner", "seconds": 60}).status_code == 200
        assert rate.reserve() > 30
        assert client.post("/api/resume", json={"name": "partner"}).status_code == 200
        assert rate.reserve() < 5
        assert client.post("/api/resize", json={"name": "report", "permits": 7}).status_code == 200
        assert sizes(backend) == {"report": 7}
        assert client.post("/api/resize", json={"name": "report", "permits": None}).status_code == 200
        assert sizes(backend) == {}
        for wrong in ({"seconds": True}, {"seconds": -1}, {"seconds": "60"}, {}):
            assert client.post("/api/pause", json={"name": "partner", **wrong}).status_code == 400
        for wrong in (0, 1.5, "7", True):
            assert client.post("/api/resize", json={"name": "report", "permits": wrong}).status_code == 400
