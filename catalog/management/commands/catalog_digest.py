"""Digest the catalog."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import connection, transaction

from catalog.services.digest import catalog_digest, catalog_facts


class Command(BaseCommand):
    help = (
        "Print digests of what the catalog says: refs, merged documents, relations, ties, the last states of "
        "activity, and of all together. Two catalogs that say the same have the same digest; uids, times of "
        "their own and the history do not count."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        facts = "Print what is digested instead, a fact a line, to be compared with diff."
        parser.add_argument("--facts", action="store_true", help=facts)

    def handle(self, *args: Any, **options: Any) -> None:
        is_outermost = not connection.in_atomic_block
        with transaction.atomic():
            if is_outermost:  # one moment of the catalog, though workers go on writing
                with connection.cursor() as cursor:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            if options["facts"]:
                for fact in catalog_facts():
                    self.stdout.write(fact)
                return
            for section in catalog_digest():
                self.stdout.write(f"{section.name:<10} {section.lines:>9} {section.digest}")
