"""The fields of the query language: what each is called, what its values may be, and what they mean.

A field is found by its short name (`owner`), as the name of a relation or tie in either direction
(`dependsOn`, `ownerOf`), or as a path into the document (`spec.type`, `metadata.annotations.example.com/x`,
`label.tier`).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from difflib import get_close_matches
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any, cast

from django.db.models import Exists, F, Func, OuterRef, Q
from django.db.models import Value as Literal
from django.utils.text import get_text_list
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access.models import User
from access.permissions import visible
from catalog.documents.formats import FORMATS, seconds_of
from catalog.kinds import current_kinds
from catalog.models import PROBLEM_TYPES, Claim, ClaimMode, Entity, Problem, Rank, Relation
from catalog.query.conditions import (
    NOTHING,
    Comparison,
    Condition,
    LeafTest,
    Like,
    any_like,
    day_test,
    duration_test,
    escape_like,
    folded_like,
    has_token,
    leaf_condition,
    like_pattern,
    like_test,
    number_test,
    version_test,
)
from catalog.query.dates import bounds
from catalog.query.errors import QueryError, did_you_mean
from catalog.query.mine import own_refs
from catalog.query.nodes import Span, Value
from catalog.query.refs import RefPattern
from catalog.query.relations import Direction, directions, directions_called
from catalog.query.sight import seen_by
from catalog.statuses import RunStatus

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise


@dataclass(frozen=True, slots=True)
class Context:
    """What a query's meaning depends on besides its text.

    :ivar viewer: who `@me` is, and what relations may lead to.
    """

    now: datetime
    viewer: object | None = None


@dataclass(frozen=True)
class Field:
    """One field.

    :ivar path: of the document, in lower case, where the field is one of its leaves.
    :ivar column: of Entity, where the field is one; an array where it has several values.
    :ivar example: a whole term, for help.
    :ivar is_facet: whether a list can be narrowed by its values.
    """

    name: str
    label: _StrOrPromise = ""
    description: _StrOrPromise = ""
    example: str = ""
    path: str = ""
    column: str = ""
    is_facet: bool = False

    def condition(self, values: Sequence[Value], context: Context) -> Condition:
        """Entities that have any of the values.

        :raises QueryError: if a value makes no sense for this field.
        """
        return reduce(
            or_,
            (
                self.nothing(context) if _is_none(value) and self.can_exist else self.match(value, context)
                for value in values
            ),
        )

    def nothing(self, context: Context) -> Condition:
        """Entities that have no value."""
        exists = self.exists(context).as_q()
        return Condition(q=~exists if exists else NOTHING)

    def match(self, value: Value, context: Context) -> Condition:
        """Entities that have this value."""
        raise NotImplementedError

    def exists(self, context: Context) -> Condition:
        """Entities that have any value."""
        if self.path:
            return has_token(self.path)
        return Condition(q=~Q(**{self.column: ""}))

    @property
    def can_exist(self) -> bool:
        """Whether `has:` makes sense of it."""
        return True


def _no_comparison(field: Field, value: Value) -> None:
    if value.operator != "=":
        raise _wrong(
            value,
            _(
                "“%(field)s” is text and cannot be compared with “%(operator)s”; quote the value to take it"
                " literally."
            )
            % {"field": field.name, "operator": value.operator},
            expected=_("a value"),
        )


def _wrong(value: Value, sentence: str, *, expected: str, suggestions: Sequence[str] = ()) -> QueryError:
    return QueryError(
        sentence,
        position=value.span.position,
        length=value.span.length,
        expected=expected,
        got=_text_of(value),
        suggestions=suggestions,
    )


def _check_known(field: Field, value: Value, known: Collection[str]) -> None:
    """
    :raises QueryError: if there are words for a field, and the value is none of them; it names the nearest.
    """
    text = value.text.lower()
    if not known or text in known or value.is_pattern or _is_none(value):
        return
    near = get_close_matches(text, known, n=1)
    words = ", ".join(known)
    sentence = _("There is no %(field)s “%(got)s”.") % {"field": field.label.lower(), "got": value.text}
    raise _wrong(
        value,
        " ".join(
            filter(
                None, [sentence, did_you_mean(near), _("Expected is one of: %(words)s.") % {"words": words}]
            )
        ),
        expected=words,
        suggestions=near,
    )


def _text_of(value: Value) -> str:
    if value.operator == "..":
        return f"{value.text}..{value.upper}"
    return value.text if value.operator == "=" else value.operator + value.text


def _is_any(value: Value) -> bool:
    """Whether it is `*` alone: any value."""
    return value.is_pattern and not value.text.strip("*")


def _is_none(value: Value) -> bool:
    """Whether it is `""`: no value."""
    return not value.text and value.operator == "="


@dataclass(frozen=True)
class Word(Field):
    """A word in a column, such as a kind or a type; looked up as a token where it is in the document too.

    :ivar known: the only words that there are, in the order of help; None where any may occur.
    """

    known: Callable[[], Collection[str]] | None = None

    def condition(self, values: Sequence[Value], context: Context) -> Condition:
        found = Condition()
        exact: list[str] = []
        for value in values:
            _no_comparison(self, value)
            text = value.text.lower()
            if self.known:
                _check_known(self, value, self.known())
            if _is_any(value):
                found |= self.exists(context)
            elif value.is_pattern:
                found |= Condition(q=self._like(like_pattern(text)))
            elif text and self.path:
                found |= has_token(self.path, text)
            elif text:
                exact.append(text)
            else:
                found |= Condition(q=self._empty())  # as facets count it: those without the field
        return found | Condition(q=self._equals(exact)) if exact else found

    def exists(self, context: Context) -> Condition:
        return Condition(q=~self._empty())

    def _equals(self, texts: list[str]) -> Q:
        return Q(**{self.column: texts[0]}) if len(texts) == 1 else Q(**{f"{self.column}__in": texts})

    def _like(self, pattern: str) -> Q:
        return folded_like(self.column, pattern)

    def _empty(self) -> Q:
        return Q(**{self.column: ""})


@dataclass(frozen=True)
class Version(Word):
    """A word whose column keeps the case."""

    def _equals(self, texts: list[str]) -> Q:
        return reduce(or_, (Q(**{f"{self.column}__iexact": text}) for text in texts))


@dataclass(frozen=True)
class Words(Word):
    """Several words in an array, such as tags."""

    def _like(self, pattern: str) -> Q:
        return any_like(self.column, pattern)

    def _empty(self) -> Q:
        return Q(**{self.column: []})

    def values_expression(self) -> Any:
        return Func(F(self.column), function="unnest", output_field=Entity._meta.get_field("name"), arity=1)


@dataclass(frozen=True)
class Text(Field):
    """Text to search in; with `*` the pattern is the whole."""

    def match(self, value: Value, context: Context) -> Condition:
        _no_comparison(self, value)
        if _is_any(value):
            return self.exists(context)
        return Condition(q=contains(self.column, value))


def contains(column: str, value: Value) -> Q:
    """Whether a column contains a text, or is as a pattern says."""
    if value.is_pattern:
        return folded_like(column, like_pattern(value.text))
    return folded_like(column, f"%{escape_like(value.text)}%")


@dataclass(frozen=True)
class Ref(Field):
    """A reference to another entity in a column."""

    def condition(self, values: Sequence[Value], context: Context) -> Condition:
        exact: set[str] = set()
        q = Q(pk__in=())
        for value in values:
            if _is_none(value):
                exact.add("")
            elif _is_any(value):
                q |= ~Q(**{self.column: ""})
            else:
                refs, patterns = read_ref(self, value, context)
                exact |= refs
                for pattern in patterns:
                    q |= Q(Like(F(self.column), Literal(pattern.like())))
        return Condition(q=q | Q(**{f"{self.column}__in": sorted(exact)}) if exact else q)

    def exists(self, context: Context) -> Condition:
        return Condition(q=~Q(**{self.column: ""}))


def read_ref(field: Field, value: Value, context: Context) -> tuple[set[str], list[RefPattern]]:
    """A value as whole refs and as patterns.

    :raises QueryError: if it does not look like a reference.
    """
    _no_comparison(field, value)
    if value.text.lower() == "@me" and not value.is_quoted:
        return set(own_refs(context.viewer)), []
    pattern = RefPattern.read(value)
    if pattern is None:
        raise _wrong(
            value,
            _("“%(got)s” is no reference; expected is a name, kind:name or kind:namespace/name.")
            % {"got": value.text},
            expected=_("kind:namespace/name"),
        )
    return ({pattern.exact}, []) if pattern.exact is not None else (set(), [pattern])


@dataclass(frozen=True)
class OwnRef(Field):
    """The entity's own reference."""

    def match(self, value: Value, context: Context) -> Condition:
        if _is_any(value):
            return self.exists(context)
        refs, patterns = read_ref(self, value, context)
        q = Q(ref__in=sorted(refs)) if refs else NOTHING
        for pattern in patterns:
            parts = {"kind": pattern.kind, "namespace": pattern.namespace, "name": pattern.name}
            found = Q()
            for column, part in parts.items():
                if part is None:
                    continue
                if "*" in part and not pattern.is_literal:
                    found &= folded_like(column, like_pattern(part))
                else:
                    found &= Q(**{column: part})
            q = found
        return Condition(q=q)

    def exists(self, context: Context) -> Condition:
        return Condition(q=Q())


