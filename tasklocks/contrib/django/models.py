"""The tables of the `django://` backend, for reading and for the migrations: the backend itself writes plain SQL.

No index on what every step changes: PostgreSQL then updates a row in place.
All times are seconds on the backend's clock: since the epoch on PostgreSQL, since the host's start on SQLite.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models

__all__ = ["Host", "Lease", "Limit", "Text", "Waiter"]


class Host(models.Model):
    """Which run of the host the rows are of (SQLite only)."""

    version = models.IntegerField()
    boot = models.TextField()

    class Meta:
        """Where it is."""

        db_table = "tasklocks_meta"
        default_permissions = ()


class Limit(models.Model):
    """What is remembered of a limit beside its leases.

    `token` is at least the largest one of the leases that are gone; `usual_hold` is in seconds. `full_name` is there
    if the name is longer than an index of PostgreSQL may hold; `name` is then made from it.
    """

    name = models.TextField()
    full_name = models.TextField(null=True)
    capacity = models.IntegerField()
    token = models.BigIntegerField()
    usual_hold = models.FloatField(null=True)
    used_at = models.FloatField()

    class Meta:
        """Where it is, and who may do what on its admin page."""

        db_table = "tasklocks_limits"
        default_permissions = ("view",)
        permissions: ClassVar = [("release_limit", "Can release limits")]
        constraints: ClassVar = [models.UniqueConstraint(fields=["name"], name="tasklocks_limits_name")]

    def __str__(self) -> str:
        return str(self.name)


class Lease(models.Model):
    """One lease. `closed`: released, and only its permits stay taken until `expires`."""

    name = models.TextField()
    owner = models.TextField()
    permits = models.IntegerField()
    token = models.BigIntegerField()
    granted = models.FloatField()
    expires = models.FloatField()
    closed = models.SmallIntegerField()
    info = models.TextField()

    class Meta:
        """Where it is."""

        db_table = "tasklocks_leases"
        default_permissions = ()
        constraints: ClassVar = [models.UniqueConstraint(fields=["name", "owner"], name="tasklocks_leases_owner")]


class Waiter(models.Model):
    """One place in line. `away`: it comes back by itself; the others are told at `address`."""

    name = models.TextField()
    away = models.SmallIntegerField()
    seq = models.BigIntegerField()
    ticket = models.TextField()
    since = models.FloatField()
    owner = models.TextField()
    permits = models.IntegerField()
    ttl = models.FloatField()
    until = models.FloatField()
    address = models.TextField(null=True)
    info = models.TextField()

    class Meta:
        """Where it is."""

        db_table = "tasklocks_waiters"
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["name", "away", "since", "seq"], name="tasklocks_waiters_since"),
            models.UniqueConstraint(fields=["name", "ticket", "away"], name="tasklocks_waiters_ticket"),
        ]
        indexes: ClassVar = [models.Index(fields=["name", "until"], name="tasklocks_waiters_until")]


class Text(models.Model):
    """A small text that is forgotten at `until` (always seconds since the epoch): rates and beats are kept in them."""

    name = models.TextField()
    full_name = models.TextField(null=True)
    text = models.TextField()
    until = models.FloatField()

    class Meta:
        """Where it is."""

        db_table = "tasklocks_texts"
        default_permissions = ()
        constraints: ClassVar = [models.UniqueConstraint(fields=["name"], name="tasklocks_texts_name")]
