"""Packs: folders of YAML that bring kinds, pages, roles. Read, checked, applied in one transaction."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml
from django.conf import settings
from django.db import transaction
from django.utils.text import slugify
from django.utils.translation import gettext as _

from access.definitions import Definition, DefinitionType, document_types
from access.services.audit import Subject, differences, record_audit
from access.services.undo import keep_for_undo
from base.answers import names_state
from base.errors import Conflict, DomainError, FieldError, InvalidInput, NotFound, PreconditionFailed
from base.safe_yaml import parse_documents
from catalog.kinds import forget_kinds
from catalog.query.relations import forget_directions
from catalog.services.merge import diff
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


class Action(StrEnum):
    """What applying a pack does to one definition."""

    CREATE = "create"
    CHANGE = "change"
    CHECK = "check"  # on what is stored; then it changes by itself, or waits where that breaks something
    KEEP = "keep"  # as people edited it
    LEAVE = "leave"
    DELETE = "delete"  # the pack brought it once


@dataclass(frozen=True, slots=True)
class Step:
    """What applying one document does.

    :ivar changes: of what is served, field by field: rows of path, old and new.
    :ivar is_edited: whether people edited what is served now.
    """

    document: PackDocument
    action: Action
    changes: list[dict[str, Any]] = field(default_factory=list)
    is_edited: bool = False


def read_pack(folder: Path) -> list[PackDocument]:
    """All definitions of a pack, checked.

    :raises InvalidInput: naming file, document and place of each fault.
    """
    documents: list[PackDocument] = []
    known: dict[tuple[str, str], PackDocument] = {}
    errors: list[FieldError] = []
    wrong: set[str] = set()
    folder = folder.resolve()  # its name is the pack's, however it is written
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


def plan(documents: list[PackDocument], *, keep_edits: bool = False) -> list[Step]:
    """What applying would do. Writes nothing."""
    types = document_types()
    return [_step(document, types[document.kind], keep_edits=keep_edits) for document in documents]


def _step(document: PackDocument, kind: DefinitionType[Any], *, keep_edits: bool) -> Step:
    row = kind.model._default_manager.filter(name=document.name).first()
    wanted = kind.validate(document.name, document.spec)
    if row is None:
        return Step(document, Action.CREATE, diff({}, {"spec": wanted}))
    if row.spec == wanted:
        return Step(document, Action.LEAVE)
    action = Action.CHECK if kind.has_to_wait(document.name, wanted) else Action.CHANGE
    action = Action.KEEP if keep_edits and row.is_edited else action
    return Step(document, action, diff({"spec": row.spec}, {"spec": wanted}), row.is_edited)


def no_longer_in(documents: list[PackDocument], *, pack: str, keep_edits: bool = False) -> list[Step]:
    """The definitions that a pack brought once and does not hold any more."""
    held = {(document.kind, document.name) for document in documents}
    return [
        Step(
            PackDocument(pack, kind, row.name, None, ""),
            Action.KEEP if keep_edits and row.is_edited else Action.DELETE,
            is_edited=row.is_edited,
        )
        for kind, document_type in reversed(document_types().items())
        for row in document_type.model._default_manager.filter(pack=pack).order_by("name")
        if (kind, row.name) not in held
    ]


def apply_packs(
    folders: Sequence[Path],
    *,
    by: str,
    keep_edits: bool = False,
    prune: bool = False,
    is_undoable: bool = False,
) -> list[Step]:
    """Apply packs wholly or not at all; of two definitions of one name the later pack's counts.

    :param keep_edits: leave what people edited, also of what is taken away; only the pristine copies are renewed.
    :param prune: take away what the packs brought once and do not hold any more.
    :param is_undoable: whether it can be taken back; what each start applies would come again.
    :raises InvalidInput: when something of them is wrong; nothing is applied then.
    """
    types = document_types()
    by_name = {(d.kind, d.name): d for folder in folders for d in read_pack(folder)}
    documents = sorted(by_name.values(), key=lambda document: list(types).index(document.kind))
    steps = plan(documents, keep_edits=keep_edits)
    for folder in folders if prune else ():
        steps += no_longer_in(documents, pack=folder.resolve().name, keep_edits=keep_edits)
    with transaction.atomic():
        kept: list[dict[str, Any]] = []
        transaction.on_commit(forget_definitions)
        for document in documents:
            before = _state_of(document) if is_undoable else {}  # a start asks nothing that it does not need
            change = types[document.kind].apply(
                document.name, document.spec, pack=document.pack, by=by, keep_edits=keep_edits
            )
            if change is not None:
                kept.append(before | {"after": change.after})
        for step in steps:
            if step.action == Action.DELETE:
                kept.append(_state_of(step.document) | {"after": None})
                types[step.document.kind].delete(step.document.name)
        if kept:
            names = [folder.resolve().name for folder in folders]
            told = {"created": Action.CREATE, "changed": Action.CHANGE, "deleted": Action.DELETE}
            event = record_audit(
                "pack.apply",
                Subject("pack", names[-1], ", ".join(names)),
                changes={
                    word: found
                    for word, action in told.items()
                    if (found := [step.document.name for step in steps if step.action == action])
                },
            )
            if is_undoable:
                keep_for_undo(event, state={"definitions": kept})
    return steps


def _state_of(document: PackDocument) -> dict[str, Any]:
    """What is served in a document's place, as its undo needs it."""
    rows = document_types()[document.kind].model._default_manager.filter(name=document.name)
    row: Definition | None = rows.first()
    return {
        "kind": document.kind,
        "name": document.name,
        "before": row.spec if row else None,
        "pack": row.pack if row else "",
        "pristine": row.pristine if row else None,
    }


