"""The app in a real project beside django-celery-beat: migrations, command, checks, and the admin page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.contrib_django.conftest import postgresql_settings, sqlite_settings
from tests.contrib_django.projects import Project
from tests.servers_postgresql import new_postgresql_database

ENGINES = ["sqlite", "postgresql"]

HOLD = """
from tasklocks import Lock, connect
from tasklocks.types import AcquireRequest, Place
from tasklocks.who import written
backend = connect("django://")
info = written(task="orders.tasks.ship", id="task-1", host="web-1", pid="7")
backend.acquire(AcquireRequest("order/1 & <b>", "task-1/aa", ttl=600.0, info=info))
info = written(task="orders.tasks.ship", id="task-2", host="web-2", pid="8")
backend.acquire(AcquireRequest("order/1 & <b>", "task-2/bb", ttl=600.0, info=info, place=Place("task-2", 600.0)))
"""

ADMIN = """
from django.contrib.auth.models import Permission, User
from django.test import Client
user, _ = User.objects.get_or_create(username="{user}", is_staff=True, is_superuser={superuser})
user.user_permissions.set(Permission.objects.filter(codename__in={permissions!r}))
client = Client(enforce_csrf_checks={csrf})
client.force_login(user)
PAGE = "/admin/tasklocks/limit/"
THE_ONE = {{"name": "order/1 & <b>", "owner": "task-1/aa"}}
"""


def made(folder, databases, **more) -> Project:
    project = Project(folder, databases, **more).write()
    done = project.manage("migrate", "--verbosity=0", "--run-syncdb")
    assert (done.returncode, done.stderr) == (0, "")
    return project


@pytest.fixture(scope="module", params=ENGINES)
def project(request, tmp_path_factory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("project")
    if request.param == "sqlite":
        database = sqlite_settings(folder / "site.db")
    else:
        database = postgresql_settings(new_postgresql_database(request.getfixturevalue("postgresql_url")))
    return made(folder, {"default": database})


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Project:
    """One on SQLite, for what has nothing to do with the database."""
    folder = tmp_path_factory.mktemp("small")
    return made(folder, {"default": sqlite_settings(folder / "site.db")})


def as_user(*permissions: str, user: str = "someone", superuser: bool = False, csrf: bool = False) -> str:
    return ADMIN.format(user=user, permissions=list(permissions), superuser=superuser, csrf=csrf)


def test_models_and_migrations_say_the_same(small):
    done = small.manage("makemigrations", "--check", "--dry-run", "tasklocks")
    assert done.returncode == 0, done.stdout + done.stderr


def test_tasks_of_the_project_lock_in_its_database_and_the_doctor_finds_nothing_wrong(project):
    output = project.script(
        """
        from django.core.management import call_command
        from orders.tasks import ship
        from tasklocks import connect
        print(ship(7), connect("django://").inspect("order-7").usual_hold is not None)
        call_command("tasklocks", "doctor")
        """
    )
    assert output.startswith("order-7 True\nok ")
    assert "FAIL" not in output


def test_the_command_shows_and_releases(small):
    small.script(HOLD)
    shown = small.manage("tasklocks", "ls", "--json")
    assert shown.returncode == 0, shown.stderr
    assert [row["name"] for row in json.loads(shown.stdout)["limits"]] == ["order/1 & <b>"]
    released = small.manage("tasklocks", "release", "order/1 & <b>", "--yes")
    assert (released.returncode, released.stderr) == (0, "")
    assert small.manage("tasklocks", "release", "order/1 & <b>", "--yes").returncode == 1


def test_the_command_can_be_called_from_code_and_tells_errors(small):
    output = small.script(
        """
        import json
        from io import StringIO
        from django.core.management import CommandError, call_command
        out = StringIO()
        call_command("tasklocks", "ls", "--json", stdout=out)
        print(json.loads(out.getvalue())["total"] >= 0)
        try:
            call_command("tasklocks", "show", "never-used")
        except CommandError as error:
            print(error.returncode, "nothing is known" in str(error))
        """
    )
    assert output.splitlines() == ["True", "1 True"]


def test_the_list_and_the_reason_are_shown_to_who_may_view(small):
    small.script(HOLD)
    output = small.script(
        as_user("view_limit")
        + """
page = client.get(PAGE).content.decode()
print("order/1 &amp; &lt;b&gt;" in page, "<b>" in page, "name=order%2F1%20%26%20%3Cb%3E" in page)
print("has waited for a permit of" in client.get(PAGE, {"q": "task-2"}).content.decode())
page = client.get(PAGE + "show/", {"name": "order/1 & <b>"}).content.decode()
print("orders.tasks.ship[task-1] on web-1 pid 7" in page, "orders.tasks.ship[task-2]" in page, "Release" in page)
print(client.get(PAGE + "show/", {"name": "unknown"}).status_code)
"""
    )
    assert output == "True False True\nTrue\nTrue True False\n200\n"


def test_the_reason_of_a_task_that_no_backend_knows_comes_from_the_result_backend(small):
    output = small.script(
        as_user("view_limit")
        + """
from uuid import uuid4
shop.celery_app.conf.result_backend = "cache+memory://"
ended, unknown = str(uuid4()), str(uuid4())
shop.celery_app.backend.store_result(ended, "the result", "SUCCESS")
for each in (ended, unknown):
    page = client.get(PAGE, {"q": each}).content.decode()
    print("has ended: SUCCESS" in page, "the result" in page)
