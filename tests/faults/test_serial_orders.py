"""Two workers that import overlapping sources at once end where some serial order of their steps ends.

Each worker has a thread and a connection of its own; which of them sends its next statement is drawn, so an
interleaving that fails is found again and made small. What waits for a lock of the other is left to wait.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from django.apps import apps
from django.db import connection, transaction
from django.db.models import Model
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from catalog.models import (
    Alias,
    Claim,
    DirtyEntity,
    Entity,
    EntityKey,
    FeedItem,
    FormerKey,
    Kind,
    KindField,
    Problem,
    Rank,
    Relation,
    RelationType,
    Revision,
    Served,
    Source,
    Tie,
)
from catalog.services.edit import Words, say_words
from catalog.services.ingest import ClaimIn, apply_claims, drop_claims, lock_entities, mark_stale
from catalog.services.render import render_dirty
from tests.catalog.saying import START, claim, source

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("core_pack", "known_definitions"),
]

SOURCES = ("yaml:a", "yaml:b", "connection:c/repositories")
PERSON = "person:p"
_KEPT = (Source, Kind, KindField, RelationType)


@pytest.fixture
def known_definitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody changes definitions meanwhile, so nobody looks: an interleaving would else depend on the clock."""
    monkeypatch.setattr("access.definitions.STAMP_SECONDS", 3_600.0)
    for key in (*SOURCES, PERSON):
        source(key)


# --- what workers do --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """One claim of a page.

    :ivar thing: by what the source knows it.
    :ivar name: what it declares to be; the same thing by another name is renamed.
    :ivar on: what it depends on, which may come later or never.
    """

    thing: str
    name: str
    on: tuple[str, ...] = ()
    owner: str = "crew"
    minute: int = 0
    word: str = ""

    def by(self, key: str) -> ClaimIn:
        """The claim as that source makes it."""
        metadata = {"description": self.word} if self.word else {}
        if key.startswith("connection:"):
            # A tool names nothing: what it speaks of is known by its key.
            return claim(
                "repository:-",
                {"defaultBranch": self.word or "main"},
                id=self.thing,
                rank=Rank.CONNECTION,
                minute=self.minute,
                keys=(f"repo:git.example/{self.name}",),
                suggested_name=self.name,
            )
        if self.thing == "crew":
            return claim(
                f"group:{self.owner}", {"type": "team", "children": []}, id="crew", minute=self.minute
            )
        return claim(
            f"component:{self.name}",
            {
                "type": "service",
                "lifecycle": "production",
                "owner": self.owner,
                "dependsOn": [f"component:{name}" for name in self.on],
            },
            id=self.thing,
            metadata=metadata,
            minute=self.minute,
            about=(f"repo:git.example/{self.name}",),
        )


@dataclass(frozen=True)
class Say:
    """A page of claims."""

    who: str
    claims: tuple[Said, ...]

    def do(self) -> None:
        page = [said.by(self.who) for said in self.claims]
        if page:
            apply_claims(source=source(self.who), claims=page, at=START, by=self.who)


@dataclass(frozen=True)
class Unsay:
    """What a source has no longer."""

    who: str
    things: tuple[str, ...]

    def do(self) -> None:
        drop_claims(source=source(self.who), external_ids=self.things, at=START, by=self.who)


@dataclass(frozen=True)
class Unreadable:
    """What a source says and nobody can read."""

    who: str
    thing: str

    def do(self) -> None:
        mark_stale(source=source(self.who), reasons={self.thing: "It ends too early."}, at=START, by=self.who)


@dataclass(frozen=True)
class Overrule:
    """A person's word on what is there, if it is, and is what it was when they looked."""

    name: str
    owner: str

    def do(self) -> None:
        with transaction.atomic():
            ref = f"component:default/{self.name}"
            found = Entity.objects.filter(ref=ref, deleted_at=None).first()
            locked = lock_entities({found.pk}).get() if found is not None else None
            if locked is not None and locked.is_alive and locked.ref == ref:
                say_words([Words(source(PERSON), locked, {"spec": {"owner": self.owner}}, {})], by=PERSON)


@dataclass(frozen=True)
class Render:
    """The end of an import."""

    def do(self) -> None:
        render_dirty(at=START)


Step = Say | Unsay | Unreadable | Overrule | Render
THINGS = ("one", "two", "three", "crew")
NAMES = ("pay", "cart", "mail")


