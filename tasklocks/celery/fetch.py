"""Fetches what stays in later queues back to the task's own queue, in time: a thread in each worker's main process.

Each worker looks after the queues that it consumes. A message is published to where it goes next before it is taken
from where it was: a worker that is killed in between leaves it in both, and it is delivered twice, never lost.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from celery import Celery, bootsteps, signals
from kombu.connection import Connection
from kombu.message import Message
from kombu.messaging import Producer

from tasklocks import clock
from tasklocks.celery.conf import settings_of
from tasklocks.celery.later import STAYS, UNTIL, forward, later_queue
from tasklocks.celery.marks import limits_of
from tasklocks.celery.routes import delays_natively

__all__ = ["Fetching"]

_AT_ONCE = 100  # messages of one queue before the others have their turn
_PAUSE = 0.002  # seconds between two messages: the tasks of this process come first
_LOOK_ROUND = 5.0  # seconds after which a queue is seen that the worker has begun to consume
_STOPPING = 5.0  # seconds that a stopping worker waits for a broker that hangs
_TRY_AGAIN = 5.0  # seconds, after a broker has failed

_logger = logging.getLogger("tasklocks")


class Fetching(bootsteps.StartStopStep):
    """Runs the thread while the worker consumes."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def include_if(self, parent: Any) -> bool:
        """Only workers with limited tasks have any that wait."""
        return any(limits_of(task) for task in parent.app.tasks.values()) and not delays_natively(parent.app)

    def start(self, parent: Any) -> None:
        """Begin to fetch."""
        self._fetcher = _Fetcher(parent.app)

    def stop(self, parent: Any) -> None:
        """Fetch no more."""
        self._fetcher.close()


class _Fetcher:
    def __init__(self, app: Celery) -> None:
        self._app = app
        self._stopped = threading.Event()
        self._looks: dict[tuple[str, float], float] = {}
        self._thread = threading.Thread(target=self._run, name="tasklocks-fetch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stopped.set()
        self._thread.join(_STOPPING)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._serve_while_it_lasts()

    def _serve_while_it_lasts(self) -> None:
        try:
            with self._app.connection_for_write() as connection:
                self._serve(connection)
        except Exception as error:  # noqa: BLE001 - kombu's transports have errors of their own, each others
            _logger.warning("what waits in later queues is fetched when the broker answers again: %s", error)
            self._stopped.wait(_TRY_AGAIN)

    def _serve(self, connection: Connection) -> None:
        channel = connection.channel()
        while not self._stopped.is_set():
            for home, queue in list(self._app.amqp.queues.consume_from.items()):
                for stay in STAYS if queue.exchange.type != "fanout" else ():
                    if self._looks.get((home, stay), 0.0) <= clock.now():
                        self._looks[home, stay] = self._look(channel, home, stay)
            soonest = min(self._looks.values(), default=0.0) - clock.now()
            self._stopped.wait(min(max(soonest, _PAUSE), _LOOK_ROUND))

    def _look(self, channel: Any, home: str, stay: float) -> float:
        """Send on what has stayed long enough; return when to look again, on the local clock."""
        queue = later_queue(home, stay)(channel)
        if (home, stay) not in self._looks:
            queue.declare()
        producer = self._app.amqp.Producer(channel, auto_declare=False)
        for _ in range(_AT_ONCE):
            message = queue.get()
            if message is None:
                # What comes in the meantime stays for longer than that.
                return clock.now() + stay / 2
            left = _left(message)
            if left > 0:
                message.requeue()
                return clock.now() + min(left, stay / 2)
            self._send_on(producer, message, home)
            if self._stopped.wait(_PAUSE):
                break
        return clock.now()

    def _send_on(self, producer: Producer, message: Message, home: str) -> None:
        forward(producer, message, message.headers, home, settings_of(self._app).max_countdown)
        message.ack()


def _left(message: Message) -> float:
    """Return the seconds for which a message stays; what no one has marked goes on at once."""
    until = message.headers.get(UNTIL)
    return until - time.time() if isinstance(until, (int, float)) else 0.0


@signals.worker_init.connect(dispatch_uid="tasklocks.fetch")
def _add(sender: Any = None, **_: Any) -> None:
    sender.app.steps["consumer"].add(Fetching)
