"""What the page costs while somebody watches."""

from __future__ import annotations

import pytest

from benchmarks.served_page import watched


@pytest.mark.soak
def test_a_thousand_changing_limits_take_less_than_a_tenth_of_a_core(redis_server):
    figures = watched(redis_server.url, 1000, 20.0)
    print(figures)
    assert figures["share"] < 10
    assert figures["share_alone"] < 2
    assert figures["kilobytes"] > 0.5, "nothing changed"
