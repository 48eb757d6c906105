"""The book of ticks: one claim a tick, whoever leads; on every backend."""

from __future__ import annotations

import itertools

import pytest

from tasklocks import BackendUnavailable, LeaseLost, connect
from tasklocks.beat.book import Book, Claim, Run
from tests.conftest import BACKENDS

_moments = itertools.count(1_000_000)


@pytest.fixture(params=BACKENDS)
def backend(request, new_backend_url):
    made = connect(new_backend_url(request.param))
    yield made
    made.close()


def opened(backend, token: int) -> Book:
    book = Book(backend, "schedule")
    book.open(token)
    return book


def tick(due: int, name: str = "entry") -> Claim:
    return Claim(name, Run(last=next(_moments), due=due))


def test_a_tick_is_granted_once(backend):
    book = opened(backend, 1)
    assert [claim.name for claim in book.claim([tick(due=10)])] == ["entry"]
    assert book.claim([tick(due=10)]) == []
    assert book.claim([tick(due=9)]) == []
    assert book.claim([tick(due=11)]) != []


def test_an_older_leader_can_claim_nothing_once_a_newer_one_has_opened(backend):
    old = opened(backend, 1)
    new = opened(backend, 2)
    for due in (10, 20):
        with pytest.raises(LeaseLost):
            old.claim([tick(due)])
    assert new.claim([tick(due=10)])
    with pytest.raises(LeaseLost):
        old.open(1)


def test_of_two_leaders_at_once_one_sends_each_tick(backend):
    old = opened(backend, 1)
    first = old.claim([tick(due=10)])
    new = opened(backend, 2)
    assert first
    assert new.claim([tick(due=10)]) == []


def test_a_successor_reads_what_ran_and_what_is_in_doubt(backend):
    old = opened(backend, 1)
    old.claim([tick(10, "told")])
    old.sent("told", 10)
    old.flush()
    old.claim([tick(10, "in doubt")])
    runs = opened(backend, 2).runs()
    assert runs["told"].sent
    assert not runs["in doubt"].sent


def test_a_tick_is_not_marked_sent_for_an_earlier_one(backend):
    book = opened(backend, 1)
    book.claim([tick(10)])
    book.sent("entry", 10)
    book.claim([tick(20)])
    assert not opened(backend, 2).runs()["entry"].sent


def test_what_is_given_back_can_be_claimed_again_and_the_run_before_counts(backend):
    book = opened(backend, 1)
    book.claim([tick(10)])
    book.sent("entry", 10)
    book.give_back(book.claim([tick(20)]))
    assert opened(backend, 2).runs()["entry"].due == 10
    new = opened(backend, 3)
    assert new.claim([tick(20)])


def test_what_a_standby_has_read_does_not_come_back_after_it_was_given_back(backend):
    book = opened(backend, 1)
    claims = book.claim([tick(20)])
    standby = Book(backend, "schedule")
    standby.look()
    book.give_back(claims)
    standby.open(2)
    assert standby.runs() == {}
    assert standby.claim([tick(20)])


def test_a_claim_whose_answer_was_lost_is_granted_when_it_is_asked_again(backend):
    class Deaf:
        """The step is done; its answer does not arrive."""

        def update(self, name, change):
            backend.update(name, change)
            raise BackendUnavailable("the connection was cut")

    book = opened(backend, 1)
    book._backend = Deaf()
    with pytest.raises(BackendUnavailable):
        book.claim([tick(10)])
    book._backend = backend
    assert book.claim([tick(10)])
    book.sent("entry", 10)
    assert book.claim([tick(10)]) == []


def test_a_leader_writes_again_what_the_backend_has_lost(new_backend_url):
    first, empty = connect(new_backend_url("memory")), connect(new_backend_url("memory"))
    book = opened(first, 1)
    book.claim([tick(10)])
    book._backend = empty
    assert book.claim([tick(10)]) == []
    assert not book.misses_its_writer()
    assert opened(empty, 2).runs()["entry"].due == 10


def test_a_standby_that_only_read_knows_that_the_writer_is_missing(new_backend_url):
    first, empty = connect(new_backend_url("memory")), connect(new_backend_url("memory"))
    opened(first, 1).claim([tick(10)])
    standby = Book(first, "schedule")
    standby.look()
    assert not standby.misses_its_writer()
    standby._backend = empty
    assert standby.misses_its_writer()
    standby.open(2)
    assert standby.remade
    assert standby.claim([tick(10)]) == []


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"token": "x"}', '{"token": 1, "runs": {"entry": 7}}'])
def test_a_page_that_says_nothing_sensible_is_an_empty_one(text, new_backend_url):
    backend = connect(new_backend_url("memory"))
    for page in range(16):
        backend.update(f"schedule/ticks/{page}", lambda _, __: (text, 60.0, None))
    assert opened(backend, 1).claim([tick(10)])


def test_a_book_stays_small_however_many_names_are_used_once(new_backend_url):
    backend = connect(new_backend_url("memory"))
    book = opened(backend, 1)
    page = book.page_of("entry")
    names = [name for name in (f"{'x' * 900}{n}" for n in range(6000)) if book.page_of(name) == page][:200]
    for name in names:
        book.claim([tick(10, name)])
    size = backend.update(f"schedule/ticks/{page}", lambda text, _: (text, 60.0, len(text)))
    assert size < 120_000
    assert book.claim([tick(10, names[-1])]) == []