def steps() -> st.SearchStrategy[Step]:
    """Steps that often speak of the same few things."""
    who, things, names = st.sampled_from(SOURCES), st.sampled_from(THINGS), st.sampled_from(NAMES)
    said = st.builds(
        Said,
        thing=things,
        name=names,
        on=st.lists(names, max_size=2, unique=True).map(tuple),
        owner=st.sampled_from(("crew", "band")),
        minute=st.integers(0, 2),
        word=st.sampled_from(("", "old", "new")),
    )
    pages = st.lists(said, min_size=1, max_size=3, unique_by=lambda one: one.thing).map(tuple)
    return st.one_of(
        st.builds(Say, who, pages),
        st.builds(Say, who, pages),
        st.builds(Unsay, who, st.lists(things, min_size=1, max_size=2, unique=True).map(tuple)),
        st.builds(Unreadable, who, things),
        st.builds(Overrule, names, st.sampled_from(("crew", "band"))),
        st.just(Render()),
    )


# --- at once ----------------------------------------------------------------------------------------------


@dataclass
class _Worker:
    script: Sequence[Step]
    thread: threading.Thread | None = None
    pid: int = 0
    is_waiting: bool = False
    is_over: bool = False


@dataclass
class AtOnce:
    """Runs scripts in threads, of which one at a time goes on.

    :ivar turns: how many statements who goes first sends, then the other, and so on.
    :ivar order: whose step was done, in the order in which that was.
    """

    workers: list[_Worker]
    turns: Iterator[int]
    order: list[int] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._chosen: _Worker | None = None

    def run(self) -> None:
        for number, worker in enumerate(self.workers):
            worker.thread = threading.Thread(target=self._work, args=(number, worker), daemon=True)
            worker.thread.start()
        at = left = 0
        while not all(worker.is_over for worker in self.workers):
            self._settle()
            ready = [worker for worker in self.workers if worker.is_waiting]
            if not ready:
                continue  # each waits for another: PostgreSQL ends that
            if left == 0:
                at, left = at + 1, next(self.turns, 1_000)
            chosen = self.workers[at % len(self.workers)]
            if not chosen.is_waiting:
                chosen, left = ready[0], 1
            left -= 1
            with self._changed:
                chosen.is_waiting, self._chosen = False, chosen
                self._changed.notify_all()
        for worker in self.workers:
            assert worker.thread is not None
            worker.thread.join(10)

    def _settle(self) -> None:
        """Wait until everybody is at a statement, at the end, or held up by another."""

        def running() -> list[_Worker]:
            return [worker for worker in self.workers if not worker.is_waiting and not worker.is_over]

        for _ in range(10_000):
            with self._changed:
                if self._changed.wait_for(lambda: not running(), timeout=0.004):
                    return
                busy = running()
            if all(worker.pid and _is_held(worker.pid) for worker in busy):
                return
        raise AssertionError("somebody waits for ever")

    def _work(self, number: int, worker: _Worker) -> None:
        def gate(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
            with self._changed:
                worker.is_waiting = True
                self._changed.notify_all()
                if not self._changed.wait_for(lambda: self._chosen is worker, timeout=60):
                    raise AssertionError("its turn never came")
                self._chosen = None
            return execute(sql, params, many, context)

        try:
            connection.ensure_connection()
            worker.pid = connection.connection.info.backend_pid
            with connection.execute_wrapper(gate):
                for step in worker.script:
                    step.do()
                    self.order.append(number)
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self.errors.append(error)
        finally:
            connection.close()
            with self._changed:
                worker.is_over = True
                self._changed.notify_all()


def _is_held(pid: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", [pid])
        return bool(cursor.fetchone()[0])


# --- one after the other ----------------------------------------------------------------------------------


class _TakenBack(Exception):
    pass


def in_order(first: Sequence[Step], scripts: Sequence[Sequence[Step]], order: Sequence[int]) -> list[str]:
    """What an empty catalog says when steps are done one after the other; it is empty afterwards."""
    found: list[str] = []
    todo = [iter(script) for script in scripts]
    try:
        with transaction.atomic():
            for step in first:
                step.do()
            for number in order:
                next(todo[number]).do()
            found = facts()
            raise _TakenBack
    except _TakenBack:
        return found


def orders(counts: Sequence[int]) -> Iterator[list[int]]:
    """All ways to do steps one after the other, of which each worker does its own in order."""
    if not any(counts):
        yield []
    for number, count in enumerate(counts):
        if count:
            rest = [one - (n == number) for n, one in enumerate(counts)]
            yield from ([number, *after] for after in orders(rest))


def facts() -> list[str]:
    """All that the catalog holds once nothing is left to do, without numbers and times of its own."""
    render_dirty(at=START)
    assert not DirtyEntity.objects.exists()
    labels = {
        entity.pk: re.sub(r"~[0-9a-f]{8}$", "~", entity.ref) + ("" if entity.is_alive else " (gone)")
        for entity in Entity.objects.all()
    }
    by_uid = {uid: labels[pk] for pk, uid in Entity.objects.values_list("pk", "uid")}
    keys = dict(Source.objects.values_list("pk", "key"))

    def said() -> Iterator[Any]:
        for one in Entity.objects.filter(deleted_at=None):
            yield (
                "entity", labels[one.pk], one.title, one.description, one.owner, one.tags, one.sources,
                sorted(one.tokens), one.revision, one.signals, one.audience,
            )  # fmt: skip
        for served in Served.objects.filter(entity__deleted_at=None):
            document = orjson.loads(served.document)
            document["metadata"].pop("uid")
            yield "served", document, orjson.loads(served.relations)
        for claim_ in Claim.objects.all():
            thing = re.sub("^override:.*", "override", claim_.external_id)
            as_of = None if claim_.rank == Rank.PERSON else claim_.as_of
            yield (
                "claim", keys[claim_.source_id], thing, labels[claim_.entity_id], claim_.document, as_of,
                claim_.is_shadowed, claim_.stale_reason,
            )  # fmt: skip
        for relation in Relation.objects.filter(source__deleted_at=None):
            target = labels[relation.target_id] if relation.target_id else None
            yield "relation", labels[relation.source_id], relation.type, relation.target_ref, target
        for key in EntityKey.objects.all():
            yield "key", labels[key.entity_id], key.kind, key.key, key.path, key.is_identity
        for former in FormerKey.objects.all():
            yield "former", former.kind, former.key, labels[former.entity_id], former.source
        for alias in Alias.objects.all():
            yield "alias", alias.ref, labels[alias.entity_id]
        for tie in Tie.objects.filter(source__deleted_at=None, target__deleted_at=None):
            yield "tie", labels[tie.source_id], tie.type, labels[tie.target_id], tie.state
        for problem in Problem.objects.filter(resolved_at=None):
            yield "problem", problem.type, problem.subject_label, problem.message
        for revision in Revision.objects.all():
            yield (
                "revision", by_uid[revision.entity_uid], revision.number, revision.action, revision.by_key,
                revision.diff,
            )  # fmt: skip
        for item in FeedItem.objects.all():
            yield "feed", by_uid[item.entity_uid], item.action, item.revision

    return sorted(orjson.dumps(fact, option=orjson.OPT_SORT_KEYS).decode() for fact in said())


def _empty() -> None:
    models: list[type[Model]] = list(apps.get_app_config("catalog").get_models())
    tables = [model._meta.db_table for model in models if model not in _KEPT]
    with connection.cursor() as cursor:
        cursor.execute("BEGIN; " + "; ".join(f"DELETE FROM {table}" for table in tables) + "; COMMIT")


def check(first: Sequence[Step], scripts: Sequence[Sequence[Step]], turns: Sequence[int]) -> None:
    """Do it at once, then look for an order that gives the same."""
    _empty()
    for step in first:
        step.do()
    at_once = AtOnce([_Worker(script) for script in scripts], iter(turns))
    at_once.run()
    for error in at_once.errors:
        raise error
    found = facts()
    _empty()
    likely = in_order(first, scripts, at_once.order)
    if found == likely or any(
        in_order(first, scripts, order) == found for order in orders([len(script) for script in scripts])
    ):
        return
    more, less = sorted(set(found) - set(likely)), sorted(set(likely) - set(found))
    raise AssertionError(
        f"No order of the steps ends so: {first=} {scripts=} {turns=}\nOnly at once:\n  "
        + "\n  ".join(more)
        + f"\nOnly in the order {at_once.order}:\n  "
        + "\n  ".join(less)
    )


def _property(examples: int, *, always_the_same: bool = False) -> Callable[..., None]:
    scripts = st.lists(st.lists(steps(), min_size=1, max_size=3), min_size=2, max_size=2)

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=always_the_same,
        phases=[
            Phase.explicit,
            Phase.reuse,
            Phase.generate,
        ],  # the message says all; making it small takes long
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    @given(st.lists(steps(), max_size=3), scripts, st.lists(st.integers(1, 30), max_size=12))
    def holds(first: list[Step], scripts: list[list[Step]], turns: list[int]) -> None:
        check(first, scripts, turns)

    return holds


def test_two_workers_at_once_end_where_some_serial_order_ends() -> None:
    _property(12, always_the_same=True)()


@pytest.mark.full
def test_many_interleavings_end_where_some_serial_order_ends() -> None:
    _property(300)()
