"""Who may see the page and act on it. Everything here is what another page, host or user would try."""

from __future__ import annotations

import json

import pytest

from tasklocks import connect
from tasklocks.testing.asking import taken
from tasklocks.web import Options
from tests.cli.conftest import CommandLine
from tests.web.conftest import TOKEN

KEY = "x-tasklocks-key"
AS_JSON = {"content-type": "application/json"}
RELEASE = {"name": "report", "owner": "a"}


@pytest.fixture
def url(new_backend_url, backend_of) -> str:
    """The URL of a backend in which `report` is held by `a`."""
    url = new_backend_url("sqlite")
    taken(backend_of(url), "a", "report")
    return url


def still_held(url: str) -> bool:
    return [each.owner for each in connect(url).inspect("report").holders] == ["a"]


def test_the_page_only_shows_unless_it_is_told_otherwise(url, serve):
    served = serve(url)
    assert "#" not in served.printed
    with served.logged_in() as client:
        assert client.get("/api/session").json() == {"readable": True, "actions": False, "can_act": False}
        answer = client.post("/api/release", json=RELEASE)
    assert answer.status_code == 403
    assert "--allow-actions" in answer.json()["error"]
    assert still_held(url)


def test_acting_takes_the_cookie_and_the_key_of_one_login(url, serve):
    served = serve(url, "--allow-actions")
    assert served.printed.endswith(f"#token={TOKEN}")
    with served.client() as stranger, served.logged_in() as mine, served.logged_in() as other:
        assert stranger.post("/api/release", json=RELEASE).status_code == 401
        only_key = stranger.post("/api/release", json=RELEASE, headers={KEY: mine.headers[KEY]})
        wrong_key = mine.post("/api/release", json=RELEASE, headers={KEY: other.headers[KEY]})
        only_cookie = mine.post("/api/release", json=RELEASE, headers={KEY: ""})
        assert [each.status_code for each in (only_key, wrong_key, only_cookie)] == [401, 401, 401]
        assert still_held(url)
        assert mine.post("/api/release", json=RELEASE).json() == {"released": 1}


def test_another_page_cannot_act_with_the_browser_of_who_is_logged_in(url, serve):
    foreign = [
        *({"origin": origin} for origin in ("http://evil.example", "http://127.0.0.1:1", "null", "http://[::1", "")),
        *({"sec-fetch-site": site} for site in ("cross-site", "same-site")),
        *({"content-type": kind} for kind in ("text/plain", "application/x-www-form-urlencoded")),
        {"host": "evil.example"},
    ]
    with serve(url, "--allow-actions").logged_in() as client:
        for headers in foreign:
            assert client.post("/api/release", json=RELEASE, headers=headers).status_code == 403, headers
        # Nor does an address that is only opened do anything.
        assert client.get("/api/release", params=RELEASE).status_code in (404, 405)
        assert still_held(url)
        assert client.post("/api/release", json=RELEASE).json() == {"released": 1}


def test_a_name_that_leads_here_but_is_not_ours_is_refused(url, serve):
    with serve(url).client() as client:
        for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost@evil.example", "[::1", ""):
            for path in ("/", "/app.js", "/api/limits", "/api/live"):
                assert client.get(path, headers={"host": host}).status_code in (400, 403), (host, path)


def test_addresses_localhost_and_the_names_that_are_allowed_are_served(url, serve):
    with serve(url, "--allow-host", "locks.shop.example").client() as client:
        for host in ("localhost:1234", "[::1]:80", "192.0.2.7", "locks.shop.example:443", "LOCKS.shop.example"):
            assert client.get("/api/limits", headers={"host": host}).status_code == 200, host


def test_another_page_cannot_read(url, serve):
    with serve(url).client() as client:
        answer = client.get("/api/limits", headers={"sec-fetch-site": "cross-site"})
        assert answer.status_code == 403
        assert not any(name.startswith("access-control") for name in client.get("/api/limits").headers)


def test_every_answer_forbids_frames_foreign_scripts_and_guessed_types(url, serve):
    with serve(url, "--allow-actions").client() as client:
        for answer in (client.get("/"), client.get("/app.js"), client.get("/none"), client.post("/api/release")):
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "script-src 'self'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"


def test_who_may_not_read_sees_no_name_of_a_limit(url, serve):
    served = serve(url, "--private")
    with served.client() as stranger, served.logged_in() as known:
        for path in ("limits", "limit?name=report", "rates", "beats", "why?task=a", "live"):
            answer = stranger.get(f"/api/{path}")
            assert answer.status_code == 401
            assert "report" not in answer.text
        assert stranger.get("/api/session").json()["readable"] is False
        assert known.get("/api/limits").json()["rows"][0]["name"] == "report"


@pytest.mark.parametrize(
    ("host", "private"), [("127.0.0.1", False), ("127.8.8.8", False), ("::1", False), ("localhost", False)]
)
def test_on_loopback_reading_is_free(host, private):
    assert Options(host=host).reads_need_token is private


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "shop.example"])
def test_elsewhere_reading_takes_the_token(host):
    assert Options(host=host).reads_need_token is True


def test_a_wrong_token_lets_nobody_in(url, serve):
    with serve(url, "--allow-actions").client() as client:
        for wrong in ("", TOKEN[:-1], 7, "\ud800"):
            answer = client.post("/api/login", content=json.dumps({"token": wrong}), headers=AS_JSON)
            assert answer.status_code == 401
            assert "set-cookie" not in answer.headers
        for body in (b"", b"[]", b"{", b"x" * 20_000):
            assert client.post("/api/login", content=body, headers=AS_JSON).status_code == 400


def test_no_script_can_read_the_cookie_and_no_other_site_can_send_it(url, serve):
    with serve(url, "--allow-actions").client() as client:
        cookie = client.post("/api/login", json={"token": TOKEN}).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie


def test_the_token_is_not_in_the_log(url, serve):
    served = serve(url, "--allow-actions")
    with served.logged_in() as client:
        client.post("/api/release", json=RELEASE)
    served.process.stop()
    after_start = served.process.log().partition("\n")[2]
    assert "release 'report'" in after_start
    assert TOKEN not in after_start
    assert client.headers[KEY] not in after_start


def test_each_start_has_a_token_of_its_own():
    from tasklocks.web.guard import Rules

    tokens = {Rules().token for _ in range(5)}
    assert len(tokens) == 5
    assert min(map(len, tokens)) >= 40
    assert not any(token in repr(Rules(token=token)) for token in tokens)


def test_a_token_that_is_too_short_and_a_port_that_is_taken_are_exit_code_2(url, serve, monkeypatch):
    port = serve(url).url.rpartition(":")[2]
    taken_port = CommandLine(url)("web", "--port", port)
    assert (taken_port.exit_code, port in taken_port.output) == (2, True)
    monkeypatch.setenv("TASKLOCKS_WEB_TOKEN", "short")
    short = CommandLine(url)("web", "--port", "0")
    assert (short.exit_code, "TASKLOCKS_WEB_TOKEN" in short.output) == (2, True)
