'''All that every backend promises, as tests for the author of one more.

A test module of yours imports them, and says in one fixture how an empty backend is reached:

    import pytest
    from tasklocks.testing.conformance import *

    @pytest.fixture
    def backend_url(tmp_path):
        """The URL of an empty backend; called once for each test."""
        return f"box://{tmp_path.name}"

Two more fixtures may be overridden: `shared_by_processes`, which returns whether two processes with the same URL share
limits (True unless you say otherwise), and `restart`, which returns a function that restarts the server behind
`backend_url` (without it that test is skipped).
'''

from tasklocks.testing.away import *  # noqa: F403
from tasklocks.testing.claims import *  # noqa: F403
from tasklocks.testing.fixtures import *  # noqa: F403
from tasklocks.testing.leases import *  # noqa: F403
from tasklocks.testing.locks import *  # noqa: F403
from tasklocks.testing.model import *  # noqa: F403
from tasklocks.testing.names import *  # noqa: F403
from tasklocks.testing.processes import *  # noqa: F403
from tasklocks.testing.views import *  # noqa: F403
from tasklocks.testing.waiters import *  # noqa: F403
