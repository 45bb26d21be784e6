"""Fills a database as people would, with what a backup may stumble over: `python -m tests.portal.filled YAML`.

With `--read` it prints what only the right keys give: the password that a connection keeps.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

import django

django.setup()

from django.contrib.sessions.backends.db import SessionStore
from django.core.management import call_command
from django.utils import timezone

from access.models import User
from access.secrets import read_secrets
from access.services import create_token
from integrations.models import Connection, Delivery, OperationRun
from integrations.services.connections import create_connection

AWKWARD = "tab\there, \\N, \\., a \"quote\", 'another', line\nend\r\nGrüße 🐙 \x7f"
PASSWORD = "the-password-of-the-build-master"


def fill(yaml: str) -> None:
    call_command("prepare", verbosity=0)
    call_command("import_catalog", yaml)
    config = {"base_url": "https://ci.acme.example/", "username": "portico", "password": PASSWORD}
    connection = create_connection(slug="ci", label=AWKWARD[:90], connector="buildbot", config=config)
    Delivery.objects.create(
        connection=connection,
        digest="0" * 64,
        headers={"x": AWKWARD},
        body=bytes(range(256)),
        received_at=timezone.now(),
    )
    for state in OperationRun.State.values:
        OperationRun.objects.create(
            connection=connection,
            operation="force",
            target_type="pipeline",
            target_id="builders/1",
            params={"reason": AWKWARD},
            idempotency_key=state,
            state=state,
            requested_by=AWKWARD,
            requested_at=timezone.now() - timedelta(microseconds=1),
        )
    admin = User.objects.get(username="admin")
    admin.name = AWKWARD[:60]
    admin.save()
    create_token(user=admin, name="kept")
    session = SessionStore()
    session["kept"] = AWKWARD
    session.create()


if __name__ == "__main__":
    if sys.argv[1:] == ["--read"]:
        connection = Connection.objects.get(slug="ci")
        print(read_secrets(owner_type="connection", owner_uid=str(connection.uid))["password"])
    else:
        fill(sys.argv[1])