@dataclass(frozen=True)
class Uid(Field):
    """The entity's uid."""

    def match(self, value: Value, context: Context) -> Condition:
        _no_comparison(self, value)
        if _is_any(value):
            return self.exists(context)
        try:
            return Condition(q=Q(uid=uuid.UUID(value.text)))
        except ValueError:
            raise _wrong(
                value,
                _("“%(got)s” is no uid; it looks like 0192c1de-3a5b-7c44-9f0e-6d2b8a71c5e3.")
                % {"got": value.text},
                expected=_("a uid"),
            )

    def exists(self, context: Context) -> Condition:
        return Condition(q=Q())


@dataclass(frozen=True)
class Moment(Field):
    """A point in time."""

    def match(self, value: Value, context: Context) -> Condition:
        if _is_any(value):
            return self.exists(context)
        found = bounds(value, now=context.now)
        if found is None:
            raise _wrong(
                value,
                _(
                    "“%(got)s” is no time; expected is a date such as 2026-01-31 or 2026-01, “today”, or an"
                    " age such as 7d (min, h, d, w, mo, y)."
                )
                % {"got": _text_of(value)},
                expected=_("a date or an age"),
            )
        return Condition(
            q=self.exists_q() & Q(**{f"{self.column}__{lookup}": moment for lookup, moment in found})
        )

    def exists(self, context: Context) -> Condition:
        return Condition(q=self.exists_q())

    def exists_q(self) -> Q:
        """The column where it is not null: also what keeps a negation from losing those without a time."""
        return Q(**{f"{self.column}__isnull": False}) if Entity._meta.get_field(self.column).null else Q()


