"""What every backend promises about leases, on each of ours."""

from tasklocks.testing.leases import *  # noqa: F403
