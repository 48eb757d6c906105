"""The picture in numbers: a lane for each permit, its holders one after the other; and the terminal's view of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from record import Hold, Story
from rich.console import Console
from rich.style import Style
from rich.text import Text

__all__ = ["Lane", "Picture", "make_picture", "print_picture"]

COLORS = ("#1f5fa8", "#4a8fd6", "#0e6e5c", "#2f9e7a", "#a8432b", "#cf7a1c", "#5f3f8c", "#9a6cc0")
"""One a process: blue and green for the first worker, warm ones for the second."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One permit.

    Attributes:
        label: its name in the picture.
        allowed: False: there is no such permit; somebody held what was not there.
        holds: who held it; never two at once.
    """

    label: str
    allowed: bool
    holds: tuple[Hold, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """All that the terminal and the file show.

    Attributes:
        title: the verdict.
        subtitle: what was done.
        lanes: the permits.
        story: the record behind them.
        processes: the worker's name of each process, by pid, in the order of the colors.
        start: seconds on the record's clock at the left edge.
        end: the same at the right edge.
    """

    title: str
    subtitle: str
    lanes: tuple[Lane, ...]
    story: Story
    processes: dict[int, str]
    start: float
    end: float

    def color(self, pid: int) -> str:
        """Return the color of a process."""
        return COLORS[self.position(pid) % len(COLORS)]

    def position(self, pid: int) -> int:
        """Return the place of a process in the legend."""
        return list(self.processes).index(pid)

    def letter(self, pid: int) -> str:
        """Return the letter that stands for a process on a terminal."""
        return chr(ord("A") + self.position(pid) % 26)

    def style(self, pid: int) -> Style:
        """Return the look of its letter."""
        return Style(color="#ffffff", bgcolor=self.color(pid))


def make_picture(title: str, subtitle: str, story: Story, limits: Sequence[tuple[str, int]]) -> Picture:
    """Lay out the record.

    Args:
        title: the verdict.
        subtitle: what was done.
        story: the record.
        limits: the locks to show and their capacities.
    """
    times = [hold.start for hold in story.holds] + [hold.end for hold in story.holds if hold.end is not None]
    lanes = [lane for limit, capacity in limits for lane in _lanes(limit, capacity, story.of(limit))]
    found = sorted({(hold.worker, hold.pid) for hold in story.holds})
    processes = {pid: worker.partition("@")[0] for worker, pid in found}
    return Picture(title, subtitle, tuple(lanes), story, processes, min(times, default=0.0), max(times, default=1.0))


def print_picture(picture: Picture, console: Console) -> None:
    """Print the lanes with a letter and a color for each process."""
    width = max(40, min(console.width, 140) - 16)
    for lane in picture.lanes:
        label = Text(f"{lane.label:>13} ", style="bold" if lane.allowed else "bold red")
        console.print(label, _lane_text(picture, lane, width), sep="")
    console.print(_axis_text(picture, width), style="dim")
    for text in _legend_texts(picture):
        console.print(text)


def _lanes(limit: str, capacity: int, holds: Sequence[Hold]) -> list[Lane]:
    """Put each hold into the first lane that is free, so that there are as many lanes as holders at once."""
    lanes: list[list[Hold]] = [[] for _ in range(capacity)]
    for hold in holds:
        free = next((lane for lane in lanes if not lane or _over(lane[-1], hold.start)), None)
        if free is None:
            lanes.append(free := [])
        free.append(hold)
    return [Lane(_label(limit, number, capacity), number <= capacity, tuple(x)) for number, x in enumerate(lanes, 1)]


def _over(hold: Hold, now: float) -> bool:
    return hold.end is not None and hold.end <= now


def _label(limit: str, number: int, capacity: int) -> str:
    if number > capacity:
        return f"{limit} +{number - capacity}!"
    return f"{limit} (mutex)" if capacity == 1 else f"{limit} {number}"


def _lane_text(picture: Picture, lane: Lane, width: int) -> Text:
    step = (picture.end - picture.start) / width
    text = Text()
    for column in range(width):
        left = picture.start + column * step
        hold = _longest(picture, lane, left, left + step)
        text.append(*_cell(picture, hold))
    return text


def _cell(picture: Picture, hold: Hold | None) -> tuple[str, Style]:
    if hold is None:
        return "·", Style(dim=True)
    return picture.letter(hold.pid), picture.style(hold.pid)


def _longest(picture: Picture, lane: Lane, left: float, right: float) -> Hold | None:
    """Return who held the lane longest within a column, if anyone did for half of it."""

    def share(hold: Hold) -> float:
        end = picture.end if hold.end is None else hold.end
        return min(end, right) - max(hold.start, left)

    best = max(lane.holds, key=share, default=None)
    return (
        best if best is not None and sum(max(0.0, share(hold)) for hold in lane.holds) >= (right - left) / 2 else None
    )


def _axis_text(picture: Picture, width: int) -> str:
    length = picture.end - picture.start
    marks = [" "] * (width + 8)
    for second in range(0, int(length) + 1, 2):
        column = int(second / length * width)
        marks[column : column + 4] = f"{f'{second}s':<4}"
    return " " * 14 + "".join(marks).rstrip()


def _legend_texts(picture: Picture) -> Iterator[Text]:
    for worker in dict.fromkeys(picture.processes.values()):
        text = Text(f"{worker:>13} ", style="dim")
        for pid in (pid for pid, its in picture.processes.items() if its == worker):
            text.append(f" {picture.letter(pid)} ", picture.style(pid))
            text.append(f" pid {pid}  ")
        yield text
