"""Make an API token."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from access.actors import acting_as, system
from access.models import User
from access.services import create_token, lifetime
from base.errors import DomainError


class Command(BaseCommand):
    help = "Make an API token that acts for a person, and print it alone on standard output."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--user", required=True, metavar="NAME", help="user name of the account")
        parser.add_argument("--role", metavar="ROLE", help="the most it may do; default: all that NAME may")
        parser.add_argument(
            "--expires-in", default="90d", metavar="TIME", help="such as 12h, 90d, 8w or never; default: 90d"
        )
        parser.add_argument("--name", default="create_token", help="what the token is for")

    def handle(
        self, *args: Any, user: str, role: str | None, expires_in: str, name: str, **options: Any
    ) -> None:
        now = timezone.now()
        try:
            lives = lifetime(expires_in)
            with acting_as(system("create_token")):
                new = create_token(
                    user=User.objects.get_by_natural_key(user),
                    name=name,
                    role=role,
                    expires_at=now + lives if lives else None,
                    now=now,
                )
        except User.DoesNotExist:
            raise CommandError(f"There is no account “{user}”. Administrators make accounts in the settings.")
        except DomainError as error:
            raise CommandError(error.message)
        self.stdout.write(new.text)
