"""Bring the data of this installation up to date: what every start does first."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.utils.translation import gettext as _

from access.actors import acting_as, system
from access.links import sign_in_url
from access.models import User
from access.services import ensure_first_account, make_sign_in_link
from base.errors import DomainError
from catalog.services.feed import settle_feed
from integrations.models import Connection
from integrations.services.connections import create_connection
from integrations.tasks import start_sync
from portal.backups import before_migrating
from portal.packs import Action, apply_packs, installed_packs
from portal.sample import load_sample
from portal.staticfiles import collect


class Command(BaseCommand):
    help = "Migrate, apply the packs, make the first account and connect the portal's own checkout."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--sample", action="store_true", help="Load the sample company.")
        parser.add_argument(
            "--welcome", action="store_true", help="Print a sign-in link if the first account was never used."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        collect()
        try:
            before_migrating(self.stdout.write)
        except DomainError as error:
            raise CommandError(error.message) from error
        call_command("migrate", interactive=False, verbosity=0)
        settle_feed()
        self.stdout.write(_("The database is up to date."))
        with acting_as(system(_("Start"))):
            try:
                steps = apply_packs(installed_packs(), by=_("Start"), keep_edits=True)
                changed = sum(step.action in {Action.CREATE, Action.CHANGE} for step in steps)
                self.stdout.write(
                    _("Packs: %(count)d definitions, %(changed)d changed.")
                    % {"count": len(steps), "changed": changed}
                )
                for step in steps:
                    if step.action == Action.CHECK:
                        self.stdout.write(
                            _("The kind %(name)s of the pack %(pack)s is first checked on its entities.")
                            % {"name": step.document.name, "pack": step.document.pack}
                        )
                token = ensure_first_account()
                if options["welcome"] and not token:
                    first = User.objects.filter(username="admin", is_active=True).first()
                    token = make_sign_in_link(first) if first and not first.has_usable_password() else None
                self._connect_own_checkout()
                if options["sample"]:
                    load_sample()
                    self.stdout.write(_("The sample company is loaded."))
            except DomainError as error:
                lines = [error.message, *(f"  {item.path}: {item.message}" for item in error.errors or [])]
                raise CommandError("\n".join(lines)) from error
        if token and options["welcome"]:
            link = {"url": sign_in_url(token)}
            self.stdout.write(_("Sign in once, within 24 hours, as the administrator: %(url)s") % link)

    def _connect_own_checkout(self) -> None:
        """The first page shows something true: the portal's own repository, where there is one."""
        if not (settings.BASE_DIR / ".git").exists() or Connection.objects.exists():
            return
        with transaction.atomic():
            connection = create_connection(
                slug="portico",
                label="Portico",
                connector="git",
                config={"repositories": [str(settings.BASE_DIR)]},
                interval=600,
            )
            start_sync(connection=connection, by=_("Start"))
