"""The kinds and relation types in force: the stored definitions, compiled once and kept while they stand."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson
from django.db import connection
from django.db.models import Exists, OuterRef
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from access.definitions import (
    D,
    DefinitionChange,
    DefinitionType,
    definitions_stamp,
    forget_stamps,
    register_document_type,
)
from base.errors import Conflict, FieldError, InvalidInput
from catalog.documents.computed import Mirror
from catalog.documents.fields import LOOKS, FieldDef, check_field_definition, with_fields
from catalog.documents.formats import format_of
from catalog.documents.kinds import KindDef, KindSet, check_kind_definition
from catalog.documents.relation_checks import (
    ENFORCE,
    KEYS,
    OFF,
    RELATION_TYPE,
    RelationCheck,
    RelationFault,
)
from catalog.models import Entity, Kind, KindField, Problem, Relation, RelationType
from catalog.services.merge import COMMON_UNIONS, Path

# (kind that is the key, kind that speaks about it) -> (source kind, type). The stored direction is the one that
# reads as a sentence: component hasSource repository, repository builtBy pipeline.
TIE_TYPES: dict[tuple[str, str], tuple[str, str]] = {
    ("repository", "component"): ("component", "hasSource"),
    ("repository", "api"): ("api", "hasSource"),
    ("repository", "resource"): ("resource", "hasSource"),
    ("repository", "template"): ("template", "hasSource"),
    ("repository", "system"): ("system", "hasSource"),
    ("repository", "pipeline"): ("repository", "builtBy"),
    ("repository", "artifact"): ("repository", "packagedAs"),
    ("repository", "workload"): ("repository", "runsAs"),
    ("artifact", "component"): ("component", "packagedAs"),
    ("cluster", "environment"): ("environment", "runsOn"),
    ("environment", "workload"): ("workload", "runsOn"),
    ("artifact", "workload"): ("artifact", "runsAs"),
    ("pipeline", "component"): ("component", "builtBy"),
    ("pipeline", "artifact"): ("pipeline", "makes"),
}


def tie_between(one: str, other: str) -> tuple[str, str] | None:
    """From which of two kinds a tie between them goes, and its type; None if nothing ties them."""
    return TIE_TYPES.get((one, other)) or TIE_TYPES.get((other, one))


def tied_to(kind: str) -> list[str]:
    """The kinds to which entities of a kind can be tied."""
    return sorted({other for pair in TIE_TYPES if kind in pair for other in pair} - {kind})


class KindView:
    """One kind, as ingest and pages use it.

    :ivar api_version: what a document of this kind is served with when no source says.
    :ivar title_case: the kind as documents write it.
    :ivar fields: what is added to it, in order.
    :ivar computed: those of them that are worked out.
    """

    def __init__(self, definition: KindDef, fields: Sequence[FieldDef] = ()) -> None:
        self.definition = definition
        self.fields = tuple(fields)
        self._defaults = {one.name: one.default for one in fields if one.default is not None}
        self.computed = tuple(one for one in fields if one.computed is not None)
        self.name = definition.name.lower()
        self.title_case = definition.name
        self.api_version = definition.api_versions[0]
        self.unions: frozenset[Path] = COMMON_UNIONS | definition.unions

    def relations_of(self, document: dict[str, Any], namespace: str) -> list[tuple[str, str]]:
        """The relations that the document declares: (type, target ref), in the document's order."""
        return self.definition.relations_of(document, namespace)

    def completed(self, document: dict[str, Any], worked_out: Mapping[str, Any]) -> dict[str, Any]:
        """A merged document with what its kind says where no source says anything.

        :param worked_out: the values of its computed fields, by name; nobody else's word counts there.
        """
        if not self.fields:
            return document
        said = document.get("spec") or {}
        if self.computed:
            said = {key: value for key, value in said.items() if key not in self.computed_names}
            worked_out = {key: value for key, value in worked_out.items() if key in self.computed_names}
        return {**document, "spec": {**self._defaults, **said, **worked_out}}

    def is_computed(self, path: str) -> bool:
        """Whether a field is worked out, or is a part of one that is."""
        head, _dot, rest = path.partition(".")
        return head == "spec" and rest.partition(".")[0] in self.computed_names

    @cached_property
    def computed_names(self) -> frozenset[str]:
        return frozenset(one.name for one in self.computed)

    def gaps(self, document: dict[str, Any]) -> list[FieldError]:
        """What the merged document lacks of its kind's schema."""
        return [] if self.definition.is_valid(document) else self.definition.errors_of(document)


