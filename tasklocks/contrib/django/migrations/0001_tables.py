"""The first tables."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """As `makemigrations` made it."""

    initial = True

    dependencies: ClassVar[list[tuple[str, str]]] = []

    operations: ClassVar = [
        migrations.CreateModel(
            name="Host",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("version", models.IntegerField()),
                ("boot", models.TextField()),
            ],
            options={
                "db_table": "tasklocks_meta",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Lease",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.TextField()),
                ("owner", models.TextField()),
                ("permits", models.IntegerField()),
                ("token", models.BigIntegerField()),
                ("granted", models.FloatField()),
                ("expires", models.FloatField()),
                ("closed", models.SmallIntegerField()),
                ("info", models.TextField()),
            ],
            options={
                "db_table": "tasklocks_leases",
                "default_permissions": (),
                "constraints": [models.UniqueConstraint(fields=("name", "owner"), name="tasklocks_leases_owner")],
            },
        ),
        migrations.CreateModel(
            name="Limit",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.TextField()),
                ("full_name", models.TextField(null=True)),
                ("capacity", models.IntegerField()),
                ("token", models.BigIntegerField()),
                ("usual_hold", models.FloatField(null=True)),
                ("used_at", models.FloatField()),
            ],
            options={
                "db_table": "tasklocks_limits",
                "permissions": [("release_limit", "Can release limits")],
                "default_permissions": ("view",),
                "constraints": [models.UniqueConstraint(fields=("name",), name="tasklocks_limits_name")],
            },
        ),
        migrations.CreateModel(
            name="Text",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.TextField()),
                ("full_name", models.TextField(null=True)),
                ("text", models.TextField()),
                ("until", models.FloatField()),
            ],
            options={
                "db_table": "tasklocks_texts",
                "default_permissions": (),
                "constraints": [models.UniqueConstraint(fields=("name",), name="tasklocks_texts_name")],
            },
        ),
        migrations.CreateModel(
            name="Waiter",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.TextField()),
                ("away", models.SmallIntegerField()),
                ("seq", models.BigIntegerField()),
                ("ticket", models.TextField()),
                ("since", models.FloatField()),
                ("owner", models.TextField()),
                ("permits", models.IntegerField()),
                ("ttl", models.FloatField()),
                ("until", models.FloatField()),
                ("address", models.TextField(null=True)),
                ("info", models.TextField()),
            ],
            options={
                "db_table": "tasklocks_waiters",
                "default_permissions": (),
                "indexes": [models.Index(fields=["name", "until"], name="tasklocks_waiters_until")],
                "constraints": [
                    models.UniqueConstraint(fields=("name", "away", "since", "seq"), name="tasklocks_waiters_since"),
                    models.UniqueConstraint(fields=("name", "ticket", "away"), name="tasklocks_waiters_ticket"),
                ],
            },
        ),
    ]
