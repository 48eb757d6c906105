"""A Django app: an admin page, a management command, system checks, and the tables of the `django://` backend.

`INSTALLED_APPS = [..., "tasklocks.contrib.django"]`; see `docs/django.md`.
"""
