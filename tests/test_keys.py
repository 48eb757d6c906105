"""From a call to the name of its limit: equal calls lock the same thing, in every process, and data stays data."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections import OrderedDict
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from tasklocks import ConfigurationError, connect, locked
from tasklocks.keys import key_function
from tasklocks.names import MAX_NAME, check_name
from tests.line import held, taken
from tests.processes import ROOT


@dataclass(frozen=True)
class Customer:
    id: int
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Order:
    customer: Customer


class Bare:
    """Its text is its address in memory."""


def pay(account: Any, amount: Any = 10, *rest: Any, currency: Any = "EUR", **more: Any) -> None:
    """What the templates below are about."""


def key(name: Any, *args: Any, **kwargs: Any) -> str:
    return key_function(name, inspect.signature(pay), "task shop.pay")(args, kwargs)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("payments", "payments"),
        ("pay-{account}", "pay-7"),
        ("pay-{account}-{amount}-{currency}", "pay-7-10-EUR"),
        ("{account:04d}", "0007"),
        ("{account:0{amount}d}", "0000000007"),
        ("{currency!r}", "'EUR'"),
        ("{{{account}}}", "{7}"),
        ("{{no-field}}", "{no-field}"),
        ("{rest}{more}", "[]{}"),
    ],
)
def test_a_template_is_filled_in_from_the_call_and_its_defaults(template, expected):
    assert key(template, 7) == expected


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((7, 10), {}), ((7,), {"amount": 10}), ((), {"amount": 10, "account": 7}), ((7,), {"currency": "EUR"})],
)
def test_the_way_in_which_an_argument_is_passed_is_not_part_of_the_key(args, kwargs):
    assert key("{account}/{amount}/{currency}", *args, **kwargs) == key("{account}/{amount}/{currency}", 7)


def test_the_order_of_keywords_is_not_part_of_the_key():
    assert key("{more}", 7, b=1, a=2) == key("{more}", 7, a=2, b=1)


def test_the_order_of_a_mapping_is_not_part_of_the_key():
    assert key("{account}", {"b": [{"d": 1, "c": 2}], "a": 2}) == key("{account}", {"a": 2, "b": [{"c": 2, "d": 1}]})
    assert key("{account}", OrderedDict(a=1)) == key("{account}", {"a": 1})


def test_a_mapping_with_keys_of_many_kinds_has_a_key():
    assert key("{account}", {1: "x", None: "y", "1": "z"}) == key("{account}", {"1": "z", None: "y", 1: "x"})


@pytest.mark.parametrize("argument", [(1, 2), {"a": (1, (2,))}, ["x", ("y",)]])
def test_a_call_in_place_and_the_same_call_through_a_json_message_have_one_key(argument):
    assert key("{account}", argument) == key("{account}", json.loads(json.dumps(argument)))


def test_attributes_and_items_are_followed():
    assert key("{account.customer.id}", Order(Customer(3))) == "3"
    assert key("{account[customer][0].id}", {"customer": [Customer(4)]}) == "4"
    assert key("{account.tags[1]}", Customer(1, ("a", "b"))) == "b"
    assert key("{more[region]}/{rest[0]}", 1, 2, "first", region="north") == "north/first"


def test_a_function_makes_the_name_from_the_calls_arguments():
    assert key(lambda account, **more: f"{account}:{sorted(more)}", 7, x=1) == "7:['x']"


def test_a_functions_name_is_data_and_stands_on_one_line():
    assert key(lambda account: f"pay-{account}", "{x}\n\x1b[0m") == "pay-{x}%0A%1B[0m"


@pytest.mark.parametrize("answer", [None, 7, b"bytes", ["list"]])
def test_a_function_that_answers_no_text_is_refused_with_the_tasks_name(answer):
    with pytest.raises(ConfigurationError, match=r"task shop\.pay: lock name must be a text, not"):
        key(lambda account: answer, 1)


@pytest.mark.parametrize("answer", ["", "   "])
def test_an_empty_name_is_refused(answer):
    with pytest.raises(ConfigurationError, match=r"task shop\.pay: lock name is empty"):
        key("{account}", answer)
    with pytest.raises(ConfigurationError, match=r"task shop\.pay: lock name is empty"):
        key(lambda account: answer, 1)


_ARGUMENTS = """
import datetime, decimal, uuid
[1, 1.5, True, None, "Straße", "a b", b"raw", {"b": 1, "a": [2, (3,)]}, [1, "x"], datetime.date(2026, 1, 2),
 datetime.timedelta(hours=1), decimal.Decimal("1.10"), uuid.UUID(int=5), range(3), len, int]
