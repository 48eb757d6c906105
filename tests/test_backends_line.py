"""What every backend promises to those who wait, on each of ours."""

from tasklocks.testing.waiters import *  # noqa: F403
