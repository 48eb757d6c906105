"""`release`, `resize`, `pause` and `resume`: what an operator may do to a limit at night."""

from __future__ import annotations

from datetime import datetime

import click
from celery import Celery

import tasklocks
from tasklocks import Resizable, resizing
from tasklocks.backends import Backend
from tasklocks.celery.spec import LockSpec
from tasklocks.cli.access import WRONG, Failed, app_of, command
from tasklocks.cli.code import limits_named
from tasklocks.cli.completing import holders, limit_names
from tasklocks.cli.output import ago, say, say_json
from tasklocks.overview import look, look_at_rate
from tasklocks.views import HolderView

__all__ = ["pause", "release", "resize", "resume"]

_SHORTEST = 0.05  # seconds; what is shorter would be shown as 0.0


@command
@click.argument("name", shell_complete=limit_names)
@click.option("--holder", shell_complete=holders, help="Only this one: the id of its task, or what `show` calls it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def release(backend: Backend, name: str, holder: str | None, yes: bool, as_json: bool) -> None:
    """Take the leases of the limit NAME away from those who hold them now.

    A holder that is alive learns it at its next renewal, after a third of its lease at the most: its lease is lost, and
    by default LeaseLost is raised in the task. Until then it may go on, beside whoever comes next.
    """
    limit = look(backend, name)
    doomed = [each for each in (limit.holders if limit else ()) if holder in (None, each.owner, each.who.id)]
    if not doomed:
        raise Failed(f"nobody holds {name!r}" if holder is None else f"{holder} does not hold {name!r}")
    if not yes:
        _ask(name, doomed)
    # One by one, by what they were when they were shown: whoever came meanwhile keeps what it has.
    ended = [each for each in doomed if backend.force_release(name, each.owner)]
    if as_json:
        say_json({"limit": name, "released": ended})
        return
    for each in ended:
        say(f"{each.who} does not hold {name!r} any more")
    if len(ended) < len(doomed):
        say(f"{len(doomed) - len(ended)} had ended before")


def _ask(name: str, doomed: list[HolderView]) -> None:
    for each in doomed:
        say(f"{each.who}, for {ago(each.held_for)}, {ago(each.lease_left)} of its lease left", aside=True)
    click.confirm(f"Take {name!r} away from {_count(doomed)}?", abort=True, err=True)


def _count(doomed: list[HolderView]) -> str:
    return "this holder" if len(doomed) == 1 else f"these {len(doomed)} holders"


@command
@click.argument("name", shell_complete=limit_names)
@click.argument("permits", type=click.IntRange(min=1), required=False)
@click.option("--back", is_flag=True, help="As many as the code says.")
def resize(backend: Backend, *, name: str, permits: int | None, back: bool, as_json: bool) -> None:
    """Give the limit NAME another number of PERMITS, or its own number --back.

    It counts for limits whose capacity is `Resizable(…)` in the code, within seconds. A smaller number takes nothing
    away from who holds; it counts as permits come back.
    """
    if (permits is None) is not back:
        raise Failed("say how many permits, or --back", WRONG)
    resizing.resize(backend, name, permits)
    _warn_of_fixed_numbers(app_of(click.get_current_context()), name)
    if as_json:
        say_json({"limit": name, "permits": permits})
    else:
        said = "has as many permits as the code says" if permits is None else f"has {permits} permits"
        say(f"{name!r} {said}, in some seconds and if the code says Resizable")


def _warn_of_fixed_numbers(app: Celery | None, name: str) -> None:
    locks = [(task, limit) for task, limit in limits_named(app, name) if isinstance(limit, LockSpec)]
    if locks and not any(isinstance(limit.capacity, Resizable) for _, limit in locks):
        tasks = ", ".join(sorted({task for task, _ in locks}))
        say(f"nothing will change: the capacity in the code of {tasks} is not Resizable", aside=True)


@command
@click.argument("name", shell_complete=limit_names)
@click.option("--for", "length", type=click.FloatRange(min=0, min_open=True), help="Seconds.")
@click.option("--until", help="A time with its zone, such as 2026-11-21T06:00+01:00.")
@click.option("--anyway", is_flag=True, help="Also if nothing is known of such a rate limit (yet).")
def pause(backend: Backend, *, name: str, length: float | None, until: str | None, anyway: bool, as_json: bool) -> None:
    """Let nothing start under the rate limit NAME for a while; what is reserved moves by as much."""
    if not anyway:
        _check_known(backend, name)
    tasklocks.pause(name, length, until=None if until is None else _moment(until), backend=backend)
    _say_pause(backend, name, as_json)


@command
@click.argument("name", shell_complete=limit_names)
def resume(backend: Backend, name: str, as_json: bool) -> None:
    """End a pause of the rate limit NAME."""
    _check_known(backend, name)
    tasklocks.resume(name, backend=backend)
    _say_pause(backend, name, as_json)


def _moment(text: str) -> datetime:
    try:
        # Python 3.10 knows no Z.
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise Failed(f"--until: {text!r} is not a time such as 2026-11-21T06:00+01:00", WRONG) from error


def _check_known(backend: Backend, name: str) -> None:
    if look_at_rate(backend, name) is None:
        raise Failed(
            f"nothing is known of a rate limit {name!r}: it was never used, or not lately; locks have no pauses"
        )


def _say_pause(backend: Backend, name: str, as_json: bool) -> None:
    rate = look_at_rate(backend, name)
    left = rate.paused_for if rate else 0.0
    if as_json:
        say_json({"rate": name, "paused_for": left})
    else:
        # Where the server's clock is estimated, a pause that ended just now may seem to last for some milliseconds.
        say(f"nothing starts under {name!r} for {ago(left)}" if left >= _SHORTEST else f"{name!r} is not paused")
