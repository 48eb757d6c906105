"""What every backend promises to those who look at all that it keeps, on each of ours."""

from tasklocks.testing.pages import *  # noqa: F403
