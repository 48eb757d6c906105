"""What every backend promises to those who wait, on each of ours."""

import pytest

from tasklocks import connect
from tasklocks.testing.away import *  # noqa: F403
from tasklocks.testing.since import *  # noqa: F403
from tasklocks.testing.waiters import *  # noqa: F403
from tasklocks.types import Place
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
