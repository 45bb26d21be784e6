"""Encrypt all stored secrets with the newest key."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from access.actors import acting_as, system
from access.secrets import rotate_keys
from access.services import record_audit
from base.errors import DomainError


class Command(BaseCommand):
    help = (
        "Encrypt all stored secrets with the first key of PORTICO_ENCRYPTION_KEYS. "
        "To change keys: put the new key before the old one, restart, run this, remove the old one, restart."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            count = rotate_keys()
        except DomainError as error:
            raise CommandError(error.message)
        with acting_as(system("rotate_keys")):
            record_audit("secret.rotate", changes={"count": count})
        self.stdout.write(f"{count} secrets are encrypted with the newest key.")