def apply_pack(folder: Path, *, by: str, **options: bool) -> list[Step]:
    """Apply one pack; see `apply_packs`."""
    return apply_packs([folder], by=by, **options)


# --- out again --------------------------------------------------------------------------------------------


def export_pack(folder: Path, *, pack: str | None = None, everything: bool = False) -> list[Path]:
    """Write definitions as a pack: what people composed or edited, one pack's, or everything. A file each.

    :param pack: the pack whose definitions are written, as they are served now.
    :returns: the files, in their order.
    :raises Conflict: if something is there already.
    :raises NotFound: if there is nothing to write.
    """
    found = [
        (kind, row)
        for kind, document_type in document_types().items()
        for row in document_type.rows()
        if everything or (row.pack == pack if pack is not None else not row.pack or row.is_edited)
    ]
    if not found:
        raise NotFound(
            _("There is no definition of the pack “%(pack)s”.") % {"pack": pack}
            if pack is not None
            else _("Nothing was composed or edited here.")
        )
    _check_empty(folder)
    written = []
    for kind, row in found:
        file = folder / _folder_of(kind) / f"{_NO_FILE_NAME.sub('-', row.name)}.yaml"
        while file in written:  # two names that a file cannot tell apart
            file = file.with_stem(f"{file.stem}-2")
        _write(file, {"apiVersion": FORMAT, "kind": kind, "metadata": {"name": row.name}, "spec": row.spec})
        written.append(file)
    return written


_NO_FILE_NAME = re.compile(r"[^A-Za-z0-9_.-]|^\.")


def _folder_of(kind: str) -> str:
    """`kinds` of KindDefinition, `relation-types` of RelationType."""
    words = re.findall(r"[A-Z][a-z]+", kind.removesuffix("Definition"))
    return "-".join(word.lower() for word in words) + "s"


def _check_empty(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(_("%(folder)s is there already; name a new or an empty folder.") % {"folder": folder})


def _write(file: Path, *documents: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        "---\n".join(
            yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110) for document in documents
        ),
        encoding="utf-8",
    )


def new_pack(folder: Path) -> list[Path]:
    """Write a small pack to begin with: a kind and a view.

    :returns: the files.
    :raises Conflict: if something is there already.
    """
    _check_empty(folder)
    name = slugify(folder.resolve().name)[:40] or "pack"
    kind = f"{name.title().replace('-', '')}Thing"
    lower = kind.lower()

    def document(type_: str, called: str, spec: dict[str, Any]) -> dict[str, Any]:
        return {"apiVersion": FORMAT, "kind": type_, "metadata": {"name": called}, "spec": spec}

    owner = {
        "title": "Owner",
        "description": "The team that looks after it.",
        "type": "string",
        "minLength": 1,
    }
    files = {
        f"kinds/{lower}.yaml": document(
            "KindDefinition",
            lower,
            {
                "apiVersions": [f"{name}.example/v1"],
                "kind": kind,
                "plural": f"{kind}s",
                "icon": "cube",
                "colour": "c3",
                "description": "Say here what it is.",
                "schema": {
                    "type": "object",
                    "properties": {
                        "owner": owner,
                        "tier": {"title": "Tier", "format": "enum", "enum": ["gold", "silver"]},
                    },
                },
                "relations": [
                    {
                        "field": "spec.owner",
                        "type": "ownedBy",
                        "inverse": "ownerOf",
                        "targetKinds": ["Group", "User"],
                        "defaultKind": "Group",
                    }
                ],
                "columns": [{"field": "spec.tier", "label": "Tier"}],
            },
        ),
        f"views/{name}-gold.yaml": document(
            "View", f"{name}-gold", {"title": f"Gold {kind}s", "query": f"kind:{lower} spec.tier:gold"}
        ),
    }
    for file, content in files.items():
        _write(folder / file, content)
    return [folder / file for file in files]


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
        transaction.on_commit(forget_definitions)
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
        transaction.on_commit(forget_definitions)
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
        transaction.on_commit(forget_definitions)
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


def forget_definitions() -> None:
    """Serve what was applied at once in this process; others notice within seconds."""
    forget_kinds()
    forget_directions()
    forget_pages()


def installed_packs() -> list[Path]:
    """The folders that a start applies, in order: the core first."""
    return [settings.BASE_DIR / "packs" / "core", *settings.PORTICO_PACKS]
