"""`ls`, `show` and `why`: which limits are in use, who holds and waits, and what a task waits for."""

from __future__ import annotations

import fnmatch
import heapq
import operator
from collections.abc import Callable, Iterable
from typing import Any

import click
from celery import Celery

from tasklocks.backends import Backend
from tasklocks.cli.access import Failed, app_of, command
from tasklocks.cli.completing import limit_names, task_ids
from tasklocks.cli.elsewhere import find_elsewhere, unseen
from tasklocks.cli.output import ago, say, say_json, say_table, when
from tasklocks.cli.sentences import is_overdue, why_text
from tasklocks.cli.starts import NextStart, next_starts
from tasklocks.overview import find, look, look_at_rate, rows
from tasklocks.views import HolderView, LimitView, RateView, Row, WaiterView

__all__ = ["COLUMNS", "busiest", "cells", "ls", "show", "why"]

COLUMNS = ("NAME", "KIND", "HELD", "HOLDERS", "WAITERS", "LONGEST HOLD", "USUAL HOLD")

_KEYS: dict[str, Callable[[Row], Any]] = {
    "waiters": lambda row: (row.waiters, row.longest_hold),
    "hold": lambda row: row.longest_hold,
    "held": lambda row: row.held,
}


@command
@click.option(
    "--limit", "most", type=click.IntRange(min=0), default=50, show_default=True, help="Rows; 0: all of them."
)
@click.option("--sort", type=click.Choice([*_KEYS, "name"]), default="waiters", show_default=True)
@click.option("--match", "pattern", default="*", help="Only names like this, with * and ?.")
@click.option("--all", "idle", is_flag=True, help="Also limits that nobody uses now but that are not forgotten yet.")
def ls(backend: Backend, *, most: int, sort: str, pattern: str, idle: bool, as_json: bool) -> None:
    """List the limits in use: those with most waiters first."""
    total = 0

    def counted() -> Iterable[Row]:
        nonlocal total
        for row in rows(backend, idle=idle):
            if fnmatch.fnmatchcase(row.name, pattern):
                total += 1
                yield row

    shown = busiest(counted(), most, sort)
    if as_json:
        say_json({"limits": shown, "total": total})
        return
    say_table(COLUMNS, [cells(row) for row in shown])
    if total > len(shown):
        click.echo(f"… and {total - len(shown)} more; --limit 0 shows all, --match some of them")


def busiest(found: Iterable[Row], most: int, sort: str = "waiters") -> list[Row]:
    """Return the first rows of an order; of very many, never all are kept. 0: return all."""
    if sort == "name":
        by_name = operator.attrgetter("name")
        return heapq.nsmallest(most, found, key=by_name) if most else sorted(found, key=by_name)
    key = _KEYS[sort]
    return heapq.nlargest(most, found, key=key) if most else sorted(found, key=key, reverse=True)


def cells(row: Row) -> list[str]:
    """Return what a list shows of a limit."""
    if row.kind == "rate":
        return [row.name, f"rate, paused for {ago(row.paused_for)}" if row.paused_for else "rate", *"-----"]
    held, longest = f"{row.held}/{row.capacity}", ago(row.longest_hold) if row.holders else "-"
    return [row.name, row.kind, held, str(row.holders), str(row.waiters), longest, ago(row.usual_hold)]


@command
@click.argument("name", shell_complete=limit_names)
def show(backend: Backend, name: str, as_json: bool) -> None:
    """Show one limit: each holder and each waiter."""
    limit, rate = look(backend, name), look_at_rate(backend, name)
    if limit is None and rate is None:
        raise Failed(f"nothing is known of a limit {name!r}: it was never used, or not for an hour")
    starts = next_starts(app_of(click.get_current_context()), backend, name) if rate else []
    if as_json:
        say_json({"limit": limit, "rate": rate, "next_starts": starts})
        return
    if limit is not None:
        _say_limit(limit)
    if rate is not None:
        _say_rate(rate, starts)


