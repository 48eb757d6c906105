"""A Django project as its documentation and Celery's write it, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

from tests.processes import ROOT

__all__ = ["Project"]

FILES = {
    "manage.py": """
        import os, sys
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
        from django.core.management import execute_from_command_line
        execute_from_command_line(sys.argv)
    """,
    "shop/__init__.py": "from shop.celery import app as celery_app\n",
    "shop/celery.py": """
        import os
        from celery import Celery

        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
        app = Celery("shop")
        app.config_from_object("django.conf:settings", namespace="CELERY")
        app.autodiscover_tasks()
    """,
    "shop/urls.py": """
        from django.contrib import admin
        from django.urls import path
        urlpatterns = [path("admin/", admin.site.urls)]
    """,
    "shop/settings.py": """
        SECRET_KEY = "for tests only"
        ROOT_URLCONF = "shop.urls"
        ALLOWED_HOSTS = ["*"]
        USE_TZ = True
        DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
        STATIC_URL = "static/"
        INSTALLED_APPS = [
            "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions",
            "django.contrib.messages", "django.contrib.staticfiles", "django_celery_beat", "tasklocks.contrib.django",
            "orders",
        ]
        MIDDLEWARE = [
            "django.contrib.sessions.middleware.SessionMiddleware", "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ]
        TEMPLATES = [{
            "BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
            "OPTIONS": {"context_processors": [
                "django.template.context_processors.request", "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]},
        }]
        DATABASES = {databases}
        CELERY_BROKER_URL = "memory://"
        CELERY_TASKLOCKS_URL = "django://"
        {settings}
    """,
    "orders/__init__.py": "",
    "orders/models.py": """
        from django.db import models

        class Order(models.Model):
            number = models.IntegerField()
    """,
    "orders/tasks.py": """
        from celery import shared_task
        from tasklocks import current_lease, locked

        @shared_task
        @locked("order-{order_id}", max_wait=600)
        def ship(order_id):
            return current_lease().name
    """,
}


@dataclass
class Project:
    """One project.

    Attributes:
        folder: where it is.
        databases: its `DATABASES`.
        settings: more lines of its settings.
        files: more files, or others.
    """

    folder: Path
    databases: dict[str, dict[str, object]]
    settings: str = ""
    files: dict[str, str] = field(default_factory=dict)

    def write(self) -> Project:
        """Write its files."""
        for name, text in {**FILES, **self.files}.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            text = textwrap.dedent(text).replace("{databases}", repr(self.databases))
            path.write_text(text.replace("{settings}", self.settings))
        return self

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `manage.py` with these arguments."""
        return self._run("manage.py", *arguments)

    def script(self, text: str) -> str:
        """Run a script inside the project; return what it printed."""
        set_up = "import shop, django\ndjango.setup()\n"
        done = self._run("-c", set_up + textwrap.dedent(text))
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout

    def environment(self) -> dict[str, str]:
        """Return what its processes find around them."""
        env = {key: value for key, value in os.environ.items() if not key.startswith(("TASKLOCKS", "CELERY", "DJANGO"))}
        return {**env, "PYTHONPATH": f"{ROOT}{os.pathsep}{self.folder}"}

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", *arguments],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