class Kinds:
    """All kinds with what is added to them, and relation types."""

    def __init__(
        self,
        kinds: list[tuple[str, dict[str, Any]]],
        relations: list[tuple[str, dict[str, Any]]],
        fields: Iterable[tuple[str, dict[str, Any]]] = (),
    ) -> None:
        fields = list(fields)
        # The same digest means that the same documents are accepted.
        self.digest = hashlib.blake2b(orjson.dumps([kinds, fields], default=str), digest_size=16).digest()
        added: dict[str, list[FieldDef]] = defaultdict(list)
        for one in sorted(_usable(fields), key=lambda one: (one.order, one.definition)):
            for kind in one.kinds:
                added[kind].append(one)
        self.set = KindSet(
            (name, with_fields(spec, added[str(spec.get("kind")).lower()])) for name, spec in kinds
        )
        self._views: dict[str, KindView] = {}
        for definition in self.set:
            kind = definition.name.lower()
            # What the kind itself describes is none of them.
            own = [one for one in added[kind] if definition.property_at(("spec", one.name)) == one.schema]
            self._views.setdefault(kind, KindView(definition, own))
        self.inverses: dict[str, str] = {}
        self._labels: dict[str, str] = {}
        self.impacts: dict[str, str] = {}
        self.checks: dict[str, RelationCheck] = {}
        self._hidden: dict[tuple[str, str], frozenset[str]] = {}
        self.tie_types = {rule[1] for rule in TIE_TYPES.values()}
        for name, spec in relations:
            type_, inverse = spec.get("type") or name, spec["inverse"]
            self.inverses[type_], self.inverses[inverse] = inverse, type_
            self._labels[type_] = spec.get("label") or type_
            self._labels[inverse] = spec.get("inverseLabel") or inverse
            if spec.get("check", OFF) != OFF:
                self.checks[type_] = RelationCheck.of(type_, spec)
            if impact := spec.get("impact"):
                self.impacts[type_] = impact
        for view in self:
            for rule in view.definition.relations:
                self.inverses.setdefault(rule.type, rule.inverse)
                self.inverses.setdefault(rule.inverse, rule.type)

    def by_name(self, name: str) -> KindView:
        """A kind by its lower-case name.

        :raises KeyError: if it is not defined.
        """
        return self._views[name]

    def unions_of(self, name: str) -> frozenset[Path]:
        """The lists of a kind, defined or not, to which all sources add."""
        return self._views[name].unions if name in self._views else COMMON_UNIONS

    def relation_faults(
        self, kind: KindView, document: dict[str, Any], namespace: str
    ) -> list[RelationFault]:
        """The relations that a document declares and that their types do not allow, where those are checked."""
        faults: list[RelationFault] = []
        many: dict[tuple[str, bool], dict[str, str]] = defaultdict(dict)
        for path, type_, ref, wanted in (
            kind.definition.references_of(document, namespace) if self.checks else ()
        ):
            check = self.checks.get(type_) or self.checks.get(self.inverse(type_))
            if check is None:
                continue
            is_turned = type_ != check.type
            many[check.type, is_turned].setdefault(ref, path)
            other = ref.partition(":")[0]
            ends = ((check.source_kinds, other), (check.target_kinds, kind.name))
            if not is_turned:
                own = frozenset(one.lower() for one in wanted)
                ends = ((check.source_kinds, kind.name), (check.target_kinds or own, other))
            for allowed, found in ends:
                if allowed and found not in allowed:
                    message = _("%(type)s of %(ref)s: expected is %(expected)s, but %(got)s came.") % {
                        "type": type_, "ref": ref, "expected": ", ".join(sorted(allowed)), "got": found
                    }  # fmt: skip
                    faults.append(RelationFault(path, check.type, message, check.mode == ENFORCE))
        for (name, is_turned), refs in many.items():
            check = self.checks[name]
            most = check.inverse_most if is_turned else check.most
            if most is not None and len(refs) > most:
                message = ngettext(
                    "At most %(most)d %(type)s is allowed, but there are %(n)d: %(refs)s.",
                    "At most %(most)d %(type)s are allowed, but there are %(n)d: %(refs)s.",
                    most,
                ) % {"most": most, "type": name, "n": len(refs), "refs": ", ".join(list(refs)[:5])}
                faults.append(RelationFault(next(iter(refs.values())), name, message, check.mode == ENFORCE))
        return faults

    def upgraded(self, kind: str, document: dict[str, Any]) -> dict[str, Any]:
        """What a source says of an entity, as the newest version of its kind has it."""
        return self._views[kind].definition.upgraded(document) if kind in self._views else document

    def __contains__(self, name: str) -> bool:
        return name in self._views

    def __iter__(self) -> Any:
        return iter(self._views.values())

    @cached_property
    def paths(self) -> frozenset[str]:
        """The dotted paths of all fields that the kinds describe."""
        found = {f"metadata.{name}" for name in ("title", "description")}
        for view in self:
            found |= {path for path, _schema in _described(view.definition.schema.source, "spec")}
        return frozenset(found)

    @cached_property
    def computed(self) -> tuple[FieldDef, ...]:
        """The fields that are worked out, of all kinds, each after those that it looks at; none of a circle."""
        return self._in_order[0]

    @cached_property
    def circle(self) -> tuple[FieldDef, ...]:
        """Computed fields of which each looks at the next and the last at the first, if there are such."""
        left = self._in_order[1]
        if not left:
            return ()
        way = [left[0]]
        while (following := next(one for one in left if self.looks_at(way[-1], one))) not in way:
            way.append(following)
        return (*way[way.index(following) :], following)

    @cached_property
    def _in_order(self) -> tuple[tuple[FieldDef, ...], tuple[FieldDef, ...]]:
        left = tuple({one.definition: one for view in self for one in view.computed}.values())
        found: tuple[FieldDef, ...] = ()
        while ready := [one for one in left if not any(self.looks_at(one, other) for other in left)]:
            found += tuple(ready)
            left = tuple(one for one in left if one not in ready)
        return found, left

    def looks_at(self, one: FieldDef, other: FieldDef) -> bool:
        """Whether a computed field may look at the values of another; what it may not, it does not see."""
        if one.computed is None or not one.computed.reads(other.name):
            return False
        if isinstance(one.computed, Mirror):
            ends = self._ends_of(one.computed.paths[0][-1])
            return not ends or not ends.isdisjoint(other.kinds)
        return True

    @cached_property
    def following(self) -> tuple[FieldDef, ...]:
        """The computed fields that look at others."""
        return tuple(
            one for one in self.computed if any(self.looks_at(one, other) for other in self.computed)
        )

    def hidden_from(self, one: FieldDef, kind: str) -> frozenset[str]:
        """Names of a kind's computed fields that a computed field is not known to look at."""
        found = self._hidden.get((one.definition, kind))
        if found is None:
            computed = self._views[kind].computed if kind in self._views else ()
            found = frozenset(other.name for other in computed if not self.looks_at(one, other))
            self._hidden[one.definition, kind] = found
        return found

    def _ends_of(self, relation: str) -> set[str]:
        """The kinds that a relation or tie leads to, as far as definitions say; none if one leaves it open."""
        found: set[str] = set()
        for view in self:
            for rule in view.definition.relations:
                if rule.type == relation:
                    if not rule.target_kinds:
                        return set()
                    found |= {kind.lower() for kind in rule.target_kinds}
                elif rule.inverse == relation:
                    found.add(view.name)
        for pair, (source, type_) in TIE_TYPES.items():
            if type_ == relation:
                found |= set(pair) - {source}
            elif self.inverse(type_) == relation:
                found.add(source)
        return found

    @cached_property
    def formats(self) -> dict[str, set[tuple[str, str]]]:
        """What the kinds say of each field, by its dotted path in lower case: the formats, and what they compare as."""
        found: dict[str, set[tuple[str, str]]] = defaultdict(set)
        for view in self:
            for path, schema in _described(view.definition.schema.source, "spec"):
                format_ = format_of(schema)
                found[path.lower()].add((format_.name, format_.compared_as))
        return dict(found)

    def inverse(self, type_: str) -> str:
        """The same relation seen from the other end."""
        return self.inverses.get(type_, type_)

    def label(self, type_: str) -> str:
        """The relation in words."""
        return self._labels.get(type_, type_)


