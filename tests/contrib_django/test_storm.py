"""`django://` in the storm of `tests/storm`: processes that are killed and frozen at random break no promise."""

from __future__ import annotations

import os

import pytest

from tests.contrib_django.conftest import settings_module
from tests.processes import ROOT
from tests.storm import test_storm as storm


@pytest.fixture
def stormy_url(request, new_database, tmp_path, monkeypatch):
    """The URL of an empty database, which child processes understand, too."""
    alias = new_database(request.param)
    folder = settings_module(tmp_path / "settings", alias)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "site_settings")
    return f"django://{alias}"


@pytest.mark.parametrize("stormy_url", ["postgresql", pytest.param("sqlite", marks=pytest.mark.soak)], indirect=True)
def test_in_a_short_storm_no_promise_is_broken(stormy_url, tmp_path):
    (tmp_path / "storm").mkdir()
    storm._storm(stormy_url, tmp_path / "storm", seconds=5.0)


@pytest.mark.soak
@pytest.mark.timeout(480)
@pytest.mark.parametrize("stormy_url", ["postgresql", "sqlite"], indirect=True)
def test_in_a_storm_of_minutes_no_promise_is_broken(stormy_url, tmp_path):
    (tmp_path / "storm").mkdir()
    verdict = storm._storm(stormy_url, tmp_path / "storm", seconds=120.0)
    assert min(verdict.renewals, verdict.refused) > 0, verdict