@dataclass(frozen=True)
class Related(Field):
    """A relation or tie, in one direction."""

    ways: tuple[Direction, ...] = ()

    def condition(self, values: Sequence[Value], context: Context) -> Condition:
        patterns: list[RefPattern] = []
        found = Condition()
        for value in values:
            if _is_any(value) or _is_none(value):
                found |= self.exists(context) if value.text else self.nothing(context)
                continue
            refs, unlike = read_ref(self, value, context)
            patterns += unlike
            for ref in sorted(refs):
                head, _slash, name = ref.rpartition("/")
                kind, _colon, namespace = head.partition(":")
                patterns.append(RefPattern(kind, namespace, name, is_literal=True))
        return found | self._related(patterns, context) if patterns else found

    def exists(self, context: Context) -> Condition:
        return self._related([], context)

    def _related(self, patterns: list[RefPattern], context: Context) -> Condition:
        seen = seen_by(context.viewer)
        return Condition(q=reduce(or_, (way.entities(patterns, seen=seen) for way in self.ways)))


_TRUTHS = {"yes": "true", "no": "false"}
_VERSION = re.compile(r"v?\d{1,9}(\.\d{1,9}){0,9}\Z", re.ASCII)
_NUMBER = re.compile(r"-?\d{1,30}(\.\d{1,30})?", re.ASCII)