def _described(schema: Any, above: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property of a schema with its dotted path."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    for name, inner in (properties or {}).items():
        path = f"{above}.{name}"
        if isinstance(inner, dict):
            yield path, inner
        yield from _described(inner, path)


def _usable(fields: Iterable[tuple[str, dict[str, Any]]]) -> Iterator[FieldDef]:
    for name, spec in fields:
        with suppress(InvalidInput):  # it was checked when it came in; what no longer fits is left out
            yield FieldDef.of(name, spec)


def _stored() -> Kinds:
    return kinds_with({})


def kinds_with(changed: Mapping[str, dict[str, Any]]) -> Kinds:
    """The kinds as their definitions stand now, but for some.

    :param changed: other specs, by the names of the kinds' definitions.
    """
    kinds, relations, fields = (
        list(model._default_manager.order_by("id").values_list("name", "spec"))
        for model in (Kind, RelationType, KindField)
    )
    return Kinds([(name, changed.get(name, spec)) for name, spec in kinds], relations, fields)


class _Current:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kinds: Kinds | None = None
        self._stamp: Any = None

    def get(self) -> Kinds:
        stamp = tuple(definitions_stamp(model) for model in (Kind, RelationType, KindField))
        with self._lock:
            if self._kinds is None or stamp != self._stamp:
                self._kinds = _stored()
                self._stamp = stamp
            return self._kinds

    def forget(self) -> None:
        with self._lock:
            self._kinds = None
        forget_stamps()


_current = _Current()


def current_kinds() -> Kinds:
    """The kinds in force, at most a second old."""
    return _current.get()


def forget_kinds() -> None:
    """Read the kinds anew: after a change in this process."""
    _current.forget()


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}\Z")


