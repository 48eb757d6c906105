"""The docs say of each backend what it declares; that it does so is in test_backends_claims.py."""

from __future__ import annotations

from tasklocks.backends import _BUILT_IN
from tests.capabilities import PAGE, kind, on_page, table
from tests.conftest import BACKENDS


def test_the_table_in_the_docs_is_what_the_backends_declare():
    assert on_page() == table(), "python -m tests.capabilities writes it anew"


def test_every_backend_is_in_the_table_and_in_the_suite():
    assert all(f"`{scheme}://`" in on_page() for scheme in _BUILT_IN)
    # django:// needs a project's settings: tests/contrib_django runs the suite for it.
    assert {kind(scheme) for scheme in _BUILT_IN} == {"django", *(kind(scheme) for scheme in BACKENDS)}


def test_the_page_explains_each_column():
    page = PAGE.read_text("utf-8")
    assert all(
        f"**{word}**" in page for word in ("push", "server's clock", "strict order", "in one step", "several hosts")
    )