@command
@click.argument("task_id", shell_complete=task_ids)
@click.option("--patience", type=click.FloatRange(min=0.1), default=1.0, show_default=True, help="Seconds for workers.")
def why(backend: Backend, task_id: str, patience: float, as_json: bool) -> None:
    """Say in a sentence what the task TASK_ID (or the beginning of an id) waits for.

    What the backend does not know, the app's workers, the queues of its broker and its result backend are asked, if
    there is an app (-A): starts reserved under rate limits, messages that wait in a worker or in a queue.
    """
    app = app_of(click.get_current_context())
    found = [_as_json(limit, place) for limit, place in find(backend, task_id)]
    found = found or find_elsewhere(backend, app, task_id, patience)
    if as_json:
        say_json(found)
    for each in found:
        if not as_json:
            say(each["sentence"])
    if not found:
        raise Failed(_nobody_knows(task_id, app))


def _nobody_knows(task_id: str, app: Celery | None) -> str:
    if app is None:
        return (
            f"the task {task_id} neither holds nor waits for a lock here. Ask with -A and your app: then the workers, "
            "the broker's queues and the result backend are asked, too, and starts reserved under rate limits are known"
        )
    queued = unseen(app)
    hidden = f" It may be one of the messages that nobody but a worker can look at: {queued}." if queued else ""
    return (
        f"nobody knows the task {task_id}: it neither holds nor waits for a lock, no worker that answered has it, and "
        "it has no result. It was never sent, its result is forgotten or not kept, or it is with a worker that does "
        f"not answer (see `celery inspect ping`).{hidden}"
    )


def _say_limit(limit: LimitView) -> None:
    usual = f", usually held for {ago(limit.usual_hold)}" if limit.usual_hold is not None else ""
    click.echo(f"{limit.kind}: {limit.held} of {limit.capacity} permits held{usual}")
    if limit.holders:
        click.echo("\nholders")
        headers = ("TASK", "ID", "WORKER", "PID", "PERMITS", "SINCE", "HELD FOR", "LEASE LEFT", "FENCING TOKEN")
        say_table(headers, [_holder_cells(each) for each in limit.holders])
    if limit.waiters:
        click.echo("\nwaiters")
        headers = ("PLACE", "TASK", "ID", "WORKER", "PERMITS", "SINCE", "WAITS FOR", "COMES", "EXPECTED IN")
        say_table(headers, [_waiter_cells(each, is_overdue(limit)) for each in limit.waiters])


def _holder_cells(each: HolderView) -> list[str]:
    who = [each.who.task or "-", each.who.id or each.owner, each.who.worker or "-", each.who.pid or "-"]
    return [
        *who,
        str(each.permits),
        when(each.since),
        ago(each.held_for),
        ago(each.lease_left),
        str(each.fencing_token),
    ]


def _waiter_cells(each: WaiterView, overdue: bool) -> list[str]:
    who = [each.who.task or "-", each.who.id or each.ticket, each.who.worker or "-"]
    comes = "is told" if each.listening else "comes back"
    times = [when(each.since), ago(each.waited_for), comes, "overdue" if overdue else ago(each.expected_in)]
    return [str(each.place), *who, str(each.permits), *times]


def _say_rate(rate: RateView, starts: list[NextStart]) -> None:
    if rate.paused_for:
        # What is reserved moves with the pause, but is counted only by who reserves next.
        click.echo(f"rate: paused for {ago(rate.paused_for)} yet")
    else:
        booked = f", starts are reserved for the next {ago(rate.booked_for)}" if rate.booked_for else ""
        used = f", {rate.used:g} counted in the window of now" if rate.used is not None else ""
        click.echo(f"rate: not paused{booked}{used}")
    for each in starts:
        soon = f"in {ago(each.wait)}" if each.wait > 0 else "now"
        say(f"next start of {each.task} ({each.rate}): {soon}")


def _as_json(limit: LimitView, place: HolderView | WaiterView) -> dict[str, Any]:
    does = "holds" if isinstance(place, HolderView) else "waits"
    sentence = why_text(limit, place)
    return {"limit": limit.name, "limits": [limit.name], "does": does, "place": place, "sentence": sentence}