"""
    )
    assert output == "True False\nFalse False\n"


@pytest.mark.parametrize(
    ("permissions", "codes"), [([], "403 403 403 403"), (["view_limit"], "200 200 403 403")], ids=["none", "view"]
)
def test_nothing_is_shown_and_nothing_released_without_the_permission(small, permissions, codes):
    small.script(HOLD)
    output = small.script(
        as_user(*permissions, user="visitor")
        + """
from tasklocks import connect
codes = [client.get(PAGE), client.get(PAGE + "show/", THE_ONE), client.get(PAGE + "release/", THE_ONE)]
codes.append(client.post(PAGE + "release/", THE_ONE))
print(*(each.status_code for each in codes))
print(connect("django://").inspect("order/1 & <b>").holders[0].owner)
"""
    )
    assert output == f"{codes}\ntask-1/aa\n"


def test_who_may_release_is_asked_first_and_the_holder_loses_its_lease(small):
    small.script(HOLD)
    output = small.script(
        as_user("view_limit", "release_limit", user="operator")
        + """
import logging, sys
logging.basicConfig(stream=sys.stdout, format="%(message)s")
from tasklocks import connect
asked = client.get(PAGE + "release/", THE_ONE).content.decode()
print("orders.tasks.ship[task-1]" in asked, len(connect("django://").inspect("order/1 & <b>").holders))
done = client.post(PAGE + "release/", THE_ONE, follow=True)
print(done.status_code, "does not hold" in done.content.decode())
print(connect("django://").inspect("order/1 & <b>").holders)
again = client.post(PAGE + "release/", THE_ONE, follow=True)
print(again.status_code, "did not hold" in again.content.decode())
"""
    )
    assert output == (
        "True 1\nlimit 'order/1 & <b>': the lease of task-1/aa was ended in the admin by operator\n"
        "200 True\n()\n200 True\n"
    )


def test_a_release_from_another_site_is_refused(small):
    small.script(HOLD)
    output = small.script(
        as_user(superuser=True, user="root", csrf=True)
        + "print(client.post(PAGE + 'release/', THE_ONE).status_code, client.get(PAGE).status_code)"
    )
    assert output == "403 200\n"


def test_the_page_says_so_when_the_backend_does_not_answer(tmp_path):
    project = made(
        tmp_path,
        {"default": sqlite_settings(tmp_path / "site.db")},
        settings="CELERY_TASKLOCKS_URL = 'redis://:hush-hush@127.0.0.1:1/0'",
    )
    output = project.script(
        as_user(superuser=True)
        + """
answer = client.get(PAGE)
page = answer.content.decode()
print(answer.status_code, "errornote" in page, "hush-hush" in page)
"""
    )
    assert output == "200 True False\n"


CHECKED = [
    ({}, None),
    ({"tasklocks_url": None}, "W001"),
    ({"tasklocks_ttl": -1}, "E001.*tasklocks_ttl must be more than 0"),
    ({"tasklocks_ttl": 0.01}, "E002.*task orders.tasks.ship"),
    ({"tasklocks_url": "django://nosuch"}, "E001.*DATABASES has no 'nosuch'"),
    ({"tasklocks_url": "nosuch://x"}, "E001.*no backend for nosuch"),
    ({"tasklocks_url": "django://atomic"}, "W003"),
    (
        {"broker_url": "redis://h/0", "broker_transport_options": {"visibility_timeout": 300}},
        "W004.*task orders.tasks.ship may wait for 600 s.*300 s",
    ),
    ({"broker_url": "redis://h/0"}, None),
]


@pytest.fixture(scope="module")
def checked(small) -> list[list[str]]:
    """What the checks say of each of the settings."""
    output = small.script(
        f"""
        import json
        from django.core import checks
        from django.db import connections
        from django.test import override_settings
        connections.settings["atomic"] = dict(connections.settings["default"], ATOMIC_REQUESTS=True)
        said = []
        for settings in {[settings for settings, _ in CHECKED]!r}:
            with override_settings(**{{f"CELERY_{{key.upper()}}": value for key, value in settings.items()}}):
                found = checks.run_checks(tags=["tasklocks"], include_deployment_checks=True)
            said.append([f"{{each.id}} {{each.msg}}" for each in found])
        print(json.dumps(said))
        """
    )
    return json.loads(output)


@pytest.mark.parametrize(("number", "expected"), [(number, each[1]) for number, each in enumerate(CHECKED)])
def test_settings_that_cannot_work_are_found_by_the_system_checks(checked, number, expected):
    said = [each for each in checked[number] if "W002" not in each]
    assert len(said) == (expected is not None)
    assert re.search(expected or "", "".join(said))


def test_sqlite_is_warned_of_where_a_site_is_deployed(checked):
    assert any("W002" in each for each in checked[0])


def test_manage_check_tells_of_a_setting_that_cannot_work(small):
    folder = small.folder.parent / f"{small.folder.name}-wrong"
    wrong = Project(folder, small.databases, settings="CELERY_TASKLOCKS_TTL = -1").write().manage("check")
    assert wrong.returncode == 1
    assert "tasklocks.E001" in wrong.stderr
