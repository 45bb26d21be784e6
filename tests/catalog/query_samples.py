"""A small catalog in memory and in the database, and what queries mean for it, told a second time."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from pytest_django.plugin import DjangoDbBlocker

from catalog.models import (
    Claim,
    ClaimMode,
    Entity,
    Problem,
    Rank,
    Relation,
    RelationType,
    Served,
    Severity,
    Source,
    SourceType,
    Tie,
    TieState,
)
from catalog.query import nodes, tokens_of
from catalog.query.relations import forget_directions

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
RELATIONS = {
    "dependsOn": "dependencyOf",
    "ownedBy": "ownerOf",
    "partOf": "hasPart",
    "hasSource": "sourceOf",
    "linkedTo": "linkedTo",
}
MINE = {"group:default/payments", "user:default/ana"}


@dataclass
class Sample:
    """One entity as the evaluator sees it."""

    kind: str
    name: str
    namespace: str = "default"
    title: str = ""
    description: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)
    owner: str = ""
    system: str = ""
    sources: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    run: str = ""
    ran: datetime | None = None
    version: str = ""
    changed: datetime = NOW
    created: datetime = NOW - timedelta(days=400)
    relations: list[tuple[str, str]] = field(default_factory=list)
    ties: list[tuple[str, str, TieState]] = field(default_factory=list)
    problems: list[tuple[str, bool]] = field(default_factory=list)
    claims: list[tuple[Rank, ClaimMode, str]] = field(default_factory=list)
    uid: uuid.UUID = field(default_factory=uuid.uuid4)

    @property
    def ref(self) -> str:
        return f"{self.kind}:{self.namespace}/{self.name}"

    @property
    def document(self) -> dict[str, Any]:
        metadata: dict[str, Any] = {"name": self.name, "namespace": self.namespace, **self.metadata}
        if self.title:
            metadata["title"] = self.title
        if self.description:
            metadata["description"] = self.description
        return {
            "apiVersion": "backstage.io/v1alpha1",
            "kind": self.kind.title(),
            "metadata": metadata,
            "spec": self.spec,
        }

    def leaves(self) -> list[tuple[str, Any]]:
        """Every leaf with its lower-case path; every object that is not empty under its path and a dot."""
        found: list[tuple[str, Any]] = []

        def walk(path: str, value: Any) -> None:
            if isinstance(value, dict):
                found.extend([(f"{path}.".lower(), None)] if value else [])
                for key, inner in value.items():
                    walk(f"{path}.{key}" if path else key, inner)
            elif isinstance(value, list):
                for element in value:
                    walk(path, element)
                    if isinstance(element, str):
                        found.append((f"{path}.{element}".lower(), True))
            else:
                found.append((path.lower(), value))

        walk("", self.document)
        return [(path, value) for path, value in found if len(path) <= 200]


def samples() -> list[Sample]:
    """A few dozen entities, with a trap for each construct of the language."""
    day = timedelta(days=1)
    found = [
        Sample(
            "component",
            "card-payments",
            title="Card Payments",
            description="Takes cards and pays 100% of them",
            metadata={
                "tags": ["java", "pci"],
                "labels": {"tier": "1", "Team.Name": "Blue"},
                "annotations": {"github.com/project-slug": "acme/pay", "example.com/a.b": "x"},
            },
            spec={
                "type": "service",
                "lifecycle": "production",
                "replicas": 3,
                "note": "",
                "day": "2026-06-10",
            },
            owner="group:default/payments",
            system="system:default/checkout",
            sources=["git-main", "yaml"],
            conflicts=["spec.owner"],
            run="failed",
            ran=NOW - 2 * day,
            version="2.1.0",
            changed=NOW - 3 * day,
            relations=[
                ("ownedBy", "group:default/payments"),
                ("dependsOn", "component:default/ledger"),
                ("dependsOn", "resource:other/missing"),
                ("partOf", "system:default/checkout"),
                ("linkedTo", "component:default/web"),
            ],
            ties=[("hasSource", "repository:default/pay", TieState.AUTO)],
            problems=[("missing-target", True), ("ambiguous-key", False)],
            claims=[(Rank.YAML, ClaimMode.ASSERT, ""), (Rank.INFERRED, ClaimMode.ASSERT, "")],
        ),
        Sample(
            "component",
            "ledger",
            title="Ledger_of%things",
            description="Back\\slash and under_score",
            metadata={"tags": ["Java", "kotlin"], "labels": {"tier": "2"}},
            spec={
                "type": "Library",
                "lifecycle": "experimental",
                "replicas": "10",
                "day": "2026-06-15T10:00:00Z",
            },
            owner="group:other/payments",
            sources=["git-main"],
            run="passed",
            ran=NOW - timedelta(hours=3),
            version="V2",
            changed=NOW - timedelta(minutes=30),
            relations=[("ownedBy", "group:other/payments"), ("dependsOn", "component:default/web")],
            ties=[("hasSource", "repository:default/pay", TieState.FORBIDDEN)],
            problems=[("missing-target", False)],
            claims=[(Rank.INFERRED, ClaimMode.ASSERT, "")],
        ),
        Sample(
            "component",
            "web",
            namespace="other",
            title="Web front-end",
            metadata={"tags": [], "annotations": {"example.com/size": "12.5"}},
            spec={"type": "website", "replicas": [1, 20], "flags": ["beta", "dark mode"], "enabled": True},
            owner="user:default/ana",
            sources=["oci"],
            changed=NOW - 20 * day,
            claims=[
                (Rank.CONNECTION, ClaimMode.ASSERT, "line 3: broken"),
                (Rank.PERSON, ClaimMode.AMEND, ""),
            ],
        ),
        Sample(
            "component",
            "web",
            title="Web",
            spec={"type": "website", "lifecycle": "production", "ports": [{"name": "http", "port": 80}]},
            owner="group:default/web",
            run="running",
            ran=NOW - 40 * day,
            changed=datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC),
            created=datetime(2026, 1, 1, tzinfo=UTC),
            relations=[("ownedBy", "group:default/web")],
            ties=[("hasSource", "repository:default/pay", TieState.CONFIRMED)],
        ),
        Sample(
            "group", "payments", title="Payments", metadata={"labels": {"tier": "1"}}, spec={"type": "team"}
        ),
        Sample(
            "group",
            "payments",
            namespace="other",
            spec={"type": "team", "profile": {"email": "p@acme.example"}},
        ),
        Sample("user", "ana", title="Ana Ö", changed=datetime(2026, 2, 1, tzinfo=UTC)),
        Sample(
            "system", "checkout", title="Checkout", spec={"replicas": -3.5}, owner="group:default/payments"
        ),
        Sample("repository", "pay", sources=["git-main"], spec={"languages": {"Go": 10, "C": 2.0}}),
        Sample(
            "api",
            "pay_v1",
            title="pay v1",
            spec={"type": "openapi", "definition": "x" * 300, "nothing": None},
        ),
        Sample("api", "payxv1", title="OR", description="and NOT kind:component", spec={"type": "grpc"}),
    ]
    found += [
        Sample(
            "resource",
            f"bucket-{number}",
            namespace="default" if number % 2 else "store",
            title=f"Bucket number {number}",
            metadata={"tags": [f"t{number % 3}"], "labels": {"zone": f"z{number % 4}"}},
            spec={"type": "bucket", "size": number * 7, "made": f"2026-0{number % 9 + 1}-15"},
            owner=["", "group:default/payments", "group:default/web"][number % 3],
            run=["", "passed", "failed"][number % 3],
            ran=None if number % 3 == 0 else NOW - number * day,
            changed=NOW - number * day,
            relations=[("dependsOn", f"resource:store/bucket-{number - number % 2}")] if number % 5 else [],
        )
        for number in range(20)
    ]
    return found


def store(found: list[Sample]) -> None:
    """Put samples into the database."""
    RelationType.objects.bulk_create(
        RelationType(name=name, spec={"type": name, "inverse": inverse})
        for name, inverse in RELATIONS.items()
    )
    entities = Entity.objects.bulk_create(
        Entity(
            uid=sample.uid,
            ref=sample.ref,
            kind=sample.kind,
            namespace=sample.namespace,
            name=sample.name,
            title=sample.title or sample.name,
            description=sample.description,
            type=str(sample.spec.get("type", "")).lower(),
            lifecycle=str(sample.spec.get("lifecycle", "")).lower(),
            owner=sample.owner,
            system=sample.system,
            tags=[tag.lower() for tag in sample.metadata.get("tags", [])],
            sources=sample.sources,
            tokens=tokens_of(sample.document, sources=sample.sources, conflicts=sample.conflicts),
            last_run=sample.run,
            last_run_at=sample.ran,
            version=sample.version,
            digest=b"",
            created_at=sample.created,
            changed_at=sample.changed,
        )
        for sample in found
    )
    by_ref = {entity.ref: entity for entity in entities}
    Served.objects.bulk_create(
        Served(entity=by_ref[sample.ref], document=orjson.dumps(sample.document).decode()) for sample in found
    )
    Relation.objects.bulk_create(
        Relation(source=by_ref[sample.ref], type=type_, target_ref=ref, target=by_ref.get(ref))
        for sample in found
        for type_, ref in sample.relations
    )
    Tie.objects.bulk_create(
        Tie(source=by_ref[sample.ref], type=type_, target=by_ref[ref], state=state, decided_by="ana")
        for sample in found
        for type_, ref, state in sample.ties
    )
    Problem.objects.bulk_create(
        Problem(
            fingerprint=f"{sample.ref} {type_}",
            type=type_,
            severity=Severity.WARN,
            raised_by="catalog",
            subject_type="entity",
            subject_uid=sample.uid,
            subject_label=sample.ref,
            message="Something.",
            first_seen_at=NOW,
            last_seen_at=NOW,
            resolved_at=None if is_open else NOW,
        )
        for sample in found
        for type_, is_open in sample.problems
    )
    source = Source.objects.create(type=SourceType.CONNECTION, key="connection:x/y", name="x", label="X")
    Claim.objects.bulk_create(
        Claim(
            entity=by_ref[sample.ref],
            source=source,
            external_id=f"{sample.ref} {number}",
            rank=rank,
            mode=mode,
            digest=b"",
            document={},
            as_of=NOW,
            stale_reason=reason,
        )
        for sample in found
        for number, (rank, mode, reason) in enumerate(sample.claims)
    )


def remove() -> None:
    """Take everything out of the database that `store` put in."""
    for model in (RelationType, Entity, Problem, Source):
        model._default_manager.all().delete()


@contextmanager
def in_database(blocker: DjangoDbBlocker) -> Iterator[list[Sample]]:
    """The samples, in the database for all tests of the block."""
    found = samples()
    with blocker.unblock():
        store(found)
        forget_directions()
        yield found
        remove()
        forget_directions()


class Evaluator:
    """What a query means, entity by entity, without any of the compiler's code."""

    def __init__(self, found: list[Sample]) -> None:
        self.found = found
        self.refs = {sample.ref for sample in found}

    def find(self, node: nodes.Node) -> set[str]:
        return {sample.ref for sample in self.found if self.holds(node, sample)}

    def holds(self, node: nodes.Node, sample: Sample) -> bool:
        match node:
            case nodes.And(items):
                return all(self.holds(item, sample) for item in items)
            case nodes.Or(items):
                return any(self.holds(item, sample) for item in items)
            case nodes.Not(item):
                return not self.holds(item, sample)
            case nodes.Words(value):
                texts = [sample.name, sample.title or sample.name, sample.description]
                pattern = _regex(value, around=True)
                return any(pattern.fullmatch(text.upper()) for text in texts)
            case nodes.Filter(name, values):
                return any(self.has(name.lower(), value, sample) for value in values)

    def has(self, name: str, value: nodes.Value, sample: Sample) -> bool:
        any_value = not value.is_quoted and value.operator == "=" and set(value.text) == {"*"}
        if not value.text and value.operator == "=" and name not in ("ref", "uid"):
            return not self.exists(name, sample) or "" in self.leaves(name, sample)
        match name:
            case "kind" | "namespace" | "name" | "type" | "lifecycle" | "run" | "version":
                own = {"type": sample.spec.get("type", ""), "lifecycle": sample.spec.get("lifecycle", "")}
                text = own[name] if name in own else getattr(sample, name)
                return bool(text) if any_value else _is(text, value)
            case "tag" | "source":
                texts = sample.metadata.get("tags", []) if name == "tag" else sample.sources
                if not value.text:
                    return not texts
                return bool(texts) if any_value else any(_is(text, value) for text in texts)
            case "owner" | "system":
                ref = getattr(sample, name)
                if any_value or not value.text:
                    return bool(ref) is any_value
                return _ref_is(ref, value)
            case "ref":
                return any_value or _ref_is(sample.ref, value)
            case "uid":
                return str(sample.uid) == value.text
            case "title" | "description":
                if any_value:
                    return bool(getattr(sample, name))
                text = getattr(sample, name) or (sample.name if name == "title" else "")
                return bool(
                    _regex(value, around="*" not in value.text or value.is_quoted).fullmatch(text.upper())
                )
            case "changed" | "created" | "ran":
                moment = getattr(sample, name)
                return moment is not None and (any_value or _within(moment, value))
            case "problem":
                return any(_is(code, value) for code, is_open in sample.problems if is_open)
            case "conflict":
                path = {"owner": "spec.owner", "type": "spec.type"}.get(value.text, value.text)
                return bool(sample.conflicts) if any_value else path in sample.conflicts
            case "is":
                asserted = [rank for rank, mode, _reason in sample.claims if mode == ClaimMode.ASSERT]
                return {
                    "mine": sample.owner in MINE,
                    "stale": any(reason for _rank, _mode, reason in sample.claims),
                    "inferred": bool(asserted) and set(asserted) == {Rank.INFERRED},
                }[value.text]
            case "has":
                return self.exists(value.text.lower(), sample)
        ends = list(self.ends(name.removeprefix("relations."), sample))
        if self.is_relation(name):
            return bool(ends) if any_value else any(_ref_is(ref, value) for ref in ends)
        if any_value:
            return bool(self.leaves(name, sample) or self.leaves(f"{name}.", sample))
        return any(_leaf_is(leaf, value) for leaf in self.leaves(name, sample))

    @staticmethod
    def leaves(name: str, sample: Sample) -> list[Any]:
        path = re.sub(
            "^label[.]", "metadata.labels.", re.sub("^annotation[.]", "metadata.annotations.", name)
        )
        return [leaf for found, leaf in sample.leaves() if found == path]

    def exists(self, name: str, sample: Sample) -> bool:
        match name:
            case "problem":
                return any(is_open for _code, is_open in sample.problems)
            case "conflict":
                return bool(sample.conflicts)
            case "ran":
                return sample.ran is not None
        return self.has(name, nodes.Value("*"), sample)

    @staticmethod
    def is_relation(name: str) -> bool:
        names = {*RELATIONS, *RELATIONS.values()}
        return name.removeprefix("relations.") in {known.lower() for known in names}

    def ends(self, name: str, sample: Sample) -> Iterator[str]:
        for type_, inverse in RELATIONS.items():
            if name == type_.lower():
                yield from (ref for found, ref in sample.relations if found == type_)
                yield from (
                    ref for found, ref, state in sample.ties if found == type_ and state != "forbidden"
                )
            if name == inverse.lower():
                for other in self.found:
                    if (type_, sample.ref) in other.relations:
                        yield other.ref
                    if any(t == type_ and r == sample.ref and s != "forbidden" for t, r, s in other.ties):
                        yield other.ref


