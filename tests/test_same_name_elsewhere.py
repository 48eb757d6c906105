"""A name is a limit only together with its backend."""

from tasklocks import Lock, locked


def test_a_limit_of_the_same_name_on_another_backend_is_not_ones_own():
    @locked("same-name", backend="memory://inner")
    def inner():
        return "ran"

    with Lock("same-name", backend="memory://outer"):
        assert inner() == "ran"


def test_a_reentrant_call_does_not_borrow_a_lease_of_another_backend():
    @locked("same-name", backend="memory://inner", reentrant=True)
    def inner():
        return Lock("same-name", backend="memory://inner")._backend.inspect("same-name").holders

    with Lock("same-name", backend="memory://outer"):
        assert len(inner()) == 1
