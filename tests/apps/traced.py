"""Locked tasks whose spans go to a file, made by OpenTelemetry's own SDK and its instrumentation of Celery."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery import signals
from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from tasklocks import locked
from tests.apps import make_app

app = make_app("tests.apps.traced")


@signals.worker_ready.connect(weak=False)
@signals.worker_process_init.connect(weak=False)
def export_spans(**_: Any) -> None:
    provider = TracerProvider()
    file = Path(os.environ["TEST_SPANS"]).open("a")  # noqa: SIM115 - for the life of the process
    exporter = ConsoleSpanExporter(out=file, formatter=lambda span: span.to_json(indent=None) + "\n")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    CeleryInstrumentor().instrument()


@app.task
@locked("import-{account}", countdown=0.1)
def imports(account: str) -> str:
    return account
