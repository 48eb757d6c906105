"""The conformance suite: what every backend promises, as tests that a backend's author runs. See `conformance`.

Needs the extra `tasklocks[testing]`; nothing else of tasklocks imports it.
"""

from __future__ import annotations

import pkgutil

try:
    import pytest
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"tasklocks.testing needs the package {error.name!r}, which is not installed: pip install 'tasklocks[testing]'",
        name=error.name,
    ) from error

# Before the first of them is imported: otherwise a failed assert would not show its values.
pytest.register_assert_rewrite(*(f"tasklocks.testing.{module.name}" for module in pkgutil.iter_modules(__path__)))
