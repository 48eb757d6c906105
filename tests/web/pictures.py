"""`python -m tests.web.pictures`: the pictures in docs/img, of a minute of the night that `scene` plays."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasklocks import RateLimit, connect
from tasklocks.backends import Backend
from tasklocks.testing.asking import away, look
from tasklocks.types import Grant
from tests.processes import ROOT
from tests.servers import RedisServer
from tests.web.browser import a_browser, a_page
from tests.web.scene import a_night, about

_FOLDER = ROOT / "docs" / "img"
_SECONDS = 75.0
_SIZE = {"width": 1200, "height": 640}
_SHOWN = {"limits": "#/", "limit": "#/limit/import-7", "timeline": "#/limit/resize-images"}


def main() -> None:
    """Play, look, and write the pictures."""
    _FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder)) as server:
        backend = connect(server.url)
        with a_night(backend), _traffic(backend), _page(server.url) as address, a_browser() as browser:
            with a_page(browser, viewport=_SIZE) as page:
                page.goto(f"{address}#/rates")
                page.wait_for_timeout(_SECONDS * 1000)
                page.screenshot(path=_FOLDER / "web-rates-light.png")
            for scheme in ("light", "dark"):
                with a_page(browser, color_scheme=scheme, viewport=_SIZE) as page:
                    for name, fragment in _SHOWN.items():
                        page.goto(f"{address}{fragment}")
                        page.wait_for_timeout(2500)
                        page.screenshot(path=_FOLDER / f"web-{name}-{scheme}.png")


@contextmanager
def _page(url: str) -> Iterator[str]:
    command = [sys.executable, "-m", "tasklocks", "web", "--json", "--port", "0", "--every", "0.5"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "TASKLOCKS_URL": url})
    try:
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.terminate()
        process.communicate()


@contextmanager
def _traffic(backend: Backend) -> Iterator[None]:
    """Tasks of some seconds each behind two permits; for a while one of them is taken away, and later one lies idle."""
    stop = threading.Event()
    thread = threading.Thread(target=_run, args=(backend, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _run(backend: Backend, stop: threading.Event) -> None:
    chance, began, held, waits, number = random.Random(7), time.monotonic(), dict[str, float](), [], 0
    while not stop.wait(0.25):
        now = time.monotonic() - began
        if chance.random() < 0.55:
            RateLimit("partner-api", "120/m", backend=backend).reserve()
        while len(waits) < 2 + (now // 7) % 3:
            number += 1
            waits.append(f"{chance.randrange(16**8):08x}")
        for owner in [owner for owner, end in held.items() if end < now]:
            backend.release("resize-images", owner)
            del held[owner]
        # What a deployment with another number does, and then a worker that does not come back for its turn.
        capacity, most = (1 if 30 < now < 40 else 2), (1 if 52 < now < 62 else 2)
        for ticket in list(waits):
            owner, info = f"{ticket}:x", about("resize", ticket, f"w{number % 3}", 300 + number)
            wish = {"capacity": capacity, "ttl": 60, "place": away(f"task:{ticket}", 20), "info": info}
            if len(held) < most and isinstance(look(backend, owner, "resize-images", **wish), Grant):
                held[owner] = now + (15 if 20 < now < 30 else chance.uniform(3, 9))
                waits.remove(ticket)
            elif len(held) >= most:
                # Somebody is there to wait, and must not be served yet.
                look(backend, f"{ticket}:y", "resize-images", permits=2, **wish)


if __name__ == "__main__":
    main()
