"""The form of a whole entity, made from its kind's schema; and what somebody changed in it, as overrides.

A form does not say what a field was when it was opened, but `seen` has a digest of each: so what somebody left as it
was is not taken for a change of theirs, whoever changed it meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from base.errors import FieldError, InvalidInput
from base.paths import value_at
from catalog.kinds import KindView
from catalog.models import ClaimMode, Rank, SourceType
from catalog.queries import FieldSource
from catalog.services.edit import FIXED
from portal.forms import Path, Schema, SchemaForm

_METADATA: dict[str, Schema] = {
    "name": {
        "type": "string",
        "title": gettext_noop("Name"),
        "description": gettext_noop(
            "As files, links and other entities call it: letters, digits, and - _ . between them. It stays."
        ),
    },
    "namespace": {
        "type": "string",
        "title": gettext_noop("Namespace"),
        "description": gettext_noop("Left empty, default."),
        "seldom": True,
    },
    "title": {
        "type": "string",
        "title": gettext_noop("Title"),
        "description": gettext_noop("As people read it in lists and pages; left empty, the name."),
    },
    "description": {
        "type": "string",
        "format": "textarea",
        "title": gettext_noop("Description"),
        "description": gettext_noop("What it is and does, in a sentence or two."),
    },
    "tags": {
        "type": "array",
        "items": {"type": "string"},
        "title": gettext_noop("Tags"),
        "description": gettext_noop("Small letters, digits, : + #, and - between them."),
    },
    "links": {
        "type": "array",
        "title": gettext_noop("Links"),
        "description": gettext_noop("Pages elsewhere that belong to it."),
        "items": {
            "type": "object",
            "properties": {
                "url": {"type": "string", "title": gettext_noop("Address")},
                "title": {"type": "string", "title": gettext_noop("Title")},
                "icon": {"type": "string", "title": gettext_noop("Icon")},
                "type": {"type": "string", "title": gettext_noop("Type")},
            },
        },
    },
    "labels": {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "title": gettext_noop("Labels"),
        "description": gettext_noop("Short words to find it by, such as tier: one."),
        "seldom": True,
    },
    "annotations": {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "title": gettext_noop("Annotations"),
        "description": gettext_noop("What tools know it by, such as github.com/project-slug: acme/pay."),
        "seldom": True,
    },
}
_IDENTITY = ("name", "namespace")


def schema_of(kind: KindView, *, is_new: bool) -> Schema:
    """The schema of a whole document of a kind, without what a person does not say, such as what is worked out."""
    definition = kind.definition
    spec = dict(orjson.loads(orjson.dumps(definition.schema.source)))
    said = (spec.get("properties") or {}).items()
    known = {name: one for name, one in said if "." not in name and name not in kind.computed_names}
    # What is needed comes first, then what lists show: a stored schema keeps no order of its own.
    first = [*spec.get("required", ()), *(c.path[1] for c in definition.columns if c.path[0] == "spec")]
    properties = {name: known[name] for name in dict.fromkeys([*first, *known]) if name in known}
    for rule in definition.relations:
        if len(rule.path) == 2 and isinstance(one := properties.get(rule.path[1]), dict):
            kinds = ",".join(target.lower() for target in rule.target_kinds)
            one.setdefault("suggest", f"/search/refs?kinds={kinds}" if kinds else "/search/refs")
    metadata = {n: one for n, one in _METADATA.items() if is_new or n not in _IDENTITY}
    return {
        "$defs": {**spec.get("definitions", {}), **spec.get("$defs", {})},
        "type": "object",
        "required": ["metadata", "spec"],
        "properties": {
            "metadata": {
                "type": "object",
                "title": gettext_noop("What it is"),
                "required": ["name"] if is_new else [],
                "properties": metadata,
            },
            "spec": {**spec, "title": definition.title, "description": "", "properties": properties},
        },
    }


def form_of(
    kind: KindView,
    data: QueryDict | None = None,
    *,
    initial: Mapping[str, Any] | None = None,
    is_new: bool = False,
) -> SchemaForm:
    """The form of an entity of a kind."""
    return SchemaForm(schema_of(kind, is_new=is_new), data, initial, is_whole=is_new)


def document_of(kind: KindView, form: SchemaForm) -> dict[str, Any]:
    """The document that was filled in."""
    return {
        "apiVersion": kind.api_version,
        "kind": kind.title_case,
        "metadata": form.values.get("metadata", {}),
        "spec": form.values.get("spec", {}),
    }


def add_errors(form: SchemaForm, error: Any) -> None:
    """Put what is wrong with a document to its fields: of one in a list, to the list."""
    errors = [
        FieldError(one.path.partition("[")[0], one.message, one.expected, one.got) for one in error.errors
    ]
    form.add_errors(type(error)(errors) if not errors else InvalidInput(error.message, errors=errors))


def digests_of(form: SchemaForm) -> dict[str, str]:
    """What each field holds, in a few letters."""
    return {".".join(path): _digest(form.value_at(path)) for path, _type, _required in form.paths}


def _digest(value: Any) -> str:
    text = orjson.dumps(_plainly(value), option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(text, digest_size=6).hexdigest()


def _plainly(value: Any) -> Any:
    """A value as a form holds it: nothing, however it is said, is nothing."""
    if isinstance(value, str):
        value = "\n".join(value.splitlines()).strip()
    return None if value in (None, "", [], {}) or value is False else value


@dataclass
class Changes:
    """What somebody changed of an entity: fields that they override, and overrides that go.

    :ivar declared: lists of what people declared when they made it by hand.
    :ivar touched: paths of the fields that they changed.
    """

    values: dict[str, Any] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    declared: dict[str, Any] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)


def changes_of(
    form: SchemaForm,
    *,
    document: Mapping[str, Any],
    seen: Mapping[str, str],
    sources: Mapping[str, FieldSource],
    unions: frozenset[Path],
    person: str,
) -> Changes:
    """What somebody changed in a form.

    :param document: the entity as it is now.
    :param seen: the digests of the form that they were shown.
    :param sources: who says what of each field.
    :param person: key of their source.
    :raises InvalidInput: if they took away of a list what others put there.
    """
    found, errors = Changes(), []
    for path, type_, is_required in form.paths:
        name = ".".join(path)
        typed = form.value_at(path)
        if name in FIXED or seen.get(name) == _digest(typed):
            continue
        found.touched.add(name)
        if typed is None and is_required:
            errors.append(FieldError(name, _("Enter a value.")))
            continue
        present = value_at(document, path)
        if _digest(present) == _digest(typed):
            continue
        if path in unions:
            source = sources.get(name)
            own, others, by_hand = _shares(source, person)
            if by_hand and (left := [one for one in by_hand if one in (typed or [])]) != by_hand:
                found.declared[name] = left or None
                others = [one for one in others if one not in by_hand or one in left]
            if missing := [one for one in others if one not in (typed or [])]:
                sentence = _("Other sources list %(what)s, which cannot be taken away here.")
                errors.append(FieldError(name, sentence % {"what": ", ".join(map(_word, missing))}))
                continue
            mine = [one for one in typed or [] if one not in others]
            if mine or (own and source and source.is_overridden_by_another(person)):
                found.values[name] = mine  # to drop it would take the others' words, too
            elif own:
                found.dropped.append(name)
            continue
        if type_ == "map":
            _change_map(found, name, path, typed or {}, present if isinstance(present, dict) else {}, sources)
            continue
        _change(found, name, typed, sources, person)
    if errors:
        raise InvalidInput(_("Nothing is saved yet: %s") % errors[0], errors=errors)
    return found


def _change(found: Changes, name: str, typed: Any, sources: Mapping[str, FieldSource], person: str) -> None:
    source = sources.get(name)
    voices = claims_at(source)
    people = [claim for claim in voices if claim.rank == Rank.PERSON]
    if source and source.is_overridden_by_another(person):
        found.dropped.append(name)  # of two people's words the older counts, so theirs goes
    if typed is None and people and len(people) == len(voices):
        found.dropped.append(name)
        found.dropped = list(dict.fromkeys(found.dropped))
    else:
        found.values[name] = typed


def _change_map(
    found: Changes,
    name: str,
    path: Path,
    typed: dict[str, Any],
    present: dict[str, Any],
    sources: Mapping[str, FieldSource],
) -> None:
    """Key by key, for so sources say it too."""
    flat = path[0] == "metadata"
    for key in dict.fromkeys([*present, *typed]):
        if present.get(key) == typed.get(key):
            continue
        if "." in key and not flat:
            found.values[name] = {k: typed.get(k) for k in dict.fromkeys([*present, *typed])}
            return
        _change(found, f"{name}.{key}", typed.get(key), sources, "")


def claims_at(source: FieldSource | None) -> list[Any]:
    """The claims that say something of a field, the one that counts first."""
    return [claim for claim, _value in source.said] if source else []


def _shares(source: FieldSource | None, person: str) -> tuple[list[Any], list[Any], list[Any]]:
    """What of a list that sources add to is somebody's own word, what is others', and what of that people declared.

    The last is what stands nowhere else, so that they can take it away here.
    """
    own: list[Any] = []
    by_hand: list[Any] = []
    elsewhere: list[Any] = []
    others: list[Any] = []
    for claim, value in source.said if source else ():
        target = own if claim.rank == Rank.PERSON and claim.source.key == person else others
        target += value if isinstance(value, list) else []
        if target is others:
            is_by_hand = claim.mode == ClaimMode.ASSERT and claim.source.type == SourceType.PERSON
            (by_hand if is_by_hand else elsewhere).extend(value if isinstance(value, list) else [])
    return [one for one in own if one not in others], others, [one for one in by_hand if one not in elsewhere]


def _word(value: Any) -> str:
    return str(value.get("url") or value.get("title") or value) if isinstance(value, dict) else str(value)
