"""A real browser without a screen: Debian's Chromium, driven by Playwright, which downloads nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, sync_playwright

__all__ = ["PROGRAM", "a_browser", "a_page"]

PROGRAM = "chromium"

# Without a sandbox, for tests often run as root; and without what it does by itself on the network.
_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def a_browser() -> Iterator[Browser]:
    """Start one."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which(PROGRAM), args=list(_OPTIONS))
        yield browser
        browser.close()


@contextmanager
def a_page(browser: Browser, **options: object) -> Iterator[Page]:
    """Open an empty page as a new visitor; at the end insist that the browser had nothing to complain of."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
    complaints: list[str] = []
    page = context.new_page()
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.set_default_timeout(15_000)
    yield page
    context.close()
    # What a content security policy forbids is among them.
    assert not complaints, complaints
