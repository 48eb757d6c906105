'''All that every backend promises, as tests for the author of one more.

A test module of yours imports them, and says in one fixture how an empty backend is reached:

    import pytest
    from tasklocks.testing.conformance import *

    @pytest.fixture
    def backend_url(tmp_path):
        """The URL of an empty backend; called once for each test."""
        return f"box://{tmp_path.name}"

More fixtures may be overridden, see `fixtures`: `shared_by_processes`, whether two processes with the same URL share
limits (True unless you say otherwise); `restartable` and `left_for_ever`, without which a few tests are skipped.
'''

from tasklocks.testing.away import *  # noqa: F403
from tasklocks.testing.claims import *  # noqa: F403
from tasklocks.testing.fixtures import *  # noqa: F403
from tasklocks.testing.leases import *  # noqa: F403
from tasklocks.testing.leftovers import *  # noqa: F403
from tasklocks.testing.locks import *  # noqa: F403
from tasklocks.testing.model import *  # noqa: F403
from tasklocks.testing.names import *  # noqa: F403
from tasklocks.testing.pages import *  # noqa: F403
from tasklocks.testing.processes import *  # noqa: F403
from tasklocks.testing.restarts import *  # noqa: F403
from tasklocks.testing.several import *  # noqa: F403
from tasklocks.testing.since import *  # noqa: F403
from tasklocks.testing.texts import *  # noqa: F403
from tasklocks.testing.together import *  # noqa: F403
from tasklocks.testing.views import *  # noqa: F403
from tasklocks.testing.waiters import *  # noqa: F403
