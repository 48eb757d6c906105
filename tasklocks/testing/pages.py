"""What every backend promises to those who look at all that it keeps."""

from __future__ import annotations

from collections import Counter

import pytest

from tasklocks import connect
from tasklocks.backends import Backend
from tasklocks.testing.asking import Line, away, look, taken
from tasklocks.testing.names import UNUSUAL_NAMES
from tasklocks.types import Page

_MOST_PAGES = 10_000


def pages(backend: Backend, most: int = 200) -> list[Page]:
    found = [backend.page("", most)]
    while found[-1].after:
        assert len(found) < _MOST_PAGES, "the pages never end"
        found.append(backend.page(found[-1].after, most))
    return found


def limits_in(backend: Backend, most: int = 200) -> list[str]:
    return [state.name for page in pages(backend, most) for state in page.limits]


def texts_in(backend: Backend, most: int = 200) -> list[tuple[str, str]]:
    return [text for page in pages(backend, most) for text in page.texts]


def write(backend: Backend, name: str, text: str) -> None:
    backend.update(name, lambda _text, _now: (text, 60.0, None))


def test_where_nothing_is_kept_no_page_has_anything(backend: Backend) -> None:
    assert limits_in(backend) == []
    assert texts_in(backend) == []


@pytest.mark.parametrize("most", [1, 7, 200])
def test_pages_show_every_limit_and_every_text_once(backend: Backend, most: int) -> None:
    names = [f"limit-{number}" for number in range(30)]
    for name in names:
        taken(backend, "a", name)
        write(backend, name, f"text of {name}")
    assert Counter(limits_in(backend, most)) == Counter(names)
    assert Counter(texts_in(backend, most)) == Counter((name, f"text of {name}") for name in names)


def test_a_page_shows_of_a_limit_what_inspect_shows(backend: Backend, line: Line) -> None:
    taken(backend, "a", capacity=3, permits=2, info="one")
    taken(backend, "b", capacity=3, info="two")
    line.join("c", capacity=3, info="three")
    look(backend, "d", capacity=3, place=away("d"), info="four")
    (shown,) = [state for page in pages(backend) for state in page.limits]
    known = backend.inspect(shown.name)
    assert (shown.name, shown.capacity, known.capacity) == (known.name, 3, 3)
    assert [(each.ticket, each.listening, each.info) for each in shown.waiters] == [
        ("c", True, "three"),
        ("d", False, "four"),
    ]
    assert [(each.owner, each.permits, each.fencing_token, each.info) for each in shown.holders] == [
        (each.owner, each.permits, each.fencing_token, each.info) for each in known.holders
    ]
    assert [each.owner for each in shown.holders] == ["a", "b"]


def test_a_limit_with_more_holders_than_a_page_is_shown_in_full(backend: Backend) -> None:
    for number in range(25):
        taken(backend, f"owner-{number}", "crowded", capacity=25)
    taken(backend, "a", "crowded and more")
    shown = {state.name: len(state.holders) for page in pages(backend, 5) for state in page.limits}
    assert shown == {"crowded": 25, "crowded and more": 1}


def test_unusual_names_are_shown_as_they_are(backend: Backend) -> None:
    for name in UNUSUAL_NAMES:
        taken(backend, "a", name)
        write(backend, name, name)
    assert sorted(limits_in(backend, 5)) == sorted(UNUSUAL_NAMES)
    assert sorted(texts_in(backend, 5)) == sorted((name, name) for name in UNUSUAL_NAMES)


def test_pages_show_nothing_of_another_prefix(backend_url: str) -> None:
    prefixes = ["ours", "ours:", "our", "ours%text", "o*", "[o]urs"]
    backends = {prefix: connect(backend_url, prefix=prefix) for prefix in prefixes}
    for prefix, each in backends.items():
        taken(each, "a", f"limit of {prefix}")
        write(each, f"text of {prefix}", prefix)
    for prefix, each in backends.items():
        assert limits_in(each) == [f"limit of {prefix}"]
        assert texts_in(each) == [(f"text of {prefix}", prefix)]
        each.close()


def test_pages_change_nothing(backend: Backend) -> None:
    taken(backend, "a")
    first = limits_in(backend), backend.inspect("limit").holders[0].owner
    assert (limits_in(backend), backend.inspect("limit").holders[0].owner) == first


def test_what_is_there_all_the_time_is_shown_although_others_come_and_go(backend: Backend) -> None:
    names = {f"stays-{number}" for number in range(20)}
    for name in names:
        taken(backend, "a", name)
    shown: set[str] = set()
    page = backend.page("", 5)
    for turn in range(_MOST_PAGES):
        shown |= {state.name for state in page.limits}
        if not page.after:
            break
        taken(backend, "a", f"comes-{turn % 50}")
        backend.release(f"comes-{turn % 50}", "a")
        page = backend.page(page.after, 5)
    assert names <= shown


def test_a_store_that_tells_its_version_says_more_than_a_word(backend: Backend) -> None:
    assert not backend.version() or any(sign.isdigit() for sign in backend.version())