def _regex(value: nodes.Value, *, around: bool = False) -> re.Pattern[str]:
    parts = [value.text] if value.is_quoted else value.text.split("*")
    pattern = ".*".join(re.escape(part.upper()) for part in parts)
    return re.compile(f".*{pattern}.*" if around else pattern, re.DOTALL)


def _is(text: str, value: nodes.Value) -> bool:
    return bool(_regex(value).fullmatch(text.upper()))


def _ref_is(ref: str, value: nodes.Value) -> bool:
    if value.text == "@me":
        return ref in MINE
    parts = re.fullmatch(r"(?:([^:/]+):)?(?:([^:/]+)/)?([^:/]+)", value.text)
    own = re.fullmatch(r"([^:]+):([^/]+)/(.+)", ref)
    if parts is None or own is None:
        return False
    return all(
        part is None or _is(mine, nodes.Value(part, is_quoted=value.is_quoted))
        for part, mine in zip(parts.groups(), own.groups(), strict=True)
    )


def _leaf_is(leaf: Any, value: nodes.Value) -> bool:
    if leaf is None:
        return False
    text = str(leaf).lower() if isinstance(leaf, bool) else str(leaf)
    text = text.removesuffix(".0") if isinstance(leaf, float) else text
    if value.operator == "=":
        return (len(text) <= 200 or "*" in value.text) and _is(text, value)
    lower, upper = {
        "..": (value.text, value.upper),
        ">": (value.text, ""),
        ">=": (value.text, ""),
    }.get(value.operator, ("", value.text))
    is_number = re.compile(r"-?\d+(\.\d+)?").fullmatch
    if all(is_number(end) for end in (lower, upper) if end):
        if not is_number(text):
            return False
        number = float(text)
        return (
            (not lower or number >= float(lower))
            and (not upper or number <= float(upper))
            and not (value.operator in "<>" and number == float(value.text))
        )
    if not re.match(r"\d{4}-\d\d-\d\d", text):
        return False
    day = text[:10]
    if value.text == "7d":
        week_ago = (NOW - timedelta(days=7)).date().isoformat()
        return (
            day >= week_ago
            if value.operator in ("<", "<=")
            else day < week_ago or (value.operator == ">=" and day == week_ago)
        )
    return (
        (not lower or day >= lower)
        and (not upper or day <= upper)
        and not (value.operator in "<>" and day == value.text)
    )