"""
_OTHER_PROCESS = f"""
import inspect, json
from tasklocks.keys import key_function
{_ARGUMENTS.strip().splitlines()[0]}
values = {chr(10).join(_ARGUMENTS.strip().splitlines()[1:])}
of = key_function("{{value}}|{{value!r}}", inspect.signature(lambda value: None), "task t")
print(json.dumps([of([value], {{}}) for value in values]))
"""


def test_equal_arguments_have_equal_keys_in_every_process():
    answers = {_in_process(seed) for seed in ("0", "1", "12345")}
    assert len(answers) == 1
    assert len(json.loads(answers.pop())) == 16


def _in_process(hash_seed: str) -> str:
    env = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", _OTHER_PROCESS], env=env, cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


_leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
_json = st.recursive(_leaf, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4))


@settings(deadline=None, derandomize=True)
@given(_json)
def test_whatever_a_message_can_carry_has_one_line_as_its_key_before_and_after_the_trip(value):
    try:
        name = key("pay-{account}-{account!r}", value)
    except ConfigurationError:
        reject()  # too long
    assert name == key("pay-{account}-{account!r}", json.loads(json.dumps(value)))
    assert check_name(name) == name
    assert len(name.splitlines()) == 1


@pytest.mark.parametrize("value", [date(2026, 1, 2), Decimal("1.10"), UUID(int=5)])
def test_values_that_the_json_serializer_knows_keep_their_text(value):
    assert key("{account}", value) == str(value)


@pytest.mark.parametrize("shown", ["{account}", "{account!r}", "{account!s:>80}", "{account!a}"])
def test_an_object_without_a_stable_text_is_refused(shown):
    with pytest.raises(ConfigurationError, match=r"task shop\.pay: lock name .*: a Bare has no stable text"):
        key(shown, Bare())


def test_an_object_without_a_stable_text_is_found_inside_others():
    with pytest.raises(ConfigurationError, match="no stable text"):
        key("{account}", {"a": [Bare()]})
    with pytest.raises(ConfigurationError, match="no stable text"):
        key("{account}", lambda: None)


def test_a_text_that_only_looks_like_an_address_is_a_text():
    assert key("{account}", "<Bare object at 0x7f00>") == "<Bare object at 0x7f00>"
    assert key("{account!s}", "<Bare object at 0x7f00>") == "<Bare object at 0x7f00>"


@pytest.mark.parametrize("value", [{1, 2}, frozenset("ab"), [{1}], {"a": ({1},)}])
@pytest.mark.parametrize("shown", ["{account}", "{account!r}"])
def test_a_set_is_refused_for_it_has_no_order(shown, value):
    with pytest.raises(ConfigurationError, match=r"task shop\.pay: .*a set has no stable order"):
        key(shown, value)


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{account.id}", 7),
        ("{account[id]}", {}),
        ("{account[3]}", []),
        ("{account[x]}", 7),
        ("{account:d}", "seven"),
    ],
)
def test_a_template_that_does_not_fit_a_call_says_which_and_why(template, value):
    with pytest.raises(
        ConfigurationError, match=r"task shop\.pay: lock name '.*account.*' does not fit this call: \w+"
    ):
        key(template, value)


def test_a_call_that_does_not_fit_the_function_is_the_callers_type_error():
    with pytest.raises(TypeError, match="account"):
        key("{account}")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{custmer}", r"uses \{custmer\}, which is not a parameter of \(account, amount, rest, currency, more\)"),
        ("{}", "not a parameter"),
        ("{0}", "not a parameter"),
        ("{account:{width}}", r"uses \{width\}, which is not a parameter"),
        ("{account", "not a format string"),
        ("account}", r"not a format string .* write \{\{ and \}\}"),
        ("{account!x}", "unknown conversion !x"),
        ("{account.__class__}", "private attribute"),
        ("{account._secret}", "private attribute"),
        ("{account[0].__init__.__globals__}", "private attribute"),
        ("", "empty"),
        ("two\nlines", "control characters"),
        ("x" * 10_000, "10000 characters, 1000 are allowed"),
    ],
)
def test_a_template_that_cannot_work_is_refused_before_any_call(template, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        key_function(template, inspect.signature(pay), "task shop.pay")
    assert str(caught.value).startswith("task shop.pay: lock name")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("a\nb", "a%0Ab"),
        ("\x00", "%00"),
        ("\x1b[31mred", "%1B[31mred"),
        ("\u2028", "%2028"),
        ("\u202egnp.exe", "%202Egnp.exe"),
        ("\ud800", "%D800"),
        ("{account}", "{account}"),
        ("{amount.__class__}", "{amount.__class__}"),
        ("}{", "}{"),
        ("a:b/../c", "a:b/../c"),
        ("%s%(x)s", "%s%(x)s"),
    ],
)
def test_what_an_argument_puts_into_a_name_is_data(argument, shown):
    assert key("pay-{account}", argument) == f"pay-{shown}"
    assert key("pay-{account!s:s}", argument) == f"pay-{shown}"


def test_a_name_that_an_argument_makes_too_long_is_refused_without_showing_all_of_it():
    assert len(key("{account}", "x" * MAX_NAME)) == MAX_NAME
    with pytest.raises(ConfigurationError, match=r"task shop\.pay: lock name has 10004 characters") as caught:
        key("pay-{account}", "x" * 10_000)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("argument", ["../theirs", "ours", "}theirs:{", ":", "*", "%", "theirs:limit", "\x00"])
def test_an_argument_cannot_leave_the_prefix(new_backend_url, argument):
    url = new_backend_url("sqlite")
    ours, theirs = connect(url, prefix="ours"), connect(url, prefix="theirs")
    for name in ("limit", "theirs:limit", "s:limit", key("{account}limit", argument)):
        taken(theirs, "they", name)

    @locked("{argument}limit", backend=ours)
    def run(argument: str) -> str:
        held(ours, key("{account}limit", argument))
        return "ran"

    assert run(argument) == "ran"
    ours.close()
    theirs.close()
