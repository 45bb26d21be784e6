"""Threads share connections, and a restarted PostgreSQL costs nobody an error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import ConnectionHandler

from portal import serve
from portal.database.base import DatabaseWrapper

SIZE = 3


def test_a_web_server_shares_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"OPTIONS": {}, "CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True}
    monkeypatch.setattr(serve, "connections", ConnectionHandler({"default": settings}))
    serve.share_connections(0)
    assert "pool" not in serve.connections.settings["default"]["OPTIONS"]
    serve.share_connections(SIZE)
    assert serve.connections.settings["default"]["OPTIONS"]["pool"]["max_size"] == SIZE
    assert serve.connections.settings["default"]["CONN_MAX_AGE"] == 0


@pytest.fixture
def pooled(db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[BaseDatabaseWrapper]:
    """A connection of the web server's kind, with a pool of its own that is full."""
    monkeypatch.setattr(DatabaseWrapper, "_connection_pools", {})
    settings = connection.settings_dict
    options = {**settings["OPTIONS"], "pool": {"min_size": SIZE, "max_size": SIZE, "timeout": 5}}
    changed = {
        "ENGINE": "portal.database",
        "OPTIONS": options,
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": False,
    }
    wrapper = ConnectionHandler({"default": {**settings, **changed}})["default"]
    number(wrapper)
    wrapper.pool.wait(5)
    yield wrapper
    wrapper.close()
    wrapper.close_pool()


def number(wrapper: BaseDatabaseWrapper) -> int:
    """Ask for the number of the server's process, and give the connection back."""
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (found,) = cursor.fetchone()
    wrapper.close()
    return int(found)


def test_connections_are_shared(pooled: BaseDatabaseWrapper) -> None:
    assert len({number(pooled) for _ in range(4 * SIZE)}) <= SIZE


def test_connections_that_the_server_has_ended_are_replaced_unnoticed(pooled: BaseDatabaseWrapper) -> None:
    before = {number(pooled) for _ in range(4 * SIZE)}
    with connection.cursor() as cursor:
        for process in before:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [process])
    after = {number(pooled) for _ in range(4 * SIZE)}
    assert not before & after
