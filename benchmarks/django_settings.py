"""The settings of a Django project with databases on the PostgreSQL that `BENCH_POSTGRESQL_URL` names."""

import os
from urllib.parse import urlsplit

from benchmarks.stores import SPACES

_server = urlsplit(os.environ["BENCH_POSTGRESQL_URL"])

INSTALLED_APPS = ["tasklocks.contrib.django"]
USE_TZ = True
DATABASES = {
    alias: {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": f"bench_{alias}",
        "USER": _server.username,
        "HOST": _server.hostname,
        "PORT": str(_server.port),
    }
    for alias in ("default", *(f"space{number}" for number in range(1, SPACES + 1)))
}
