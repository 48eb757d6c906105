"""A line chart as SVG: both axes logarithmic, one line a series, readable on a light and on a dark page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle

__all__ = ["chart"]

Series = Mapping[str, Sequence[tuple[float, float]]]

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 640, 300, 60, 40, 110, 50
_COLOURS = ("#d62728", "#2ca02c", "#1f77b4", "#9467bd", "#ff7f0e", "#8c564b")


class _Scale:
    """From a value to its place between two ends, by powers of ten."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.low, self.high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        self._start, self._step = start, (end - start) / max(1, self.high - self.low)

    def __call__(self, value: float) -> float:
        return self._start + (math.log10(value) - self.low) * self._step

    def marks(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]


def chart(title: str, across: str, series: Series) -> str:
    """Return the picture."""
    points = [point for line in series.values() for point in line]
    x = _Scale([point[0] for point in points], _LEFT, _WIDTH - _RIGHT)
    y = _Scale([point[1] for point in points], _HEIGHT - _BOTTOM, _TOP)
    parts = [_text(_LEFT, 20, title, "start"), _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, across)]
    parts += [_rule(x(mark), _TOP, x(mark), _HEIGHT - _BOTTOM) for mark in x.marks()]
    parts += [_text(x(mark), _HEIGHT - _BOTTOM + 18, f"{mark:g}") for mark in x.marks()]
    parts += [_rule(_LEFT, y(mark), _WIDTH - _RIGHT, y(mark)) for mark in y.marks()]
    parts += [_text(_LEFT - 8, y(mark) + 4, f"{mark:g}", "end") for mark in y.marks()]
    for (name, line), colour in zip(series.items(), cycle(_COLOURS)):
        parts += _line(name, [(x(across), y(up)) for across, up in line], colour)
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        f'font-size="12">\n{body}\n</svg>\n'
    )


def _line(name: str, places: Sequence[tuple[float, float]], colour: str) -> list[str]:
    path = " ".join(f"{across:.1f},{up:.1f}" for across, up in places)
    dots = [f'<circle cx="{across:.1f}" cy="{up:.1f}" r="3" fill="{colour}"/>' for across, up in places]
    label = _text(places[-1][0] + 8, places[-1][1] + 4, name, "start", colour)
    return [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>', *dots, label]


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#888" stroke-opacity="0.3"/>'


def _text(x: float, y: float, text: str, anchor: str = "middle", colour: str = "#888") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{text}</text>'
