"""Each of our backends does what a few lines of plain Python do."""

from tasklocks.testing.model import *  # noqa: F403
