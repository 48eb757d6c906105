"""Results on disk: one JSON file for each comparison, with the circumstances under which it was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Result", "load", "save"]


@dataclass(frozen=True, slots=True)
class Result:
    """One comparison, measured.

    Attributes:
        measure: its name.
        circumstances: date, machine, versions.
        seconds: of measuring for each contestant.
        skipped: who was not measured, and why.
        rows: the figures.
    """

    measure: str
    circumstances: Mapping[str, Any]
    seconds: float
    skipped: Mapping[str, str]
    rows: Sequence[Mapping[str, Any]]


def save(result: Result, folder: Path) -> Path:
    """Write `result` and return its file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.measure}.json"
    fields = {name: getattr(result, name) for name in Result.__slots__}
    path.write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n")
    return path


def load(folder: Path) -> dict[str, Result]:
    """Return all results in `folder`, by measure."""
    found = [Result(**json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))]
    return {result.measure: result for result in found}