@dataclass(frozen=True)
class Path(Field):
    """A path into the document."""

    def match(self, value: Value, context: Context) -> Condition:
        if _is_any(value):
            return self.exists(context)
        if value.is_pattern:
            return Condition(q=leaf_condition(self.path, [like_test(like_pattern(value.text))]))
        if value.operator == "=":
            return self._equals(value)
        return Condition(q=leaf_condition(self.path, self._tests(value, context)))

    @property
    def _compared(self) -> set[str]:
        """What the kinds that describe the field take its values for."""
        return {compared for _name, compared in current_kinds().formats.get(self.path, ())}

    def _equals(self, value: Value) -> Condition:
        compared = self._compared
        if "truth" in compared and value.text.lower() in _TRUTHS:
            return has_token(self.path, _TRUTHS[value.text.lower()])
        if "reference" in compared and not value.is_quoted:
            return reduce(or_, (has_token(self.path, one) for one in self._spellings(value.text)))
        return has_token(self.path, value.text)

    def _spellings(self, text: str) -> list[str]:
        """How sources may write a reference, which may name the same thing more or less fully."""
        kind, _colon, rest = text.rpartition(":")
        namespace, _slash, name = rest.rpartition("/")
        formats = [FORMATS[format_] for format_, _compared in current_kinds().formats.get(self.path, ())]
        kinds = [kind] if kind else [one for format_ in formats for one in format_.kinds]
        spaces = ["", "default/"] if namespace in {"", "default"} else [f"{namespace}/"]
        return [f"{head}{space}{name}" for head in ("", *(f"{one}:" for one in kinds)) for space in spaces]

    def _tests(self, value: Value, context: Context) -> list[LeafTest]:
        ends: list[tuple[Comparison, str]]
        if value.operator == "..":
            ends = [(">=", value.text)] if value.text else []
            ends += [("<=", value.upper)] if value.upper else []
        else:
            ends = [(cast(Comparison, value.operator), value.text)]
        compared = self._compared
        if "version" in compared and all(_VERSION.match(text) for _operator, text in ends):
            return [
                version_test(operator, [int(part) for part in text.lstrip("v").split(".")])
                for operator, text in ends
            ]
        if "duration" in compared and all(seconds_of(text) is not None for _operator, text in ends):
            return [duration_test(operator, seconds_of(text) or 0) for operator, text in ends]
        if all(_NUMBER.fullmatch(text) for _operator, text in ends):
            return [number_test(operator, Decimal(text)) for operator, text in ends]
        found = bounds(value, now=context.now)
        if found is None:
            raise _wrong(
                value,
                _(
                    "“%(got)s” can be compared with no field; expected is a number, a date such as"
                    " 2026-01-31, or an age such as 7d."
                )
                % {"got": _text_of(value)},
                expected=_("a number, a date or an age"),
            )
        days: dict[str, Comparison] = {"gte": ">=", "gt": ">=", "lt": "<", "lte": "<="}
        return [day_test(days[lookup], moment.date().isoformat()) for lookup, moment in found]

    def exists(self, context: Context) -> Condition:
        return has_token(self.path) | has_token(f"{self.path}.")  # as a leaf, or as an object

    def nothing(self, context: Context) -> Condition:
        return has_token(self.path, "") | super().nothing(context)


@dataclass(frozen=True)
class Problems(Field):
    """Open problems of the entity, by their code."""

    def match(self, value: Value, context: Context) -> Condition:
        _no_comparison(self, value)
        if _is_any(value):
            return self.exists(context)
        _check_known(self, value, PROBLEM_TYPES)
        if value.is_pattern:
            return self._open(context, Q(Like(F("type"), Literal(like_pattern(value.text.lower())))))
        return self._open(context, Q(type=value.text.lower()))

    def exists(self, context: Context) -> Condition:
        return self._open(context, Q())

    @staticmethod
    def _open(context: Context, q: Q) -> Condition:
        rows = Problem.objects.filter(q, subject_uid=OuterRef("uid"), resolved_at=None)
        # Without an account, as in scopes, nothing is kept from anybody.
        viewer = context.viewer
        return Condition(q=Q(Exists(visible(viewer, rows) if isinstance(viewer, User) else rows)))


@dataclass(frozen=True)
class Conflict(Field):
    """Fields on which the sources disagree."""

    def match(self, value: Value, context: Context) -> Condition:
        _no_comparison(self, value)
        if _is_any(value):
            return self.exists(context)
        field = named(value)
        if not field.path:
            raise _wrong(
                value,
                _("Sources cannot disagree on “%(got)s”; expected is a field of the document.")
                % {"got": value.text},
                expected=_("a field"),
            )
        return has_token(self.path, field.path)


@dataclass(frozen=True)
class Has(Field):
    """Fields that the entity has, whatever their value."""

    def match(self, value: Value, context: Context) -> Condition:
        _no_comparison(self, value)
        field = named(value)
        if not field.can_exist:
            raise _wrong(
                value,
                _("“has:%(got)s” means nothing; expected is the name of a field or relation.")
                % {"got": value.text},
                expected=_("a field"),
            )
        return field.exists(context)

    @property
    def can_exist(self) -> bool:
        return False


