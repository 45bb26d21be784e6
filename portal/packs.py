"""Packs: folders of YAML that bring kinds, pages, roles. Read, checked, applied in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext as _

from access.definitions import Definition, document_types
from access.services.audit import Subject, differences, record_audit
from base.answers import names_state
from base.errors import DomainError, FieldError, InvalidInput, NotFound, PreconditionFailed
from base.safe_yaml import parse_documents
from catalog.kinds import forget_kinds
from catalog.query.relations import forget_directions
from portal.pages import forget_pages

FORMAT = "portico/v1"


@dataclass(frozen=True, slots=True)
class PackDocument:
    """One definition of a pack."""

    pack: str
    kind: str
    name: str
    spec: Any
    place: str


@dataclass(frozen=True, slots=True)
class Step:
    """What applying one document does: create, change or leave."""

    document: PackDocument
    action: str


def read_pack(folder: Path) -> list[PackDocument]:
    """All definitions of a pack, checked.

    :raises InvalidInput: naming file, document and place of each fault.
    """
    documents: list[PackDocument] = []
    known: dict[tuple[str, str], PackDocument] = {}
    errors: list[FieldError] = []
    wrong: set[str] = set()
    if not folder.is_dir():
        raise InvalidInput(_("The pack %(folder)s is no folder.") % {"folder": folder})
    types = document_types()
    for path in sorted(folder.rglob("*.y*ml")):
        name = str(path.relative_to(folder))
        for parsed in parse_documents(path.read_bytes(), name=name):
            place = f"{name}, document {parsed.number}"
            wrong.add(place)
            if parsed.error is not None:
                errors.append(FieldError(path=place, message=str(parsed.error)))
                continue
            data = parsed.data
            fault = _envelope_fault(data, types)
            if fault:
                errors.append(FieldError(path=place, message=fault))
                continue
            document = PackDocument(
                folder.name, data["kind"], data["metadata"]["name"], data.get("spec"), place
            )
            earlier = known.setdefault((document.kind, document.name), document)
            if earlier is not document:
                sentence = _("%(kind)s “%(name)s” stands in %(place)s already.")
                facts = {"kind": document.kind, "name": document.name, "place": earlier.place}
                errors.append(FieldError(path=place, message=sentence % facts))
                continue
            try:
                types[document.kind].validate(document.name, document.spec)
            except DomainError as error:
                details = error.errors or [FieldError(path="", message=error.message)]
                errors += [FieldError(path=f"{place}{item.path}", message=item.message) for item in details]
                continue
            wrong.discard(place)
            documents.append(document)
    if errors:
        raise InvalidInput(
            _("The pack %(pack)s was not applied: %(count)d of its documents are wrong.")
            % {"pack": folder.name, "count": len(wrong)},
            errors=errors,
        )
    order = list(types)
    return sorted(documents, key=lambda document: order.index(document.kind))


def _envelope_fault(data: Any, types: dict[str, Any]) -> str:
    if not isinstance(data, dict):
        return _("Expected an object with apiVersion, kind, metadata and spec.")
    if data.get("apiVersion") != FORMAT:
        return _("apiVersion must be %(expected)s, but is %(got)s.") % {
            "expected": FORMAT,
            "got": data.get("apiVersion"),
        }
    if data.get("kind") not in types:
        return _("kind must be one of %(kinds)s, but is %(got)s.") % {
            "kinds": ", ".join(types),
            "got": data.get("kind"),
        }
    metadata = data.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        return _("metadata.name is missing.")
    return ""


def plan(documents: list[PackDocument]) -> list[Step]:
    """What applying would do. Writes nothing."""
    types = document_types()
    steps = []
    for document in documents:
        kind = types[document.kind]
        now = kind.current(document.name)
        wanted = kind.validate(document.name, document.spec)
        action = "create" if now is None else "leave" if now == wanted else "change"
        steps.append(Step(document, action))
    return steps


def apply_packs(folders: Sequence[Path], *, by: str, keep_edits: bool = False) -> list[Step]:
    """Apply packs wholly or not at all; of two definitions of one name the later pack's counts.

    :param keep_edits: leave what people composed on top; only the pristine copies are renewed.
    :raises InvalidInput: when something of them is wrong; nothing is applied then.
    """
    types = document_types()
    by_name = {(d.kind, d.name): d for folder in folders for d in read_pack(folder)}
    documents = sorted(by_name.values(), key=lambda document: list(types).index(document.kind))
    steps = plan(documents)
    with transaction.atomic():
        changed = False
        transaction.on_commit(_forget_definitions)
        for document in documents:
            change = types[document.kind].apply(
                document.name, document.spec, pack=document.pack, by=by, keep_edits=keep_edits
            )
            changed = changed or change is not None
        if changed:
            record_audit(
                "pack.apply",
                Subject("pack", folders[-1].name, ", ".join(folder.name for folder in folders)),
                changes={
                    "created": [s.document.name for s in steps if s.action == "create"],
                    "changed": [s.document.name for s in steps if s.action == "change"],
                },
            )
    return steps


def apply_pack(folder: Path, *, by: str, keep_edits: bool = False) -> list[Step]:
    """Apply one pack; see `apply_packs`."""
    return apply_packs([folder], by=by, keep_edits=keep_edits)


def restore_definition(*, kind: str, name: str, by: str) -> bool:
    """Serve a definition as its pack shipped it again.

    :returns: False when it was so already.
    :raises NotFound: if there is no such definition, or no pack shipped it.
    """
    document_type = document_types().get(kind)
    row = document_type.model.objects.filter(name=name).first() if document_type else None
    if document_type is None or row is None or row.pristine is None:
        raise NotFound(
            _("There is no %(kind)s “%(name)s” that a pack shipped.") % {"kind": kind, "name": name}
        )
    with transaction.atomic():
        transaction.on_commit(_forget_definitions)
        change = document_type.edit(name, row.pristine, by=by)
        if change is not None:
            record_audit(
                "pack.restore",
                Subject(kind.lower(), name, f"{kind} {name}"),
                changes=differences({"spec": change.before}, {"spec": change.after}),
            )
    return change is not None


def edit_definition(*, kind: str, name: str, spec: Any, by: str, expected: str = "") -> Definition:
    """Serve a definition that was composed by a person; what its pack shipped is kept.

    :param expected: the etag that the person saw; empty for any.
    :raises InvalidInput: if the spec is wrong, with each place.
    :raises StaleDefinition: if it has changed since.
    """
    document_type = document_types()[kind]
    rows = document_type.model.objects.select_for_update().filter(name=name)
    with transaction.atomic():
        transaction.on_commit(_forget_definitions)
        if expected:
            _check_expected(rows.first(), kind, name, expected)
        change = document_type.edit(name, spec, by=by)
        if change is not None:
            record_audit(
                f"{kind.lower()}.write",
                Subject(kind.lower(), name, f"{kind} {name}"),
                changes=differences({"spec": change.before}, {"spec": change.after}),
            )
        row: Definition = rows.get()
    return row


def remove_definition(*, kind: str, name: str, by: str, expected: str = "") -> None:
    """Take away what people composed: what a pack ships is served as it is shipped, anything else goes.

    :raises NotFound: if there is no such definition.
    :raises StaleDefinition: if it has changed since.
    """
    document_type = document_types()[kind]
    with transaction.atomic():
        transaction.on_commit(_forget_definitions)
        row = document_type.model.objects.select_for_update().filter(name=name).first()
        if row is None:
            raise NotFound(_("There is no %(kind)s “%(name)s”.") % {"kind": kind, "name": name})
        if expected:
            _check_expected(row, kind, name, expected)
        if row.pristine is not None and row.pack in {folder.name for folder in installed_packs()}:
            restore_definition(kind=kind, name=name, by=by)
        elif (change := document_type.delete(name)) is not None:
            record_audit(
                f"{kind.lower()}.delete",
                Subject(kind.lower(), name, f"{kind} {name}"),
                changes=differences({"spec": change.before}, {"spec": None}),
            )


class StaleDefinition(PreconditionFailed):
    """Somebody changed the definition since it was read."""

    code = "stale-definition"


def etag_of(row: Definition) -> str:
    """What names the present state of a definition: for `If-Match`. What follows a `+` in it does not count."""
    return f'"{row.revision}-{row.updated_at.timestamp():.6f}"'


def _check_expected(row: Definition | None, kind: str, name: str, expected: str) -> None:
    if row is None or not names_state(expected, etag_of(row)):
        raise StaleDefinition(
            _("%(kind)s “%(name)s” was changed since you read it. Read it again, then repeat your change.")
            % {"kind": kind, "name": name},
            current=etag_of(row) if row else None,
        )


def _forget_definitions() -> None:
    """Serve what was applied at once in this process; others notice within seconds."""
    forget_kinds()
    forget_directions()
    forget_pages()


def installed_packs() -> list[Path]:
    """The folders that a start applies, in order: the core first."""
    return [settings.BASE_DIR / "packs" / "core", *settings.PORTICO_PACKS]
