"""What every backend promises about leases and limits, on each of ours."""

from tasklocks.testing.leases import *  # noqa: F403
from tasklocks.testing.names import *  # noqa: F403
from tasklocks.testing.views import *  # noqa: F403
