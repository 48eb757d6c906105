"""In Django the settings are Django's own, in the namespace that the project gave Celery: `CELERY_TASKLOCKS_URL`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tasklocks import Lock, connect
from tests.processes import ROOT

pytest.importorskip("django")

# A project as Django's and Celery's documentation write it.
FILES = {
    "shop/__init__.py": "from shop.celery import app as celery_app\n",
    "shop/celery.py": """
        import os
        from celery import Celery

        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
        app = Celery("shop")
        app.config_from_object("django.conf:settings", namespace="CELERY")
        app.autodiscover_tasks()
    """,
    "shop/settings.py": """
        SECRET_KEY = "for tests only"
        INSTALLED_APPS = ["orders"]
        USE_TZ = True
        CELERY_BROKER_URL = "memory://"
        CELERY_TASK_ALWAYS_EAGER = True
        {settings}
    """,
    "orders/__init__.py": "",
    "orders/tasks.py": """
        from celery import shared_task
        from tasklocks import LockedTask, current_lease, locked

        @shared_task
        @locked("order-{order_id}")
        def ship(order_id):
            return current_lease()

        @shared_task(base=LockedTask, lock_name="bill-{order_id}")
        def bill(order_id):
            return current_lease()
    """,
}


def project(folder: Path, settings: str, script: str) -> tuple[str, str]:
    """Run `script` inside a Django project with these settings; return what it printed, and its complaints."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text).replace("{settings}", settings))
    env = {key: value for key, value in os.environ.items() if not key.startswith(("TASKLOCKS", "CELERY", "DJANGO"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import shop, django\ndjango.setup()\n{textwrap.dedent(script)}"],
        cwd=folder,
        env={**env, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout, done.stderr


SETTINGS = """
CELERY_TASKLOCKS_URL = "sqlite:///shop-locks.db"
CELERY_TASKLOCKS_PREFIX = "the-shop"
CELERY_TASKLOCKS_TTL = 12
CELERY_TASKLOCKS_COUNTDOWN = 0.5
CELERY_TASKLOCKS_BACKEND_OPTIONS = {"timeout": 3}
"""


def test_every_setting_is_read_from_the_namespace(tmp_path):
    output, complaints = project(
        tmp_path,
        SETTINGS,
        """
        from tasklocks.celery.conf import settings_of
        print(settings_of(shop.celery_app))
        """,
    )
    assert complaints == ""
    assert output == (
        "Settings(url='sqlite:///shop-locks.db', prefix='the-shop', ttl=12.0, countdown=0.5, max_countdown=30.0, "
        "options={'timeout': 3})\n"
    )


def test_shared_tasks_of_the_projects_apps_lock_where_the_settings_say(tmp_path):
    output, complaints = project(
        tmp_path,
        SETTINGS,
        """
        from orders.tasks import bill, ship
        for lease in (ship(7), ship.delay(8).get(), bill(7), bill.delay(8).get()):
            print(lease.name, lease.grant.ttl)
        """,
    )
    assert complaints == ""
    assert output == "order-7 12.0\norder-8 12.0\nbill-7 12.0\nbill-8 12.0\n"
    assert (tmp_path / "shop-locks.db").exists()
    assert not (tmp_path / "tasklocks.db").exists()


def test_a_thread_of_the_web_server_locks_where_the_settings_say(tmp_path):
    output, complaints = project(
        tmp_path,
        SETTINGS,
        """
        import threading
        from tasklocks import locked, current_lease

        @locked("plain")
        def plain():
            print(current_lease().grant.ttl)

        thread = threading.Thread(target=plain)
        thread.start()
        thread.join()
        """,
    )
    assert complaints == ""
    assert output == "12.0\n"
    assert (tmp_path / "shop-locks.db").exists()


def test_a_busy_limit_is_seen_by_another_process_of_the_project(tmp_path):
    script = """
        from orders.tasks import ship
        print(type(ship.delay(7).result).__name__)
    """
    assert project(tmp_path, SETTINGS, script)[0] == "Lease\n"
    backend = connect(f"sqlite:///{tmp_path}/shop-locks.db", prefix="the-shop")
    with Lock("order-7", backend=backend):
        assert project(tmp_path, SETTINGS, script)[0] == "LockBusy\n"
    backend.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("CELERY_TASKLOCKS_TTL = -1", "tasklocks_ttl must be more than 0 s, not -1 s"),
        ("CELERY_TASKLOCKS_URL = 'nosuch://host'", r"task orders\.tasks\.\w+: tasklocks_url: no backend for nosuch://"),
    ],
)
def test_a_wrong_setting_is_named_when_a_worker_starts(tmp_path, settings, message):
    output, complaints = project(
        tmp_path,
        settings,
        """
        import orders.tasks
        from tasklocks.celery.worker import check_app
        check_app(shop.celery_app)
        """,
    )
    assert output == ""
    assert re.search(f"ConfigurationError: {message}", complaints)
