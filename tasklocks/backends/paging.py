"""Pages of a store that can go on behind a name: first the limits in the order of their names, then the texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tasklocks.types import LimitState, Page

__all__ = ["page"]

_LIMITS, _TEXTS = "limits", "texts"


def page(
    after: str,
    most: int,
    limits_behind: Callable[[str, int], Sequence[LimitState]],
    texts_behind: Callable[[str, int], Sequence[tuple[str, str]]],
) -> Page:
    """Return what follows `after`.

    Args:
        after: where the page before ended.
        most: how many at the most.
        limits_behind: returns so many limits behind a name, in order.
        texts_behind: returns so many texts behind a name, in order.
    """
    shelf, _, name = after.partition(" ")
    limits = () if shelf == _TEXTS else tuple(limits_behind(name, most))
    if len(limits) == most:
        return Page(limits, (), f"{_LIMITS} {limits[-1].name}")
    left = most - len(limits)
    texts = tuple(texts_behind(name if shelf == _TEXTS else "", left))
    return Page(limits, texts, f"{_TEXTS} {texts[-1][0]}" if len(texts) == left else "")