def _check_relation(name: str, spec: Any) -> Any:
    if errors := RELATION_TYPE.errors(spec, under=("spec",)):
        raise InvalidInput(
            _("The relation type “%(name)s” cannot be used: %(first)s") % {"name": name, "first": errors[0]},
            errors=errors,
        )
    return spec


@dataclass(frozen=True)
class _Shaping(DefinitionType[D]):
    """Definitions that stored entities are shaped by: when one changes, those are queued to be made anew.

    :ivar check_edited: what is checked besides where people and programs edit a field. A pack may bring what a field
        speaks of along with it.
    :ivar propose: has what a pack brings checked on stored entities before it is served.
    """

    check_edited: Callable[[FieldDef], None] | None = None
    propose: Callable[..., None] | None = None

    def validate(self, name: str, spec: Any) -> Any:
        if not _NAME.match(name):
            message = _("A name is letters, digits, `.`, `_` and `-`, at most 200.")
            raise InvalidInput(message, errors=[FieldError("metadata.name", message, got=name[:80])])
        return super().validate(name, spec)

    def has_to_wait(self, name: str, spec: Any) -> bool:
        """Whether stored entities could break by it: what decides of a kind what its documents must say is another."""
        now = self.current(name) if self.propose is not None else None
        if now is None or now["kind"] != spec["kind"] or _but_looks(now) == _but_looks(spec):
            return False
        return Entity.objects.filter(kind=now["kind"].lower(), deleted_at=None).exists()

    def apply(
        self, name: str, spec: Any, *, pack: str, by: str, keep_edits: bool = False
    ) -> DefinitionChange | None:
        with self.changing():
            spec = self.validate(name, spec)
            row = self.model._default_manager.filter(name=name).first()
            is_kept = row is not None and keep_edits and row.is_edited
            if self.propose is not None and not is_kept and self.has_to_wait(name, spec):
                self.propose(name=name, spec=spec, pack=pack, by=by, again=not keep_edits)
                return None
            return self._changed(super().apply(name, spec, pack=pack, by=by, keep_edits=keep_edits))

    def edit(self, name: str, *args: Any, **options: Any) -> DefinitionChange | None:
        with self.changing():
            change = self._changed(super().edit(name, *args, **options))
            if change is not None and self.check_edited is not None:
                self.check_edited(FieldDef.of(name, change.row.spec))
            return change

    def delete(self, name: str) -> DefinitionChange | None:
        spec = self.current(name)
        kind = spec["kind"].lower() if self.model is Kind and spec else ""
        if kind and (count := Entity.objects.filter(kind=kind, deleted_at=None).count()):
            raise Conflict(
                ngettext(
                    "%(count)d entity is a %(kind)s; remove it where it is declared before the kind goes.",
                    "%(count)d entities are a %(kind)s; remove them where they are declared before the kind goes.",
                    count,
                )
                % {"count": count, "kind": spec["kind"]}
            )
        with self.changing():
            return self._queue(super().delete(name))

    def _changed(self, change: DefinitionChange | None) -> DefinitionChange | None:
        if change is not None and self.model is KindField:
            _check_beside_others(change.row.name, change.row.spec)
        return self._queue(change)

    def _queue(self, change: DefinitionChange | None) -> DefinitionChange | None:
        """A kind shapes its entities' documents, a relation type how all are told of."""
        if change is not None and not (self.model is KindField and _only_looks(change)):
            entities = Entity.objects.filter(deleted_at=None)
            is_to_merge = self.model is not RelationType
            if is_to_merge:
                entities = entities.filter(kind__in=_kinds_of(change.before) | _kinds_of(change.after))
            elif words := _only_checks(change):
                # What is still too much is found again.
                Problem.objects.filter(type="too-many", detail__type__in=words, resolved_at=None).update(
                    resolved_at=timezone.now()
                )
                # How it is told stays; what it is checked for is looked at where there is such a relation.
                is_to_merge = True
                entities = entities.filter(
                    Exists(Relation.objects.filter(source=OuterRef("pk"), type__in=words))
                    | Exists(Relation.objects.filter(target=OuterRef("pk"), type__in=words))
                )
            with connection.cursor() as cursor:
                sql, params = entities.order_by().values("id").query.sql_with_params()
                cursor.execute(
                    f"""
                    INSERT INTO catalog_dirtyentity (entity_id, since, is_to_merge)
                    SELECT id, now(), %s FROM ({sql}) AS entity
                    """,  # noqa: S608 - the query is ours
                    [is_to_merge, *params],
                )
        return change


