"""What each of our backends says of itself, what it leaves behind, and what a restart does to it."""

from tasklocks.testing.claims import *  # noqa: F403
from tasklocks.testing.leftovers import *  # noqa: F403
from tasklocks.testing.restarts import *  # noqa: F403
