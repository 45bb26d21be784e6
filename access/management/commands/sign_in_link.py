"""Print a link that signs a person in once."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from access.actors import acting_as, system
from access.links import sign_in_url
from access.models import User
from access.services import make_sign_in_link
from base.errors import DomainError


class Command(BaseCommand):
    help = "Print a link that signs a person in once, within 24 hours, to choose a password."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--user", required=True, metavar="NAME", help="user name of the account")

    def handle(self, *args: Any, user: str, **options: Any) -> None:
        try:
            with acting_as(system("sign_in_link")):
                token = make_sign_in_link(User.objects.get_by_natural_key(user))
        except User.DoesNotExist:
            raise CommandError(f"There is no account “{user}”. Administrators make accounts in the settings.")
        except DomainError as error:
            raise CommandError(error.message)
        self.stdout.write(sign_in_url(token))
