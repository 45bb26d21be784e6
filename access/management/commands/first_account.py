"""Make the first account."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from access.actors import acting_as, system
from access.links import sign_in_url
from access.services import ensure_first_account
from base.errors import DomainError


class Command(BaseCommand):
    help = "Make the account `admin` if there is no account yet, and print its one-time sign-in link."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with acting_as(system("first_account")):
                token = ensure_first_account()
        except DomainError as error:
            raise CommandError(error.message)
        if token:
            self.stdout.write(sign_in_url(token))
