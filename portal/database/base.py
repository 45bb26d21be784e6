"""The backend that `DATABASES` names where threads share connections."""

from __future__ import annotations

import select
from typing import Any

import psycopg
from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    """Takes no connection from the pool whose server is gone.

    The pool's own check asks the server each time, which a quick answer would feel.
    """

    def get_new_connection(self, conn_params: dict[str, Any]) -> psycopg.Connection:
        while True:
            connection: psycopg.Connection = super().get_new_connection(conn_params)
            if self.pool is None or not _is_lost(connection):
                return connection
            connection.close()
            self.pool.putconn(connection)  # which replaces it


def _is_lost(connection: psycopg.Connection) -> bool:
    """Say whether there is something to read: a server that was asked nothing only says farewell."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
