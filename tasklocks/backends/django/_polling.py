"""Waiting at sockets and pipes for so long."""

from __future__ import annotations

import select

__all__ = ["IN", "OUT", "polled"]

IN, OUT = select.POLLIN, select.POLLOUT


def polled(wanted: dict[int, int], timeout: float) -> dict[int, int]:
    """Wait for up to `timeout` seconds until one of the files is as wanted; return those that are."""
    # Looked up at each call, so that gevent's is used where gevent is.
    poll = select.poll()
    for file, events in wanted.items():
        poll.register(file, events)
    return dict(poll.poll(max(0.0, timeout) * 1000))
