"""What every backend promises to those who wait, on each of ours."""

from tasklocks.testing.away import *  # noqa: F403
from tasklocks.testing.waiters import *  # noqa: F403
