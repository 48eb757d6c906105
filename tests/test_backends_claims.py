"""What each of our backends says of itself, held against what it does."""

from tasklocks.testing.claims import *  # noqa: F403
