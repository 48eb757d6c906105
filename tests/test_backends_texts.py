"""What every backend promises about its texts and reserved starts, on each of ours."""

from tasklocks.testing.several import *  # noqa: F403
from tasklocks.testing.texts import *  # noqa: F403
