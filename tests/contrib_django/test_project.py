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


def test_a_task_of_the_project_locks_in_its_database(project):
    output = project.script(
        """
        from orders.tasks import ship
        print(ship(7))
        from tasklocks import connect
        print(connect("django://").inspect("order-7").usual_hold is not None)
        """
    )
    assert output == "order-7\nTrue\n"


def test_the_command_shows_and_releases(project):
    project.script(HOLD)
    shown = project.manage("tasklocks", "ls", "--json")
    assert shown.returncode == 0, shown.stderr
    assert [row["name"] for row in json.loads(shown.stdout)["limits"]] == ["order/1 & <b>"]
    why = project.manage("tasklocks", "why", "task-2")
    assert "orders.tasks.ship[task-2]" in why.stdout
    assert "held by orders.tasks.ship[task-1]" in why.stdout
    released = project.manage("tasklocks", "release", "order/1 & <b>", "--yes")
    assert (released.returncode, released.stderr) == (0, "")
    assert project.manage("tasklocks", "release", "order/1 & <b>", "--yes").returncode == 1


def test_the_command_can_be_called_from_code_and_tells_errors(small):
    output = small.script(
        """
        from io import StringIO
        from django.core.management import CommandError, call_command
        out = StringIO()
        call_command("tasklocks", "ls", "--json", stdout=out)
        print(out.getvalue().strip())
        try:
            call_command("tasklocks", "show", "never-used")
        except CommandError as error:
            print(error.returncode, "nothing is known" in str(error))
        """
    )
    assert output.splitlines() == ['{"limits": [], "total": 0}', "1 True"]


def test_the_doctor_finds_nothing_wrong(project):
    done = project.manage("tasklocks", "doctor")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_the_list_and_the_reason_are_shown_to_who_may_view(project):
    project.script(HOLD)
    output = project.script(
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


def test_who_may_release_is_asked_first_and_the_holder_loses_its_lease(project):
    project.script(HOLD)
    output = project.script(
        as_user("view_limit", "release_limit", user="operator")
        + """
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
    assert output == "True 1\n200 True\n()\n200 True\n"


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
        settings="CELERY_TASKLOCKS_URL = 'redis://:pw@127.0.0.1:1/0'",
    )
    output = project.script(
        as_user(superuser=True)
        + """
answer = client.get(PAGE)
page = answer.content.decode()
print(answer.status_code, "errornote" in page, "pw" in page)
"""
    )
    assert output == "200 True False\n"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("", None),
        ("CELERY_TASKLOCKS_URL = None", "W001"),
        ("CELERY_TASKLOCKS_TTL = -1", "E001.*tasklocks_ttl must be more than 0"),
        ("CELERY_TASKLOCKS_TTL = 0.01", "E002.*task orders.tasks.ship"),
        ("CELERY_TASKLOCKS_URL = 'django://nosuch'", "E001.*DATABASES has no 'nosuch'"),
        ("CELERY_TASKLOCKS_URL = 'nosuch://x'", "E001.*no backend for nosuch"),
        ("DATABASES['default']['ATOMIC_REQUESTS'] = True", "W003"),
        (
            "CELERY_BROKER_URL = 'redis://h/0'; CELERY_BROKER_TRANSPORT_OPTIONS = {'visibility_timeout': 300}",
            "W004.*600 s.*300 s",
        ),
        ("CELERY_BROKER_URL = 'redis://h/0'", None),
    ],
    ids=range(9),
)
def test_settings_that_cannot_work_are_found_by_the_system_checks(small, settings, expected):
    project = Project(small.folder.parent / f"{small.folder.name}-checked", small.databases, settings=settings).write()
    done = project.manage("check", "--deploy", "--tag", "tasklocks")
    said = done.stdout + done.stderr
    found = set(re.findall(r"tasklocks\.(\w\d+)", said)) - {"W002"}
    assert len(found) == (expected is not None), said
    assert re.search(expected or "", said, re.DOTALL), said


def test_sqlite_is_warned_of_where_a_site_is_deployed(project):
    said = project.manage("check", "--deploy", "--tag", "tasklocks")
    assert ("W002" in said.stdout + said.stderr) is ("sqlite3" in str(project.databases))
