"""What administrators see of kinds: their fields, and what hangs on a field that is added to them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from django.db.models import Q
from django.utils.translation import gettext as _

from access.permissions import visible
from base.errors import NotFound
from catalog import queries
from catalog.documents.fields import FieldDef
from catalog.documents.formats import Format, format_of
from catalog.documents.kinds import RelationRule
from catalog.kinds import KindView, current_kinds
from catalog.models import KindChange, KindField, RelationType
from catalog.query import token
from catalog.services import kind_changes
from portal.models import Page


@dataclass(frozen=True, slots=True)
class FieldOfKind:
    """One field of a kind.

    :ivar added: the definition that adds it; None for what the kind itself describes.
    """

    path: str
    title: str
    description: str
    schema: Mapping[str, Any]
    format: Format
    added: FieldDef | None = None


def kind_called(name: str) -> KindView:
    """A kind by its name in any case.

    :raises NotFound: if there is none.
    """
    kinds = current_kinds()
    if name.lower() not in kinds:
        raise NotFound(_("There is no kind “%(name)s”.") % {"name": name})
    return kinds.by_name(name.lower())


def fields_of(kind: KindView) -> list[FieldOfKind]:
    """The fields of a kind: its own in the order of its schema, then what is added to it."""
    added = {one.name: one for one in kind.fields}
    return [
        FieldOfKind(
            path=f"spec.{name}",
            title=schema.get("title") or name,
            description=schema.get("description") or "",
            schema=schema,
            format=format_at(kind, name, schema),
            added=added.get(name),
        )
        for name, schema in (kind.definition.schema.source.get("properties") or {}).items()
        if isinstance(schema, dict)
    ]


def relation_at(kind: KindView, name: str) -> RelationRule | None:
    """The rule by which a property below `spec` makes a relation, if it makes one."""
    return next((rule for rule in kind.definition.relations if rule.path == ("spec", name)), None)


def format_at(kind: KindView, name: str, schema: Mapping[str, Any]) -> Format:
    """The format of a property below `spec`; what makes a relation is a reference whatever its schema says."""
    rule = relation_at(kind, name)
    if rule is not None and "format" not in schema:
        return format_of({"format": "entities" if rule.many else "entity"})
    return format_of(schema)


@dataclass(frozen=True, slots=True)
class Impact:
    """What hangs on an added field.

    :ivar entities: how many have a value there.
    :ivar pages: names of the pages that name it.
    :ivar fields: definitions of the computed fields that may look at it.
    """

    entities: int
    pages: list[str]
    fields: list[str]


def readers_of(field: FieldDef) -> list[FieldDef]:
    """The computed fields that may look at an added field."""
    kinds = current_kinds()
    return [one for one in kinds.computed if kinds.looks_at(one, field)]


def impact_of(viewer: Any, row: KindField) -> Impact:
    """What the removal of an added field would touch, as far as the viewer may see it. What sources say stays said."""
    path, kinds = row.spec["field"], [kind.lower() for kind in row.spec["kinds"]]
    entities = queries.list_entities(viewer).filter(kind__in=kinds)
    holding = entities.filter(Q(tokens__contains=[token(path)]) | Q(tokens__contains=[token(f"{path}.")]))
    said = re.compile(rb"%s(?![A-Za-z0-9_-])" % re.escape(path).encode())
    pages = [page.name for page in Page.objects.order_by("name") if said.search(orjson.dumps(page.spec))]
    readers = readers_of(FieldDef.of(row.name, row.spec))
    return Impact(holding.count(), pages, [one.definition for one in readers])


def name_for(path: str, kinds: list[str]) -> str:
    """A name for a new field's definition that no other has."""
    plain = path.removeprefix("spec.").lower()
    # The address of that name is the page that adds one.
    taken = {"new", *KindField.objects.values_list("name", flat=True)}
    names = [plain, "-".join([*sorted(kind.lower() for kind in kinds), plain])]
    names += [f"{plain}-{n}" for n in range(2, len(taken) + 3)]
    return next(name for name in names if name not in taken)[:200]


def get_field(viewer: Any, name: str) -> KindField:
    """An added field, by its definition's name.

    :raises NotFound: if there is none.
    """
    found = visible(viewer, KindField.objects.filter(name=name)).first()
    if found is None:
        raise NotFound(_("There is no field “%(name)s”.") % {"name": name})
    return found


def get_relation_type(viewer: Any, name: str) -> RelationType:
    """A type of relation.

    :raises NotFound: if there is none.
    """
    found = visible(viewer, RelationType.objects.filter(name=name)).first()
    if found is None:
        raise NotFound(_("There is no relation type “%(name)s”.") % {"name": name})
    return found


def get_change(viewer: Any, change_id: int) -> KindChange:
    """A change of a kind.

    :raises NotFound: if there is none that the viewer may see.
    """
    found = visible(viewer, KindChange.objects.filter(pk=change_id), kind_changes.VERB).first()
    if found is None:
        raise NotFound(_("There is no such change of a kind."))
    return changes_for(viewer, [found])[0]


def waiting_changes(viewer: Any) -> list[KindChange]:
    """What packs brought and waits, for it would break something."""
    rows = KindChange.objects.filter(state=KindChange.State.CHECKED).exclude(pack="")
    return list(visible(viewer, rows, kind_changes.VERB).order_by("kind"))


def changes_for(viewer: Any, changes: list[KindChange]) -> list[KindChange]:
    """Changes with how far they are; of what they would break those are named that the viewer may see."""
    seen = queries.titles_of(
        viewer, {ref for one in changes for reason in one.report for ref in reason["refs"]}
    )
    for one in changes:
        kind_changes.progress_of(one)
        for reason in one.report:
            reason["refs"] = [ref for ref in reason["refs"] if ref in seen]
    return changes
