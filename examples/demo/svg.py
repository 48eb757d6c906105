"""The picture as an SVG file: the whole run, and below it some seconds enlarged with the names of the files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

from record import Hold
from timeline import Lane, Picture

__all__ = ["write_svg"]

_WIDTH = 1240
_LEFT = 130
_RIGHT = 30
_PLOT = _WIDTH - _LEFT - _RIGHT
_ROW = 34
_BAR = 26
_TICKS = 18
_ZOOM = 3.0
_LETTER = 6.1  # the width of a character of a bar's name, on the safe side
_STYLE = """
  text { font-family: "DejaVu Sans", "Segoe UI", Helvetica, Arial, sans-serif; font-size: 13px; fill: #24292f; }
  .title { font-size: 21px; font-weight: bold; }
  .bad { fill: #c62828; }
  .note { fill: #57606a; }
  .label { text-anchor: end; }
  .axis { font-size: 12px; fill: #57606a; text-anchor: middle; }
  .name { font-size: 10px; fill: #ffffff; }
  .grid { stroke: #d8dee4; stroke-width: 1; }
  .again { stroke: #8c959f; stroke-width: 1; }
"""


@dataclass(frozen=True, slots=True)
class _Window:
    """A part of the time and where it stands."""

    start: float
    end: float
    top: int

    def x(self, time: float) -> float:
        inside = min(max(time, self.start), self.end)
        return _LEFT + (inside - self.start) / (self.end - self.start) * _PLOT

    def shows(self, start: float, end: float) -> bool:
        return start < self.end and end > self.start


def write_svg(picture: Picture, path: Path, *, good: bool) -> None:
    """Write the picture; `good` colors its title."""
    panel = _panel_height(picture)
    whole = _Window(picture.start, picture.end, 108)
    body = [*_head(picture, good), *_panel(picture, whole)]
    height = whole.top + panel + 30
    # A run that is hardly longer than the enlarged part would be shown twice.
    if picture.end - picture.start > 1.5 * _ZOOM:
        middle = picture.start + (picture.end - picture.start - _ZOOM) * 0.45
        zoom = _Window(middle, middle + _ZOOM, height + 16)
        body += [_text(_LEFT, zoom.top - 16, "note", f"{_ZOOM:g} seconds of it enlarged, with the files' names")]
        body += _panel(picture, zoom)
        height = zoom.top + panel + 30
    size = f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<style>{_STYLE}</style>'
    path.write_text("\n".join([head, '<rect width="100%" height="100%" fill="#ffffff"/>', *body, "</svg>\n"]))


def _panel_height(picture: Picture) -> int:
    return len(picture.lanes) * _ROW + _TICKS + 40


def _head(picture: Picture, good: bool) -> Iterator[str]:
    yield _text(_LEFT, 36, "title" if good else "title bad", picture.title)
    yield _text(_LEFT, 60, "note", picture.subtitle)
    for position, (pid, worker) in enumerate(picture.processes.items()):
        x = _LEFT + position * (_PLOT / max(8, len(picture.processes)))
        yield f'<rect x="{x:.1f}" y="75" width="12" height="12" rx="2" fill="{picture.color(pid)}"/>'
        yield f'<text x="{x + 17:.1f}" y="86" style="font-size: 11px">{escape(worker)} · {pid}</text>'


def _panel(picture: Picture, window: _Window) -> Iterator[str]:
    bottom = window.top + len(picture.lanes) * _ROW + _TICKS
    yield from _axis(picture, window, bottom)
    for row, lane in enumerate(picture.lanes):
        yield from _lane(picture, window, lane, window.top + row * _ROW)
    yield from _sent_again(picture, window, bottom - _TICKS)


def _axis(picture: Picture, window: _Window, bottom: int) -> Iterator[str]:
    step = _step(window.end - window.start)
    first = -(-(window.start - picture.start) // step)
    while (second := first * step) <= window.end - picture.start:
        x = window.x(picture.start + second)
        yield f'<line class="grid" x1="{x:.1f}" y1="{window.top - 4}" x2="{x:.1f}" y2="{bottom + 4}"/>'
        yield _text(x, bottom + 20, "axis", f"{second:g} s")
        first += 1


def _step(length: float) -> float:
    return next((step for step in (0.2, 0.5, 1.0, 2.0, 5.0) if length / step <= 18), 10.0)


def _lane(picture: Picture, window: _Window, lane: Lane, y: int) -> Iterator[str]:
    yield f'<g class="lane" data-lane="{escape(lane.label)}">'
    yield _text(_LEFT - 12, y + 18, "label" if lane.allowed else "label bad", lane.label)
    fill = "#f3f5f7" if lane.allowed else "#fde7e7"
    yield f'<rect x="{_LEFT}" y="{y}" width="{_PLOT}" height="{_BAR}" fill="{fill}" rx="3"/>'
    for hold in lane.holds:
        end = picture.end if hold.end is None else hold.end
        if window.shows(hold.start, end):
            yield from _bar(picture, window, hold, end, y)
    yield "</g>"


def _bar(picture: Picture, window: _Window, hold: Hold, end: float, y: int) -> Iterator[str]:
    left, right = window.x(hold.start), window.x(end)
    times = f"{hold.start - picture.start:.3f} s to {end - picture.start:.3f} s"
    told = f"{hold.what}, {times}, {hold.worker} pid {hold.pid}, fencing token {hold.token}"
    # A hair narrower than the hold, so that neighbours are told apart; never wider.
    shape = f'x="{left:.2f}" y="{y}" width="{max(right - left - 0.6, 0.4):.2f}" height="{_BAR}" rx="2"'
    yield f'<rect {shape} fill="{picture.color(hold.pid)}"><title>{escape(told)}</title></rect>'
    if len(hold.what) * _LETTER + 8 <= right - left:
        yield _text(left + 5, y + 17, "name", hold.what)


def _sent_again(picture: Picture, window: _Window, y: int) -> Iterator[str]:
    yield _text(_LEFT - 12, y + 13, "label note", "sent again")
    for again in picture.story.again:
        if window.shows(again.time, again.time):
            x = window.x(again.time)
            yield f'<line class="again" x1="{x:.1f}" y1="{y + 3}" x2="{x:.1f}" y2="{y + 14}"/>'


def _text(x: float, y: int, kind: str, words: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y}">{escape(words)}</text>'
