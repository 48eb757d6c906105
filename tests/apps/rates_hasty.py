"""The tasks of `tests.apps.rates` in workers for which a few seconds are a long wait."""

from __future__ import annotations

import importlib
import sys

from tasklocks.celery import conf, early, fetch, later

if "worker" in sys.argv:  # the tests' own process loads this, too
    later.STAYS = fetch.STAYS = (1.0, 3.0)
    later._LEAD = 0.5
    conf.SHORTEST_BOUND = 1.5
    early._SOON = 0.5

# Anew, for each stage has settings of its own.
sys.modules.pop("tests.apps.rates", None)
rates = importlib.import_module("tests.apps.rates")
app = rates.app
globals().update({name: value for name, value in vars(rates).items() if not name.startswith("_")})
