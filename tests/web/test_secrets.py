"""No password and no argument of a task is in anything that the page sends; names of limits are, unless hidden."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tasklocks import locked
from tasklocks.testing.asking import taken
from tests.conftest import require
from tests.processes import eventually
from tests.servers import RedisServer
from tests.web.conftest import Served
from tests.web.scene import about
from tests.web.test_api import heard

PASSWORD, ARGUMENT, ACCOUNT = "s3cret-pass", "argument-4711", "account-0815"
PATHS = ("/", "/api/limits?idle=1", "/api/rates", "/api/beats", "/api/why?task=id", "/api/session")


def all_that_is_sent(served: Served, limit: str) -> str:
    """Return every answer, every event of a second, and the server's log."""
    with served.client() as client:
        answers = [client.get(path).text for path in (*PATHS, f"/api/limit?name={limit}")]
        events = [*heard(client, 0.5), *heard(client, 0.5, view="limit", name=limit), *heard(client, 0.1, view="rates")]
    return "\n".join([*answers, str(events), served.process.log()])


@pytest.fixture
def guarded(tmp_path: Path):
    """A Redis that wants a password."""
    require(RedisServer)
    with RedisServer(tmp_path / "guarded", "--requirepass", PASSWORD) as server:
        yield server


def test_no_password_of_the_backend_is_sent_whether_it_answers_or_not(guarded, backend_of, serve):
    url = guarded.url.replace("redis://", f"redis://:{PASSWORD}@")
    taken(backend_of(url), "a", "report", info=about("report", "id-1"))
    served = serve(url)
    sent = all_that_is_sent(served, "report")
    assert "report" in sent
    guarded.stop()
    after = all_that_is_sent(served, "report")
    assert "cannot be reached" in after
    assert PASSWORD not in sent + after


def test_a_wrong_password_is_not_sent_either(guarded, serve):
    sent = all_that_is_sent(serve(guarded.url.replace("redis://", f"redis://:wrong-{PASSWORD}@")), "report")
    assert "password" in sent.lower()
    assert PASSWORD not in sent


@pytest.mark.parametrize("options", [(), ("--hide-names",)], ids=["names", "hidden"])
def test_no_argument_of_a_task_is_sent_but_what_the_limits_name_says(new_backend_url, backend_of, serve, options):
    url = new_backend_url("sqlite")
    backend, go_on = backend_of(url), threading.Event()

    @locked("import-{account}", backend=backend)
    def import_account(account: str, secret: str) -> None:
        go_on.wait(30)

    task = threading.Thread(target=import_account, args=(ACCOUNT,), kwargs={"secret": ARGUMENT})
    task.start()
    try:
        assert eventually(lambda: backend.inspect(f"import-{ACCOUNT}").holders, within=5)
        served = serve(url, "--every", "0.2", *options)
        with served.client() as client:
            (row,) = client.get("/api/limits").json()["rows"]
        sent = all_that_is_sent(served, row["name"])
    finally:
        go_on.set()
        task.join()
    assert "'held': 1" in sent
    assert ARGUMENT not in sent
    assert (ACCOUNT in sent) is (not options)


def test_hidden_names_are_found_and_steered_by_what_the_page_calls_them(new_backend_url, backend_of, serve):
    url = new_backend_url("sqlite")
    backend = backend_of(url)
    taken(backend, "a", f"import-{ACCOUNT}")
    with serve(url, "--hide-names", "--allow-actions").logged_in() as client:
        (row,) = client.get("/api/limits").json()["rows"]
        assert client.get("/api/limits", params={"q": ACCOUNT}).json()["found"] == 0
        assert client.get("/api/limits", params={"q": row["name"]}).json()["found"] == 1
        assert client.post("/api/release", json={"name": row["name"], "owner": "a"}).json() == {"released": 1}
    assert not backend.inspect(f"import-{ACCOUNT}").holders