@dataclass(frozen=True)
class Is(Field):
    """What an entity is."""

    FLAGS = {
        "mine": gettext_lazy("owned by you or your groups"),
        "failing": gettext_lazy("a pipeline's last finished run on the default branch failed"),
        "unknown-owner": gettext_lazy("what it names as its owner is not in the catalog"),
        "stale": gettext_lazy("a source's newest word could not be read"),
        "inferred": gettext_lazy("found by a rule, declared by nobody"),
    }

    def match(self, value: Value, context: Context) -> Condition:
        _no_comparison(self, value)
        flag = value.text.lower()
        claims = Claim.objects.filter(entity=OuterRef("pk"), is_shadowed=False)
        asserted = claims.filter(mode=ClaimMode.ASSERT)
        match flag:
            case "mine":
                return Condition(q=Q(owner__in=sorted(own_refs(context.viewer))))
            case "failing":
                return Condition(q=Q(failing_since__isnull=False))
            case "unknown-owner":
                named = Relation.objects.filter(source=OuterRef("pk"), type="ownedBy", target=None)
                return Condition(q=Q(Exists(named)))
            case "stale":
                return Condition(q=Q(Exists(claims.exclude(stale_reason=""))))
            case "inferred":
                declared = asserted.exclude(rank=Rank.INFERRED)
                return Condition(q=Q(Exists(asserted)) & ~Q(Exists(declared)))
        near = get_close_matches(flag, self.FLAGS, n=1)
        raise _wrong(
            value,
            _("Nothing is “%(got)s”; expected is %(flags)s.")
            % {"got": value.text, "flags": get_text_list(list(self.FLAGS), _("or"))},
            expected=get_text_list(list(self.FLAGS), _("or")),
            suggestions=near,
        )

    @property
    def can_exist(self) -> bool:
        return False


FIELDS: dict[str, Field] = {
    field.name.lower(): field
    for field in (
        Word(
            "kind",
            gettext_lazy("Kind"),
            gettext_lazy("What it is: component, api, group, ..."),
            "kind:component",
            column="kind",
            is_facet=True,
            known=lambda: [kind.name for kind in current_kinds()],
        ),
        Word(
            "type",
            gettext_lazy("Type"),
            gettext_lazy("The type that its kind distinguishes"),
            "type:service",
            path="spec.type",
            column="type",
            is_facet=True,
        ),
        Ref(
            "owner",
            gettext_lazy("Owner"),
            gettext_lazy("Who owns it; @me for you and your groups"),
            "owner:group:default/payments",
            path="spec.owner",
            column="owner",
            is_facet=True,
        ),
        Word(
            "lifecycle",
            gettext_lazy("Lifecycle"),
            gettext_lazy("How mature it is"),
            "lifecycle:production",
            path="spec.lifecycle",
            column="lifecycle",
            is_facet=True,
        ),
        Ref(
            "system",
            gettext_lazy("System"),
            gettext_lazy("The system that it is part of"),
            "system:checkout",
            path="spec.system",
            column="system",
            is_facet=True,
        ),
        Words(
            "tag",
            gettext_lazy("Tag"),
            gettext_lazy("A tag that it carries"),
            "tag:java",
            path="metadata.tags",
            column="tags",
            is_facet=True,
        ),
        Words(
            "source",
            gettext_lazy("Source"),
            gettext_lazy("Who speaks of it: a connection, a file, a person"),
            "source:git-main",
            path="source",
            column="sources",
            is_facet=True,
        ),
        Word(
            "run",
            gettext_lazy("Last run"),
            gettext_lazy("How its runs on the default branch stand: failed while any pipeline fails"),
            "run:failed",
            column="last_run",
            is_facet=True,
            known=lambda: [status.value for status in RunStatus],
        ),
        Word(
            "namespace",
            gettext_lazy("Namespace"),
            gettext_lazy("The namespace of its name"),
            "namespace:default",
            column="namespace",
            is_facet=True,
        ),
        Word(
            "name",
            gettext_lazy("Name"),
            gettext_lazy("Its whole name, or a part with *"),
            "name:pay*",
            column="name",
        ),
        Text(
            "title",
            gettext_lazy("Title"),
            gettext_lazy("Text in its title"),
            'title:"card payments"',
            path="metadata.title",
            column="title",
        ),
        Text(
            "description",
            gettext_lazy("Description"),
            gettext_lazy("Text in its description"),
            "description:invoice",
            path="metadata.description",
            column="description",
        ),
        Version(
            "version",
            gettext_lazy("Version"),
            gettext_lazy("Its newest version"),
            "version:2.*",
            column="version",
        ),
        Moment(
            "changed",
            gettext_lazy("Changed"),
            gettext_lazy("When what is known of it changed last"),
            "changed:<7d",
            column="changed_at",
        ),
        Moment(
            "created",
            gettext_lazy("Created"),
            gettext_lazy("When it came into the catalog"),
            "created:2026-01",
            column="created_at",
        ),
        Moment(
            "ran",
            gettext_lazy("Ran"),
            gettext_lazy("When its last run was"),
            "ran:>30d",
            column="last_run_at",
        ),
        Moment(
            "failing",
            gettext_lazy("Failing"),
            gettext_lazy("Since when it fails"),
            "failing:>1d",
            column="failing_since",
        ),
        OwnRef(
            "ref",
            gettext_lazy("Reference"),
            gettext_lazy("Its own reference"),
            "ref:component:default/card-api",
            column="ref",
        ),
        Uid(
            "uid",
            gettext_lazy("UID"),
            gettext_lazy("What it is for ever"),
            "uid:0192c1de-3a5b-7c44-9f0e-6d2b8a71c5e3",
            column="uid",
        ),
        Has(
            "has",
            gettext_lazy("Has"),
            gettext_lazy("It has this field, relation or a problem"),
            "has:dependsOn",
        ),
        Is(
            "is",
            gettext_lazy("Is"),
            gettext_lazy("mine, failing, stale or inferred"),
            "is:mine",
        ),
        Problems(
            "problem",
            gettext_lazy("Problem"),
            gettext_lazy("An open problem of this code"),
            "problem:missing-target",
        ),
        Conflict(
            "conflict",
            gettext_lazy("Conflict"),
            gettext_lazy("A field on which its sources disagree"),
            "conflict:owner",
            path="conflict",
        ),
        Path(
            "apiVersion",
            gettext_lazy("API version"),
            gettext_lazy("The version of its format"),
            "apiVersion:backstage.io/*",
            path="apiversion",
        ),
    )
}

