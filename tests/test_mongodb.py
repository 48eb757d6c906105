"""The MongoDB backend alone: what is in its documents, what goes over the wire, and whom it lets in."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from pymongo import MongoClient

from tasklocks import BackendUnavailable, ConfigurationError, Lock, connect
from tasklocks.backends.base import RETENTION
from tasklocks.backends.mongodb import MongoBackend
from tasklocks.backends.mongodb._line import AWAY_KEPT
from tasklocks.backends.mongodb._server import KNOCKS, LIMITS
from tasklocks.errors import BackendRefused
from tasklocks.types import Busy, Grant
from tests.conftest import require
from tests.line import LONG, NAME, Line, away, free, held, look, taken
from tests.processes import eventually
from tests.relay import relayed
from tests.servers_mongodb import StandaloneMongoServer

LOOKS_LIKE_CODE = ["$owner", "$$NOW", "$$REMOVE", "a.b", "leases.x", "$", "", "\0", "{'$literal': 1}"]


@pytest.fixture
def url(new_backend_url):
    return new_backend_url("mongodb")


@pytest.fixture
def backend(url):
    connected = MongoBackend(url)
    yield connected
    connected.close()


@pytest.fixture
def database(url):
    with MongoClient(url) as client:
        yield client.get_default_database()


# One round trip a step.


def test_each_step_is_one_round_trip_also_on_a_limit_that_others_use(url):
    with relayed(url) as (relay, through):
        backend = MongoBackend(through)
        free(backend)
        before = relay.requests
        for turn in range(50):
            grant = taken(backend, f"a-{turn}")
            taken(backend, "b", "semaphore", capacity=3)
            taken(backend, "c", "semaphore", capacity=3)
            held(backend)
            backend.renew([grant])
            backend.inspect(NAME)
            backend.release("semaphore", "c")
            backend.release("semaphore", "b")
            backend.release(NAME, f"a-{turn}")
        # The client says hello now and then, on a connection of its own.
        assert 450 <= relay.requests - before <= 455
        backend.close()


def test_a_renewal_of_many_leases_is_a_few_round_trips(url):
    with relayed(url) as (relay, through):
        backend = MongoBackend(through)
        grants = [taken(backend, f"o{number}", f"limit-{number // 2}", capacity=2) for number in range(250)]
        before = relay.requests
        assert all(backend.renew(grants))
        assert relay.requests - before <= 10
        backend.close()


def test_a_renewal_of_many_leases_hands_on_what_expired(backend):
    lasting = [taken(backend, f"o{number}", f"limit-{number}", capacity=2) for number in range(20)]
    taken(backend, "short", "limit-7", capacity=2, ttl=0.2)
    with Line(backend) as line:
        waiting = line.join("waiter", "limit-7", capacity=2)
        time.sleep(0.3)
        assert all(backend.renew(lasting))
        assert waiting.hears(within=1.5) is not None


def test_the_first_use_of_a_limit_is_one_round_trip_too(url):
    with relayed(url) as (relay, through):
        backend = MongoBackend(through)
        taken(backend, "a", "the first makes the index")
        before = relay.requests
        for turn in range(100):
            taken(backend, "a", f"limit-{turn}")
        assert 100 <= relay.requests - before <= 103
        backend.close()


def test_two_who_make_the_same_limit_at_once_both_get_an_answer(backend):
    with ThreadPoolExecutor(8) as pool:
        for turn in range(20):
            asked = [pool.submit(look, backend, f"o{number}", f"limit-{turn}") for number in range(8)]
            answers = [each.result(timeout=20) for each in asked]
            assert sum(isinstance(answer, Grant) for answer in answers) == 1


# What is said is data.


@pytest.mark.parametrize("text", LOOKS_LIKE_CODE)
def test_what_looks_like_an_expression_is_only_text(backend, text):
    name = f"limit {text}"
    taken(backend, f"{text}-holder", name, info=text)
    assert look(backend, "away", name, place=away(text), info=text).holders[0].info == text
    with Line(backend) as line:
        waiting = line.join(text, name, info=text)
        state = backend.inspect(name)
        assert [(each.ticket, each.info) for each in state.waiters] == [(text, text), (text, text)]
        assert backend.release(name, f"{text}-holder")
        assert waiting.hears().owner == text
        assert [(each.owner, each.info) for each in backend.inspect(name).holders] == [(text, text)]


def test_prefixes_and_names_are_never_mixed_up(url):
    pairs = [("a", "b:c"), ("a:b", "c"), ("a%3Ab", "c"), ("a", "b%3Ac"), ("", "a:b:c"), ("a:", "b:c")]
    backends = [MongoBackend(url, prefix=prefix) for prefix, _ in pairs]
    for owner, (backend, (_, name)) in enumerate(zip(backends, pairs, strict=True)):
        taken(backend, str(owner), name)
        backend.close()


# What is left behind.


def test_an_idle_limit_leaves_one_small_document(backend, database):
    for number in range(100):
        taken(backend, f"o{number}", permits=2, capacity=3)
        look(backend, "passer-by", capacity=2, place=away("task", keep=0.01))
        backend.release(NAME, f"o{number}")
    time.sleep(0.05)
    backend.release(NAME, "nobody")
    (size,) = database[LIMITS].aggregate([{"$project": {"size": {"$bsonSize": "$$ROOT"}}}])
    assert size["size"] < 500


def test_every_document_is_forgotten_an_hour_or_so_after_its_last_use(backend, database):
    taken(backend, "holder")
    taken(backend, "patient", "long", capacity=2, ttl=10 * RETENTION)
    taken(backend, "short", "long", capacity=2, ttl=1)
    backend.release("long", "short")
    look(backend, "too heavy", "impossible", permits=3)
    look(backend, "passer-by", place=away("task", keep=3 * RETENTION))
    (index,) = [each for each in database[LIMITS].list_indexes() if each["key"] == {"forget_at": 1}]
    assert index["expireAfterSeconds"] == 0
    pipeline = [{"$project": {"left": {"$subtract": ["$forget_at", "$$NOW"]}}}]
    left = {each["_id"]: each["left"] / 1000 for each in database[LIMITS].aggregate(pipeline)}
    assert RETENTION < left["tasklocks:impossible"] < 1.5 * RETENTION
    assert 4 * RETENTION - 5 < left[f"tasklocks:{NAME}"] < 4.5 * RETENTION
    assert 11 * RETENTION - 5 < left["tasklocks:long"] < 11.5 * RETENTION


def test_tokens_grow_on_after_the_server_forgot_the_limit(backend, database):
    before = [taken(backend, f"o{number}", capacity=9).fencing_token for number in range(5)]
    database[LIMITS].update_one({}, [{"$set": {"forget_at": "$$NOW"}}])
    # A second on our own servers, a minute on others.
    assert eventually(lambda: database[LIMITS].count_documents({}) == 0, within=70)
    after = taken(backend, "later").fencing_token
    assert before == sorted(before)
    assert after > before[-1]


def test_no_more_than_so_many_who_are_away_are_remembered(backend, database):
    taken(backend, "holder")
    with ThreadPoolExecutor(4) as pool:
        asked = [
            pool.submit(look, backend, f"o{n}", place=away(f"task-{n}"), info="x" * 100) for n in range(AWAY_KEPT + 50)
        ]
        assert all(isinstance(each.result(timeout=60), Busy) for each in asked)
    assert len(backend.inspect(NAME).waiters) == AWAY_KEPT
    assert held(backend).ahead == AWAY_KEPT
    backend.release(NAME, "holder")
    taken(backend, "o-late", place=away("task-late"))


def test_words_of_releases_fill_no_more_than_their_collection(backend, database):
    with Line(backend):
        backend.listen("somebody").close()
    options = database[KNOCKS].options()
    assert options["capped"]
    assert options["size"] <= 1 << 20


# Long lines.


def test_a_line_of_hundreds_is_served_in_order_and_each_is_told_its_place(url, backend):
    other, count = MongoBackend(url), 150
    taken(other, "holder")
    with Line(backend) as line:
        waiting = [line.join(f"waiter-{number:03}", keep=LONG) for number in range(count)]
        assert [each.busy.ahead for each in waiting] == list(range(count))
        assert held(other).ahead == count
        assert [each.ticket for each in backend.inspect(NAME).waiters] == [each.request.owner for each in waiting]
        order = ["holder", *(each.request.owner for each in waiting)]
        for turn, each in enumerate(waiting):
            assert other.release(NAME, order[turn])
            assert backend.inspect(NAME).holders[0].owner == each.request.owner
            last = waiting[-1].ask()
            assert isinstance(last, Grant) or last.ahead == count - turn - 2
    other.close()


def test_who_leaves_or_dies_far_behind_in_a_long_line_is_passed_over(backend):
    taken(backend, "holder")
    with Line(backend) as line:
        waiting = [line.join(f"waiter-{number:03}", keep=3.0 if number % 10 == 5 else LONG) for number in range(150)]
        for each in waiting[70:140]:
            each.leave()
        time.sleep(3.1)
        staying = [each for each in (*waiting[:70], *waiting[140:]) if int(each.request.owner[-1]) != 5]
        assert waiting[-1].ask().ahead <= 149
        assert [each.ticket for each in backend.inspect(NAME).waiters] == [each.request.owner for each in staying]
        backend.release(NAME, "holder")
        for each in staying:
            assert isinstance(each.ask(), Grant)
            backend.release(NAME, each.request.owner)
    assert free(backend)


def test_many_permits_that_come_free_at_once_go_far_into_a_long_line(backend):
    taken(backend, "holder", permits=120, capacity=120)
    with Line(backend) as line:
        waiting = [line.join(f"waiter-{number:03}", capacity=120, keep=LONG) for number in range(150)]
        backend.release(NAME, "holder")
        assert {each.owner for each in backend.inspect(NAME).holders} == {each.request.owner for each in waiting[:120]}
        assert [each.ask().ahead for each in waiting[120:]] == list(range(30))


# Hearing.


def test_a_single_server_without_a_replica_set_wakes_waiters_too(tmp_path):
    require(StandaloneMongoServer)
    with StandaloneMongoServer(tmp_path / "alone") as server:
        ours, theirs = MongoBackend(server.url), MongoBackend(server.url)
        taken(theirs, "holder")
        with Line(ours) as line:
            waiting = line.join("waiter")
            threading.Timer(0.3, lambda: theirs.release(NAME, "holder")).start()
            began = time.monotonic()
            assert waiting.hears() is not None
            assert time.monotonic() - began < 1.5
        ours.close()
        theirs.close()


def test_many_waiting_threads_share_one_ear_and_all_hear_in_order(url, backend, database):
    order, failed = [], []
    lock, other = Lock(NAME, ttl=LONG, backend=backend), MongoBackend(url)

    def wait_for_it(number):
        try:
            with lock.acquire(timeout=30):
                order.append(number)
        except Exception as error:
            failed.append(error)

    taken(other, "holder")
    threads = [threading.Thread(target=wait_for_it, args=(number,)) for number in range(20)]
    for number, thread in enumerate(threads):
        thread.start()
        assert eventually(lambda: len(backend.inspect(NAME).waiters) == number + 1, within=5)  # noqa: B023
    assert _ears(database) == 1
    other.release(NAME, "holder")
    for thread in threads:
        thread.join()
    assert (order, failed) == (list(range(20)), [])
    other.close()


def test_an_ear_is_gone_after_the_backend_was_closed(backend, database):
    backend.listen("somebody").close()
    assert _ears(database) == 1
    backend.close()
    assert eventually(lambda: _ears(database) == 0, within=5)


def test_an_ear_that_the_server_cut_hears_again(url, backend, database):
    other = MongoBackend(url)
    taken(other, "holder")
    with Line(backend) as line:
        waiting = line.join("waiter")
        for each in _followed(database):
            database.client.admin.command("killOp", op=each["opid"])
        threading.Timer(1.0, lambda: other.release(NAME, "holder")).start()
        began = time.monotonic()
        assert waiting.hears() is not None
        assert time.monotonic() - began < 3
    other.close()


def test_ears_hear_again_after_somebody_dropped_their_collection(url, backend, database):
    other = MongoBackend(url)
    for turn in range(3):
        taken(other, f"holder-{turn}")
        with Line(backend) as line:
            waiting = line.join(f"waiter-{turn}")
            database.drop_collection(KNOCKS)
            database[KNOCKS].insert_one({"made": "anew, without bounds"})
            assert eventually(lambda: database[KNOCKS].options().get("capped") and _ears(database) == 1, within=10)
            other.release(NAME, f"holder-{turn}")
            assert waiting.hears(within=2) is not None
            waiting.leave()
    other.close()


def test_an_endless_ttl_harms_nobody(backend):
    taken(backend, "holder")
    with Line(backend) as line:
        waiting = line.join("patient", ttl=1e300)
        backend.release(NAME, "holder")
        assert waiting.ask().owner == "patient"
        backend.release(NAME, "patient")
    assert free(backend)


def test_a_late_word_of_a_lease_that_was_given_back_is_not_believed(url, backend, database):
    other = MongoBackend(url)
    taken(other, "holder")
    with Line(backend) as line:
        waiting = line.join("waiter")
        other.release(NAME, "holder")
        assert waiting.hears() is not None
        (word,) = database[KNOCKS].find({"owner": "waiter"})
        waiting.leave()
        taken(other, "holder")
        busy = waiting.ask()
        database[KNOCKS].insert_one({key: value for key, value in word.items() if key != "_id"})
        assert waiting.listener.wait(0.5, busy) is None
    other.close()


def test_nonsense_among_the_words_harms_nobody(url, backend, database):
    other = MongoBackend(url)
    taken(other, "holder")
    with Line(backend) as line:
        waiting = line.join("waiter")
        database[KNOCKS].insert_one({"to": waiting.listener.address})
        assert eventually(lambda: _ears(database) == 1, within=5)
        other.release(NAME, "holder")
        assert waiting.hears() is not None
    other.close()


# Processes and threads.


def test_a_forked_child_uses_connections_of_its_own(backend):
    taken(backend, "parent")
    with Line(backend) as line:
        waiting = line.join("waiter")
        child = os.fork()
        if child == 0:
            os._exit(0 if _works_in_child(backend) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        backend.release(NAME, "parent")
        assert waiting.hears()


# Whom it lets in.


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mongodb://us:s3c/ret@host/db", "cannot be read"),
        ("mongodb://us:x@s3cret@host/db", "cannot be read"),
        ("mongodb://host:s3cret/db", "cannot be read"),
        ("mongodb://us:x?s3cret@host/db", "cannot be read"),
        ("mongodb+srv://us:s3c/ret@host.example.com/db", "cannot be read"),
        ("mongodb://us:s3cret@", "cannot be read"),
        ("mongodb://us:s3cret@host/db?colour=red", "colour"),
        ("mongodb://us:s3cret@host/db?retryReads=perhaps", "retryreads"),
    ],
)
def test_a_url_that_cannot_work_says_why_and_shows_no_secret(url, message):
    with pytest.raises(ConfigurationError, match=message) as told:
        MongoBackend(url)
    assert all(part not in repr(told.value) for part in ("s3cret", "s3c", "ret@"))


def test_an_unknown_option_of_the_client_is_refused_at_once():
    with pytest.raises(ConfigurationError, match="colour"):
        connect("mongodb://host/db", options={"colour": "red"})


def test_a_server_that_is_gone_is_named_without_its_password():
    backend = MongoBackend("mongodb://user:s3cret@127.0.0.1:1/locks?serverSelectionTimeoutMS=200")
    with pytest.raises(BackendUnavailable, match=r"mongodb://127\.0\.0\.1:1/locks does not answer") as told:
        taken(backend, "a")
    assert "s3cret" not in f"{told.value!r} {told.value.__cause__!r} {backend!r}"
    backend.close()


def test_only_those_with_password_and_rights_are_let_in(tmp_path):
    require(StandaloneMongoServer)
    with StandaloneMongoServer(tmp_path / "closed", "--auth") as server:
        with MongoClient(server.url) as client:
            client.admin.command("createUser", "root", pwd="right", roles=["root"])
        where = f"127.0.0.1:{server.port}/locks?authSource=admin"
        with MongoClient(f"mongodb://root:right@{where}") as client:
            client.admin.command("createUser", "worker", pwd="p:w/@?", roles=[{"role": "readWrite", "db": "locks"}])
            client.admin.command("createUser", "reader", pwd="s3cret", roles=[{"role": "read", "db": "locks"}])
            limits = {"resource": {"db": "locks", "collection": LIMITS}, "actions": ["find", "insert", "update"]}
            client.admin.command("createRole", "deaf", privileges=[limits], roles=[])
            client.admin.command("createUser", "deaf", pwd="s3cret", roles=["deaf"])
        _refused(f"mongodb://worker:s3cret@{where}", "user or the password")
        _refused(f"mongodb://reader:s3cret@{where}", "readWrite")
        _refused(f"mongodb://{where}", "readWrite")
        _waits_without_hearing(f"mongodb://worker:p%3Aw%2F%40%3F@{where}", f"mongodb://deaf:s3cret@{where}")
        backend = MongoBackend(f"mongodb://worker:p%3Aw%2F%40%3F@{where}")
        taken(backend, "holder")
        with Line(backend) as line:
            waiting = line.join("waiter")
            backend.release(NAME, "holder")
            assert waiting.hears()
        backend.close()


def test_tls_is_spoken_and_the_certificate_checked(tmp_path):
    trustme = pytest.importorskip("trustme", reason="makes the test's certificates; `make venv` installs it")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    require(StandaloneMongoServer)
    with _TlsServer(
        tmp_path / "tls", "--tlsMode", "requireTLS", "--tlsCertificateKeyFile", f"{tmp_path}/server.pem"
    ) as server:
        trusting = MongoBackend(f"mongodb://127.0.0.1:{server.port}/locks?tls=true&tlsCAFile={tmp_path}/ca.pem")
        assert free(trusting)
        trusting.close()
        distrusting = MongoBackend(f"mongodb://127.0.0.1:{server.port}/locks?tls=true&serverSelectionTimeoutMS=500")
        with pytest.raises(BackendUnavailable, match="certificate"):
            taken(distrusting, "a")
        distrusting.close()


class _TlsServer(StandaloneMongoServer):
    """It is ready when it listens: the plain client of `hello` cannot ask it."""

    def ready(self):
        return "Waiting for connections" in self.process.log()


def _refused(url: str, reason: str) -> None:
    backend = MongoBackend(url)
    with pytest.raises(BackendRefused, match=reason) as told:
        taken(backend, "a")
    assert "s3cret" not in repr(told.value)
    backend.close()


def _waits_without_hearing(url: str, deaf_url: str) -> None:
    """Whoever may not follow the words looks again by itself."""
    hearing, deaf = MongoBackend(url), MongoBackend(deaf_url)
    taken(hearing, "holder", "heard by nobody")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(Lock("heard by nobody", backend=deaf).acquire, timeout=20)
        assert eventually(lambda: hearing.inspect("heard by nobody").waiters, within=10)
        hearing.release("heard by nobody", "holder")
        waiting.result(timeout=2.5).release()
    hearing.close()
    deaf.close()


def _works_in_child(backend) -> bool:
    taken(backend, "child", "child")
    with Line(backend) as line:
        waiting = line.join("childs-waiter", "child")
        backend.release("child", "child")
        return waiting.hears() is not None


def _ears(database) -> int:
    return len(_followed(database))


def _followed(database):
    admin = database.client.admin
    ours = {"$match": {"ns": f"{database.name}.{KNOCKS}", "op": "getmore"}}
    return list(admin.aggregate([{"$currentOp": {}}, ours]))
