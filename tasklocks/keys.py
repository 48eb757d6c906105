"""From a call to the name of its limit: templates over the call's arguments, or a function of them.

Arguments are bound to the function's signature first, defaults included, so that `pay(1)` and `pay(account=1)` are the
same key. What an argument puts into a name is data: it is shown on one line, and it must be the same text in every
process, or two workers would lock two different things.
"""

from __future__ import annotations

import inspect
import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tasklocks.errors import ConfigurationError
from tasklocks.names import check_name, escaped

__all__ = ["KeyFunction", "key_function"]

KeyFunction = Callable[[Sequence[Any], Mapping[str, Any]], str]
"""From a call's positional and keyword arguments to the limit's name."""

# What object.__repr__ shows: a memory address, different in every process.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+>")


def key_function(name: str | Callable[..., str], signature: inspect.Signature, where: str) -> KeyFunction:
    """Return the function that names the limit of a call.

    Args:
        name: a format string over the parameters of `signature`, or a function of the call's arguments.
        signature: of the function that is called.
        where: what is named in errors: the task.

    Raises:
        ConfigurationError: `name` cannot work, whatever the arguments.
    """
    if callable(name):
        return _from_callable(name, where)
    fields = _fields(check_name(name, where=f"{where}: lock name"), where)
    for field in fields:
        _check_field(field, name, signature, where)
    if not fields:
        constant = check_name(name.format(), where=f"{where}: lock name")
        return lambda args, kwargs: constant
    return _from_template(name, signature, where)


def _from_callable(function: Callable[..., str], where: str) -> KeyFunction:
    def key(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        name = function(*args, **kwargs)
        return check_name(escaped(name) if isinstance(name, str) else name, where=f"{where}: lock name")

    return key


def _from_template(template: str, signature: inspect.Signature, where: str) -> KeyFunction:
    formatter = _KeyFormatter(f"{where}: lock name {template!r}")

    def key(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return check_name(formatter.text(template, bound.arguments), where=f"{where}: lock name")

    return key


def _fields(template: str, where: str) -> list[str]:
    try:
        return list(_all_fields(template))
    except ValueError as error:
        raise ConfigurationError(
            f"{where}: lock name {template!r} is not a format string ({error}); write {{{{ and }}}} for plain braces"
        ) from error


def _all_fields(template: str) -> Iterator[str]:
    """Yield the fields of a format string, also those inside format specs."""
    for _, field, spec, conversion in string.Formatter().parse(template):
        if field is not None:
            if conversion not in (None, "s", "r", "a"):
                raise ValueError(f"unknown conversion !{conversion}")
            yield field
            yield from _all_fields(spec or "")


def _check_field(field: str, template: str, signature: inspect.Signature, where: str) -> None:
    first = re.split(r"[.\[]", field, maxsplit=1)[0]
    if first not in signature.parameters:
        raise ConfigurationError(
            f"{where}: lock name {template!r} uses {{{field}}}, which is not a parameter of {_shown(signature)}"
        )
    if re.search(r"\._", field):
        raise ConfigurationError(f"{where}: lock name {template!r} uses a private attribute: {{{field}}}")


def _shown(signature: inspect.Signature) -> str:
    return f"({', '.join(signature.parameters)})"


class _KeyFormatter(string.Formatter):
    """Formats arguments as text that is stable over processes and stands on one line."""

    def __init__(self, where: str) -> None:
        self._where = where

    def text(self, template: str, arguments: Mapping[str, Any]) -> str:
        try:
            return self.vformat(template, (), arguments)
        except ConfigurationError:
            raise
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"{self._where} does not fit this call: {type(error).__name__}: {error}"
            ) from error

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, int | str]:
        value, first = super().get_field(field_name, args, kwargs)
        return self._ordered(value), first

    def convert_field(self, value: Any, conversion: Any) -> Any:
        return self._stable(value, super().convert_field(value, conversion))

    def format_field(self, value: Any, format_spec: str) -> str:
        return escaped(self._stable(value, str(super().format_field(value, format_spec))))

    def _ordered(self, value: Any) -> Any:
        """Return `value` so that equal calls show equal texts: JSON keeps no tuples, keys have no order."""
        if isinstance(value, (set, frozenset)):
            raise ConfigurationError(f"{self._where}: a set has no stable order; pass a sorted list")
        if isinstance(value, Mapping):
            return {key: self._ordered(value[key]) for key in sorted(value, key=repr)}
        if isinstance(value, (list, tuple)):
            return [self._ordered(each) for each in value]
        return value

    def _stable(self, value: Any, shown: Any) -> Any:
        # A text that only looks like an object with an address is the same text everywhere.
        if isinstance(shown, str) and not isinstance(value, str) and _ADDRESS.search(shown):
            raise ConfigurationError(
                f"{self._where}: a {type(value).__name__} has no stable text; use one of its attributes, such as an id"
            )
        return shown
