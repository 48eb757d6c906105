"""Serves a worker's metrics from its main process, for all processes of its pool (see `tasklocks.contrib.prometheus`).

The processes keep their numbers in files of one folder (prometheus_client's multiprocess mode). Unless the environment
names one, the worker makes a folder of its own and removes it when it stops.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterable
from functools import partial
from typing import Any

from celery import signals
from prometheus_client import REGISTRY, CollectorRegistry, start_http_server, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from tasklocks.celery.watch import watch_of_this_worker
from tasklocks.contrib.prometheus import watch

__all__ = ["begin"]

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # what prometheus_client reads

_logger = logging.getLogger("tasklocks")


def begin(host: str, port: int, templates: Iterable[str], *, shared: bool) -> None:
    """Count from now on, and serve the numbers once the worker is ready (called before its pool is there).

    Args:
        host: the address to listen on.
        port: the port; 0: any, it stands in the log.
        templates: of the limits of the app.
        shared: whether the pool is of processes, which must share their numbers.
    """
    if shared and _FOLDER not in os.environ:
        _make_folder()
        # It decided when it was imported, perhaps long ago (by Flower, say). What is made from now on is shared.
        values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]
    metrics = watch()
    for template in templates:
        metrics.expect(template)
    signals.worker_ready.connect(partial(_serve, host, port), weak=False, dispatch_uid="tasklocks.exporter")


def _make_folder() -> None:
    folder = os.environ[_FOLDER] = tempfile.mkdtemp(prefix="tasklocks-metrics-")
    remove = partial(_remove, folder, os.getpid())
    signals.worker_shutdown.connect(remove, weak=False, dispatch_uid="tasklocks.exporter")


def _remove(folder: str, owner: int, **_: Any) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _serve(host: str, port: int, **_: Any) -> None:
    registry = REGISTRY
    if _FOLDER in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        if (children := watch_of_this_worker()) is not None:
            children.on_gone.append(mark_process_dead)
    try:
        server, _thread = start_http_server(port, host, registry)
    except OSError as error:
        # Work goes before figures; and the next worker on this host may have the same settings.
        _logger.error("no metrics: %s port %d cannot be used: %s", host, port, error)  # noqa: TRY400 - it says it all
        return
    _logger.info("metrics are at http://%s:%d/metrics", host, server.server_port)
