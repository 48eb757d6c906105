"""What every backend promises to those who wait, on each of ours."""

import pytest

from tasklocks import connect
from tasklocks.testing.away import *  # noqa: F403
from tasklocks.testing.waiters import *  # noqa: F403
from tasklocks.types import AcquireRequest, Place
from tests.conftest import BACKENDS
from tests.line import look, taken


@pytest.mark.parametrize("kind", BACKENDS)
def test_a_word_about_an_earlier_wait_is_not_taken_for_this_one(new_backend_url, kind):
    backend = connect(new_backend_url(kind))
    taken(backend, "holder", "first")
    listener = backend.listen("mine")
    place = Place("mine", 9, listener.address)
    look(backend, "mine", "first", place=place)
    backend.release("first", "holder")  # the permit goes to "mine", which is about to give up
    backend.release("first", "mine")
    taken(backend, "holder", "second")
    busy = look(backend, "mine", "second", place=place)
    word = listener.wait(0.3, busy)
    listener.close()
    backend.close()
    assert word is None


@pytest.mark.parametrize("kind", ["redis", "memory"])
def test_who_has_waited_elsewhere_stands_where_he_would_have_stood(new_backend_url, kind):
    backend = connect(new_backend_url(kind))
    taken(backend, "holder", "limit")
    ears = {name: backend.listen(name) for name in ("early", "late", "newest")}
    began = _ask(backend, ears, "late").server_time
    _ask(backend, ears, "newest", since=began + 3600)
    _ask(backend, ears, "early", since=began - 10)
    waiters = [each.ticket for each in backend.inspect("limit").waiters]
    for ear in ears.values():
        ear.close()
    backend.close()
    assert waiters == ["early", "late", "newest"]


def _ask(backend, ears, owner, since=None):
    place = Place(owner, 9, ears[owner].address)
    return backend.acquire(AcquireRequest("limit", owner, place=place, since=since))