def _check_beside_others(name: str, spec: dict[str, Any]) -> None:
    """
    :raises Conflict: if a kind has such a field already, of its own or by another definition; or in a loop.
    """
    if circle := _stored().circle:
        raise Conflict(
            _("A field cannot be worked out from itself: %(circle)s.")
            % {"circle": " → ".join(one.path for one in circle)}
        )
    field, kinds = FieldDef.of(name, spec), _kinds_of(spec)
    for kind in Kind.objects.order_by("id"):
        own = kind.spec["schema"].get("properties") or {}
        if kind.spec["kind"].lower() in kinds and field.name in own:
            raise Conflict(
                _("%(kind)s has a field %(path)s of its own; choose another name.")
                % {"kind": kind.spec["kind"], "path": field.path}
            )
    for row in KindField.objects.exclude(name=name).order_by("id"):
        if row.spec["field"] == spec["field"] and (both := kinds & _kinds_of(row.spec)):
            raise Conflict(
                _("“%(other)s” adds %(path)s to %(kinds)s already.")
                % {"other": row.name, "path": field.path, "kinds": ", ".join(sorted(both))}
            )


def _only_checks(change: DefinitionChange) -> set[str]:
    """Both names of a relation type of which nothing has changed but how it is checked; else none."""
    if not change.before or not change.after:
        return set()
    before, after = (
        {key: value for key, value in spec.items() if key not in KEYS}
        for spec in (change.before, change.after)
    )
    return {after.get("type") or change.row.name, after["inverse"]} if before == after else set()


def _only_looks(change: DefinitionChange) -> bool:
    """Whether of a field nothing has changed but how it is shown: what documents say is the same."""
    if not change.before or not change.after:
        return False
    before, after = (
        {key: value for key, value in spec.items() if key not in LOOKS}
        | {"values": [one["value"] for one in spec.get("values", ())]}
        for spec in (change.before, change.after)
    )
    return bool(before == after)


_LOOKS_OF_KINDS = ("title", "plural", "icon", "colour", "description", "columns", "unknownFor")


def _but_looks(spec: dict[str, Any]) -> dict[str, Any]:
    """Of a kind's definition, what decides what its documents must say, and what is made of them."""
    return {key: value for key, value in spec.items() if key not in _LOOKS_OF_KINDS}


def _kinds_of(spec: Any) -> set[str]:
    """The kinds that a definition of a kind or field shapes."""
    return {kind.lower() for kind in ([spec["kind"]] if "kind" in spec else spec["kinds"])} if spec else set()


def register_kinds(
    *, check_edited_field: Callable[[FieldDef], None], propose_kind: Callable[..., None]
) -> None:
    """Make kinds, fields and relation types known as pack documents."""
    register_document_type(_Shaping(kind="RelationType", model=RelationType, check=_check_relation))
    register_document_type(
        _Shaping(kind="KindDefinition", model=Kind, check=check_kind_definition, propose=propose_kind)
    )
    register_document_type(
        _Shaping(
            kind="FieldDefinition",
            model=KindField,
            check=check_field_definition,
            check_edited=check_edited_field,
        )
    )
