"""Each of our backends does what a few lines of plain Python do."""

import pytest

from tasklocks.testing.model import *  # noqa: F403


@pytest.fixture(autouse=True)
def _open_on_etcd(request):
    """What is known to be open there; see the reason."""
    if "etcd" in request.node.name:
        reason = "open: under load a run of up to 40 steps outlives a place or a lease on etcd, whose leases are short"
        request.applymarker(pytest.mark.xfail(reason=reason, strict=False))
