"""Packs from a shell: what one would change, have it, write one out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from access.actors import acting_as, system
from base.errors import DomainError
from portal.packs import (
    Action,
    Step,
    apply_pack,
    export_pack,
    new_pack,
    no_longer_in,
    plan,
    read_pack,
)

_SIGNS = {
    Action.CREATE: "+",
    Action.CHANGE: "~",
    Action.CHECK: "?",
    Action.KEEP: "=",
    Action.DELETE: "-",
}
_LONGEST = 200


class Command(BaseCommand):
    help = (
        "A pack is a folder of YAML. `diff` says what applying it changes, field by field, and writes nothing; `apply` "
        "applies it wholly or not at all; `validate` checks it; `export` writes what was composed or edited here; "
        "`new` begins one."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        ways = parser.add_subparsers(dest="way", required=True, metavar="diff|apply|export|validate|new")
        for way in ("diff", "apply"):
            one = ways.add_parser(way)
            one.add_argument("path", metavar="PATH", type=Path)
            one.add_argument("--keep-edits", action="store_true", help="Leave what people edited as it is.")
            one.add_argument(
                "--prune", action="store_true", help="Delete what the pack brought once and holds no more."
            )
        for way in ("validate", "new"):
            ways.add_parser(way).add_argument("path", metavar="PATH", type=Path)
        export = ways.add_parser("export")
        export.add_argument("path", metavar="PATH", type=Path, help="A new or an empty folder.")
        what = export.add_mutually_exclusive_group()
        what.add_argument("--pack", help="All of this pack, as it is served now.")
        what.add_argument("--all", action="store_true", help="Every definition.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with acting_as(system("pack")):
                getattr(self, f"_{options['way']}")(options["path"], options)
        except DomainError as error:
            lines = [error.message, *(f"  {item.path}: {item.message}" for item in error.errors or [])]
            raise CommandError("\n".join(lines)) from error

    def _validate(self, path: Path, _options: Any) -> None:
        self._count(len(read_pack(path)), _("Nothing is wrong with it."))

    def _diff(self, path: Path, options: Any) -> None:
        documents = read_pack(path)
        kept = {"keep_edits": options["keep_edits"]}
        steps = plan(documents, **kept)
        gone = no_longer_in(documents, pack=path.resolve().name, **kept)
        self._say(steps + gone if options["prune"] else steps)
        gone = [step for step in gone if step.action == Action.DELETE]
        if gone and not options["prune"]:
            self.stdout.write(
                ngettext(
                    "%(n)d definition that the pack brought once stays; --prune deletes it: %(names)s.",
                    "%(n)d definitions that the pack brought once stay; --prune deletes them: %(names)s.",
                    len(gone),
                )
                % {"n": len(gone), "names": ", ".join(step.document.name for step in gone)}
            )

    def _apply(self, path: Path, options: Any) -> None:
        steps = apply_pack(
            path,
            by=_("Command line"),
            keep_edits=options["keep_edits"],
            prune=options["prune"],
            is_undoable=True,
        )
        self._say(steps)
        if any(step.action == Action.CHECK for step in steps):
            self.stdout.write(
                _(
                    "What is marked with ? is checked on all stored entities by a worker, and applied by itself if "
                    "nothing breaks; see Settings, Kinds."
                )
            )

    def _export(self, path: Path, options: Any) -> None:
        files = export_pack(path, pack=options["pack"], everything=options["all"])
        for file in files:
            self.stdout.write(str(file))
        self._count(len(files), _("Written."))

    def _new(self, path: Path, _options: Any) -> None:
        for file in new_pack(path):
            self.stdout.write(str(file))
        self.stdout.write(
            _("Change them, then: bin/manage pack diff %(path)s, and pack apply.") % {"path": path}
        )

    def _say(self, steps: list[Step]) -> None:
        for step in steps:
            if step.action == Action.LEAVE:
                continue
            line = f"{_SIGNS[step.action]} {step.document.kind} {step.document.name}: {step.action}"
            if step.is_edited:
                line += f" ({_('edited here')})"
            self.stdout.write(line)
            for row in step.changes if step.action in {Action.CHANGE, Action.CHECK, Action.KEEP} else ():
                self.stdout.write(f"    {row['path']}: {_side(row, 'old')} > {_side(row, 'new')}")
        counts = {
            action: count for action in Action if (count := sum(step.action == action for step in steps))
        }
        self._count(len(steps), ", ".join(f"{count} {action}" for action, count in counts.items()) + ".")

    def _count(self, count: int, more: str) -> None:
        said = ngettext("%(n)d definition.", "%(n)d definitions.", count) % {"n": count}
        self.stdout.write(f"{said} {more}")


def _side(row: dict[str, Any], name: str) -> str:
    if name not in row:
        return "-"
    text = orjson.dumps(row[name]).decode()
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