def _within(moment: datetime, value: nodes.Value) -> bool:
    """Only for the values that the tests use."""
    day = timedelta(days=1)
    week = NOW - 7 * day
    tests = {
        "=7d": moment >= week,
        "<7d": moment > week,
        "<=7d": moment >= week,
        ">7d": moment < week,
        ">=7d": moment <= week,
        "1d..7d": week <= moment <= NOW - day,
        "7d..": moment <= week,
        "=2026-01-31": moment.date().isoformat() == "2026-01-31",
        ">2026-01-31": moment.date().isoformat() > "2026-01-31",
        ">=2026-01-31": moment.date().isoformat() >= "2026-01-31",
        "<2026-01-31": moment.date().isoformat() < "2026-01-31",
        "<=2026-01-31": moment.date().isoformat() <= "2026-01-31",
        "=2026-01": moment.strftime("%Y-%m") == "2026-01",
        ">2026-01": moment.strftime("%Y-%m") > "2026-01",
        "=2026": moment.year == 2026,
        "2026-01-31..2026-06-12": "2026-01-31" <= moment.date().isoformat() <= "2026-06-12",
        "..2026-01-31": moment.date().isoformat() <= "2026-01-31",
        "=today": moment.date() == NOW.date(),
        ">=yesterday": moment.date() >= (NOW - day).date(),
        ">2026-06-15T11:30": moment >= datetime(2026, 6, 15, 11, 31, tzinfo=UTC),
        "=2026-06-15T13:30+02:00": moment.strftime("%Y-%m-%dT%H:%M") == "2026-06-15T11:30",
    }
    return tests[f"{value.text}..{value.upper}" if value.operator == ".." else value.operator + value.text]
