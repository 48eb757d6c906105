"""Ways for tests to ask a backend, and to wait in its line step by step: those of the public conformance suite."""

from tasklocks.testing.asking import LONG, NAME, Line, Waiting, away, free, held, look, taken, until_over

__all__ = ["LONG", "NAME", "Line", "Waiting", "away", "free", "held", "look", "taken", "until_over"]
