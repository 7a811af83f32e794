"""A pytest plugin, loaded before Django's settings: the tests' own data folder and no settings from outside.

With TEST_STACK=scale the tests run on PostgreSQL and Redis instead of SQLite, in servers of their own.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.scale.servers import Server

_data = tempfile.mkdtemp(prefix="reprise-tests-")
Path(_data, "static").mkdir()  # where WhiteNoise looks for collected files

for _name in [name for name in os.environ if name.startswith("REPRISE_") or name == "DATABASE_URL"]:
    del os.environ[_name]
os.environ["REPRISE_DATA"] = _data
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "true")  # Playwright's loop runs in the thread that uses the ORM

database: Server | None = None
broker: Server | None = None
_servers = ExitStack()
if os.environ.get("TEST_STACK") == "scale":
    from tests.scale import servers

    database = _servers.enter_context(servers.postgresql())
    broker = _servers.enter_context(servers.redis_server(Path(_data)))
    os.environ["DATABASE_URL"] = database.url
    os.environ["REPRISE_BROKER"] = broker.url


def pytest_unconfigure() -> None:
    _servers.close()
    shutil.rmtree(_data, ignore_errors=True)
