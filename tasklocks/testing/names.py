"""What every backend promises about names: any text names one limit, and no two limits, owners or prefixes meet."""

from __future__ import annotations

from tasklocks import connect
from tasklocks.backends import Backend
from tasklocks.testing.asking import NAME, free, held, taken
from tasklocks.types import Grant

UNUSUAL_NAMES = [
    "with spaces  and two",
    " leading",
    "{braces}",
    "}{",
    "a{b}c",
    "a:b",
    "a/b/../c",
    "..",
    "100%",
    "%s%d",
    "back\\slash",
    "quote'\"; DROP TABLE leases; --",
    "*?[a-z]",
    "Straße",
    "caf\u00e9",
    "cafe\u0301",  # looks the same, is another name
    "日本語",
    "🔒🔑",
    "case",
    "Case",
    "None",
    "0",
    "x" * 999 + "1",
    "x" * 999 + "2",
    "é" * 1000,
]


def test_limits_do_not_touch_each_other(backend: Backend) -> None:
    taken(backend, "a", "one")
    taken(backend, "a", "two")
    backend.release("one", "a")
    held(backend, "two")
    assert free(backend, "one")


def test_two_prefixes_never_meet(backend_url: str) -> None:
    ours, theirs = connect(backend_url, prefix="ours"), connect(backend_url, prefix="ours:")
    taken(ours, "a")
    taken(theirs, "a")
    assert ours.release(NAME, "a")
    held(theirs)
    ours.close()
    theirs.close()


def test_unusual_names_are_names_of_limits_of_their_own(backend: Backend) -> None:
    tokens = {name: taken(backend, "a", name, info=name).fencing_token for name in UNUSUAL_NAMES}
    for name, token in tokens.items():
        state = backend.inspect(name)
        assert (state.name, state.capacity, len(state.holders)) == (name, 1, 1)
        assert (state.holders[0].fencing_token, state.holders[0].info) == (token, name)
        assert held(backend, name).holders[0].owner == "a"
        assert backend.release(name, "a") is True


def test_unusual_owners_and_infos_come_back_as_they_are(backend: Backend) -> None:
    for turn, text in enumerate([*UNUSUAL_NAMES, "two\nlines", "tab\there", '{"json": [1, "ü"]}', ","]):
        name = f"limit-{turn}"
        grant = taken(backend, text, name, info=text)
        holder = held(backend, name).holders[0]
        assert (grant.owner, holder.owner, holder.info) == (text, text, text)
        assert next(iter(backend.renew([grant]))).owner == text
        assert backend.release(name, text) is True


def test_many_limits_at_once(backend: Backend) -> None:
    grants = [taken(backend, "a", f"limit-{turn}") for turn in range(300)]
    assert all(isinstance(answer, Grant) for answer in backend.renew(grants))
    held(backend, "limit-150")
    assert all(backend.release(grant.name, "a") for grant in grants)


def test_an_unknown_limit_has_nothing(backend: Backend) -> None:
    state = backend.inspect("never used")
    assert (state.name, state.capacity, state.holders, state.waiters, state.usual_hold) == (
        "never used",
        0,
        (),
        (),
        None,
    )
