"""The shop of `docs/night.md`: what its tasks do is to take long, or to be many."""

from __future__ import annotations

import time

from tasklocks import Resizable, locked, rate_limited
from tests.apps import make_app

app = make_app("tests.apps.night")


@app.task(name="shop.import_account")
@locked("import-{account}")
def import_account(account: int, seconds: float = 600.0) -> None:
    time.sleep(seconds)


@app.task(name="shop.close_account")
@locked("import-{account}")
def close_account(account: int, seconds: float = 0.0) -> None:
    time.sleep(seconds)


@app.task(name="shop.save")
@locked("save-to-storage", Resizable(2, every=0.5))
def save(document: str, seconds: float = 600.0) -> None:
    time.sleep(seconds)


@app.task(name="shop.call_partner")
@rate_limited("partner-api", "6/m")
def call_partner(customer: str) -> None: ...


@app.task(name="shop.ship")
@rate_limited("carrier", "1/m")
@locked("ship-{order}")
def ship(order: int) -> None: ...


@app.task(name="shop.mail")
def mail(seconds: float = 0.0) -> None:
    time.sleep(seconds)