FACETS: tuple[str, ...] = tuple(field.name for field in FIELDS.values() if field.is_facet)

_NOWHERE = Span()

# How a path may begin, and what that stands for in the document.
PATHS = {
    "label.": "metadata.labels.",
    "annotation.": "metadata.annotations.",
    "metadata.": "metadata.",
    "spec.": "spec.",
}


def find_field(name: str, *, span: Span = _NOWHERE) -> Field:
    """The field of this name, in any case.

    :param span: where the name stands in the text.
    :raises QueryError: if there is none, naming the nearest.
    """
    key = name.lower()
    if key in FIELDS:
        return FIELDS[key]
    for start, path in PATHS.items():
        if key.startswith(start) and len(key) > len(start):
            whole = path + key[len(start) :]
            return FIELDS["uid"] if whole == "metadata.uid" else Path(name, label=name, path=whole)
    if ways := directions_called(key.removeprefix("relations.")):
        return Related(ways[0].name, label=ways[0].name, ways=ways)
    near = near_names(key)
    raise QueryError(
        " ".join(
            filter(
                None,
                [
                    _("There is no field “%(name)s”.") % {"name": name},
                    did_you_mean(near),
                    _("A path begins with metadata. or spec.; to search for the text, quote it."),
                ],
            )
        ),
        position=span.position,
        length=span.length,
        expected=_("a field"),
        got=name,
        suggestions=near,
    )


def named(value: Value) -> Field:
    """The field that a value names, as in `has:owner`."""
    return find_field(value.text, span=value.span)


def near_names(name: str) -> list[str]:
    """Names of fields, relations and starts of paths that are nearly this one."""
    known = {key: field.name for key, field in FIELDS.items()}
    known |= {key: ways[0].name for key, ways in directions().items()}
    known |= {start: start for start in PATHS}
    near = [known[key] for key in get_close_matches(name, known, n=3, cutoff=0.65) if key != name]
    root, dot, rest = name.partition(".")
    if dot and rest:
        near += [start + rest for start in get_close_matches(f"{root}.", PATHS, n=1, cutoff=0.65)]
    return near
