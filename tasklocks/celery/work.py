"""What is to be done under limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Work"]


@dataclass(frozen=True, slots=True)
class Work:
    """A call of the user's function.

    Attributes:
        function: the user's function.
        args: its positional arguments.
        kwargs: its keyword arguments.
        key_args: the positional arguments from which the limits' names are made.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    key_args: tuple[Any, ...]

    def run(self) -> Any:
        """Do it."""
        return self.function(*self.args, **self.kwargs)
