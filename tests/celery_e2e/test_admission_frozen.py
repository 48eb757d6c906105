"""With admission the main process renews: a body whose main process stands still is told of its loss all the same."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tasklocks import connect
from tests.celery_e2e.conftest import make_stage
from tests.processes import eventually


def test_a_body_is_told_of_its_loss_while_its_main_process_stands_still(redis_url: str, tmp_path: Path, limit: str):
    options = {"locks": redis_url, "tasklocks_admission": True}
    with make_stage(redis_url, redis_url, tmp_path, **options) as stage:
        stage.tasks.spinning.delay(limit)
        stage.wait_for("begin", limit)
        os.kill(stage.worker.pid, signal.SIGSTOP)
        try:
            # Well before the body ends by itself.
            assert eventually(lambda: stage.record.count("lost", limit) == 1, within=10)
            assert connect(redis_url).inspect(limit).holders == ()
        finally:
            os.kill(stage.worker.pid, signal.SIGCONT)
