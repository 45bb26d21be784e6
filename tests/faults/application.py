"""Portico as its processes run it, with the tests' connector and with more haste: `celery -A tests.faults.application`.

Run as a program it prepares the database: the schema, the core pack, two connections to a tool if its addresses
are given, and a token, which it prints.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

import django

django.setup()

from django.core.management import call_command

from access.models import User
from access.services import create_token, ensure_first_account
from integrations import registry, sync
from integrations.services import deliveries, operations, runs
from integrations.services.connections import create_connection
from portal.celery import app
from portal.packs import apply_packs, installed_packs
from tests.faults.upstream import Paged, connections_to

registry.connectors()[Paged.slug] = Paged
sync.PAGE = 10
sync.LEASE = timedelta(seconds=4)
sync.HEARTBEAT = 1.0
sync.PAUSE = timedelta(seconds=1)
runs.LOST_AFTER = timedelta(seconds=3)
operations.ABANDONED = timedelta(seconds=3)
deliveries.LEASE = timedelta(seconds=4)
deliveries.LOST_AFTER = timedelta(seconds=1)
deliveries.BATCH = 10
app.conf.beat_schedule["tick"]["schedule"] = 1.0


def prepare(*addresses: str) -> None:
    call_command("migrate", interactive=False, verbosity=0)
    apply_packs(installed_packs(), by="tests", keep_edits=True)
    for connection in connections_to(*addresses) if addresses else ():
        create_connection(**connection)
    ensure_first_account()
    print(create_token(user=User.objects.get(username="admin"), name="tests").text)


if __name__ == "__main__":
    prepare(*sys.argv[1:])
