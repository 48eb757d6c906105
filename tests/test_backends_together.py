"""What `tasklocks.testing` promises of a lock and rates taken together, on the backends that come with tasklocks."""

from tasklocks.testing.together import *  # noqa: F403
