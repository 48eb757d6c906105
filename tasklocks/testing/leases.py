"""What every backend promises about leases: who has one, for how long, with which token, and who may end it."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

from tasklocks import clock, connect
from tasklocks.backends.base import Backend
from tasklocks.testing.asking import LONG, NAME, held, look, taken, until_over
from tasklocks.testing.forks import in_threads
from tasklocks.types import Busy


def test_a_mutex_has_one_holder_at_a_time(backend: Backend) -> None:
    taken(backend, "a")
    assert held(backend).holders[0].owner == "a"
    backend.release(NAME, "a")
    taken(backend, "b")


def test_a_semaphore_has_as_many_holders_as_its_capacity(backend: Backend) -> None:
    for owner in "abc":
        taken(backend, owner, capacity=3)
    assert len(held(backend, capacity=3).holders) == 3
    backend.release(NAME, "b")
    taken(backend, "d", capacity=3)
    held(backend, capacity=3)


def test_permits_are_weighed(backend: Backend) -> None:
    assert taken(backend, "a", permits=3, capacity=5).permits == 3
    held(backend, permits=3, capacity=5)
    taken(backend, "b", permits=2, capacity=5)
    held(backend, permits=1, capacity=5)
    backend.release(NAME, "a")
    taken(backend, "c", permits=3, capacity=5)


def test_asking_again_as_the_same_owner_returns_the_same_lease(backend: Backend) -> None:
    first = taken(backend, "a", capacity=2)
    again = taken(backend, "a", capacity=2)
    assert again.fencing_token == first.fencing_token
    taken(backend, "b", capacity=2)
    held(backend, capacity=2)


def test_asking_again_as_the_same_owner_extends_the_lease(backend: Backend, ttl: float) -> None:
    first = taken(backend, "a", ttl=ttl)
    taken(backend, "a", ttl=LONG)
    until_over(first)
    held(backend)


def test_tokens_grow_strictly_over_releases(backend: Backend) -> None:
    tokens = []
    for turn in range(20):
        tokens.append(taken(backend, f"owner-{turn}").fencing_token)
        backend.release(NAME, f"owner-{turn}")
    assert tokens == sorted(set(tokens))
    assert all(type(token) is int and token > 0 for token in tokens)


def test_tokens_grow_strictly_among_holders_of_one_semaphore(backend: Backend) -> None:
    tokens = [taken(backend, f"owner-{turn}", capacity=20).fencing_token for turn in range(20)]
    assert tokens == sorted(set(tokens))


def test_a_token_is_larger_than_that_of_an_expired_lease(backend: Backend, ttl: float) -> None:
    first = taken(backend, "a", ttl=ttl)
    until_over(first)
    assert taken(backend, "a").fencing_token > first.fencing_token


def test_a_token_is_larger_than_that_of_a_forced_out_lease(backend: Backend) -> None:
    first = taken(backend, "a")
    backend.force_release(NAME)
    assert taken(backend, "b").fencing_token > first.fencing_token


def test_a_release_by_another_owner_changes_nothing(backend: Backend) -> None:
    taken(backend, "a")
    assert backend.release(NAME, "b") is False
    held(backend)


def test_a_second_release_is_harmless(backend: Backend) -> None:
    taken(backend, "a")
    assert backend.release(NAME, "a") is True
    assert backend.release(NAME, "a") is False
    assert backend.release("never used", "a") is False


def test_a_late_release_never_touches_the_successor(backend: Backend, ttl: float) -> None:
    until_over(taken(backend, "a", ttl=ttl))
    taken(backend, "b")
    assert backend.release(NAME, "a") is False
    assert held(backend).holders[0].owner == "b"


def test_a_late_renewal_is_refused_and_never_touches_the_successor(backend: Backend, ttl: float) -> None:
    late = taken(backend, "a", ttl=ttl)
    until_over(late)
    taken(backend, "b")
    assert list(backend.renew([late])) == [None]
    assert [holder.owner for holder in held(backend).holders] == ["b"]


def test_a_renewed_lease_outlives_its_ttl(backend: Backend, ttl: float) -> None:
    grant = taken(backend, "a", ttl=ttl)
    for _ in range(4):
        time.sleep(ttl / 2)
        (renewed,) = backend.renew([grant])
        assert renewed is not None
        assert renewed.deadline > grant.deadline
        assert renewed.fencing_token == grant.fencing_token
        grant = renewed
    held(backend)


def test_one_renewal_serves_many_leases_and_answers_in_their_order(backend: Backend) -> None:
    kept = [taken(backend, f"owner-{turn}", f"limit-{turn % 3}", capacity=10) for turn in range(7)]
    backend.release(kept[2].name, kept[2].owner)
    backend.force_release(kept[5].name, kept[5].owner)
    answers = backend.renew(kept)
    assert [answer and answer.owner for answer in answers] == [
        None if turn in (2, 5) else f"owner-{turn}" for turn in range(7)
    ]
    assert [answer.name for answer in answers if answer] == [kept[turn].name for turn in (0, 1, 3, 4, 6)]


def test_renewing_nothing_is_harmless(backend: Backend) -> None:
    assert list(backend.renew([])) == []


def test_an_expired_lease_frees_its_permit_without_a_sweep(backend: Backend, ttl: float) -> None:
    until_over(taken(backend, "a", ttl=ttl))
    taken(backend, "b")


def test_only_what_expired_is_freed(backend: Backend, ttl: float) -> None:
    taken(backend, "lasting", permits=2, capacity=3)
    until_over(taken(backend, "short", capacity=3, ttl=ttl))
    assert [holder.owner for holder in held(backend, permits=2, capacity=3).holders] == ["lasting"]
    taken(backend, "next", capacity=3)


def test_a_lease_is_there_until_the_deadline_that_its_holder_was_told(backend: Backend, ttl: float) -> None:
    before = clock.now()
    grant = taken(backend, "a", ttl=ttl)
    assert before < grant.deadline <= clock.now() + ttl
    time.sleep(max(0.0, grant.deadline - clock.now() - 0.05))
    held(backend)


def test_a_forced_out_holder_is_told_at_its_next_renewal(backend: Backend) -> None:
    grant = taken(backend, "a")
    assert backend.force_release(NAME, "a") == 1
    assert list(backend.renew([grant])) == [None]
    assert backend.release(NAME, "a") is False
    taken(backend, "b")


def test_forcing_one_out_leaves_the_others(backend: Backend) -> None:
    for owner in "abc":
        taken(backend, owner, capacity=3)
    assert backend.force_release(NAME, "b") == 1
    assert [holder.owner for holder in backend.inspect(NAME).holders] == ["a", "c"]
    assert backend.force_release(NAME, "nobody") == 0
    assert backend.force_release(NAME) == 2
    assert backend.force_release(NAME) == 0


def test_a_larger_capacity_counts_at_once(backend: Backend) -> None:
    taken(backend, "a", capacity=1)
    assert taken(backend, "b", capacity=2).capacity_was == 1
    assert backend.inspect(NAME).capacity == 2


def test_a_smaller_capacity_grants_nothing_until_enough_came_back(backend: Backend) -> None:
    for owner in "abc":
        taken(backend, owner, capacity=3)
    assert held(backend, capacity=2).capacity_was == 3
    backend.release(NAME, "a")
    assert held(backend, capacity=2).capacity_was is None
    backend.release(NAME, "b")
    assert taken(backend, "d", capacity=2).capacity_was is None


def test_the_first_capacity_replaces_none(backend: Backend) -> None:
    assert taken(backend, "a", capacity=4).capacity_was is None


def test_kept_permits_stay_taken_after_the_release(backend: Backend, ttl: float) -> None:
    grant = taken(backend, "a")
    assert backend.release(NAME, "a", keep=ttl) is True
    over = clock.now() + ttl
    busy = held(backend)
    assert busy.retry_after is not None
    assert busy.retry_after <= ttl
    assert list(backend.renew([grant])) == [None]
    assert backend.release(NAME, "a") is False
    time.sleep(max(0.0, over - clock.now()) + 0.1)
    taken(backend, "b")


def test_kept_permits_are_not_given_back_to_who_released_them(backend: Backend) -> None:
    taken(backend, "a")
    backend.release(NAME, "a", keep=LONG)
    assert isinstance(look(backend, "a"), Busy)


def test_a_closed_backend_can_be_used_again(backend: Backend) -> None:
    taken(backend, "a", "before")
    backend.close()
    backend.close()
    taken(backend, "a", "after")
    held(backend, "after")


def test_what_others_hold_survives_closing_our_connection(process_backend_url: str) -> None:
    ours = connect(process_backend_url)
    taken(ours, "a")
    ours.close()
    assert held(ours).holders[0].owner == "a"
    ours.close()


def test_many_threads_may_be_the_first_to_use_a_backend(backend: Backend) -> None:
    for turn in range(10):
        backend.close()
        together, numbers = threading.Barrier(8), itertools.count()

        def use(turn: int = turn, together: threading.Barrier = together, numbers: Iterator[int] = numbers) -> None:
            name = f"limit-{turn}-{next(numbers)}"
            together.wait()
            taken(backend, "a", name)
            assert backend.release(name, "a") is True

        in_threads(8, use)
