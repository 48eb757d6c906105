"""The app, as Django knows it."""

from __future__ import annotations

from django.apps import AppConfig

__all__ = ["TaskLocksConfig"]


class TaskLocksConfig(AppConfig):
    """`tasklocks.contrib.django`; its tables start with `tasklocks_`."""

    name = "tasklocks.contrib.django"
    label = "tasklocks"
    verbose_name = "Task locks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks."""
        from tasklocks.contrib.django import checks

        checks.register()
