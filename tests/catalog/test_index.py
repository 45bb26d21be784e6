"""The index in memory says what the database says, whatever is written meanwhile."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import orjson
import pytest
from django.db import OperationalError, connection, transaction
from django.db.models import Q
from django.test.utils import CaptureQueriesContext

from access.models import User
from access.permissions import visible
from access.services import grant
from catalog.counting import counting
from catalog.index import Index, columns, entities, forget_index, index
from catalog.index.columns import COLUMNS
from catalog.index.fields import Field, parse_values, path_of
from catalog.index.statements import each, fetch
from catalog.models import Entity, Served, Touched
from catalog.query import FACETS
from catalog.query.refs import RefPattern
from catalog.query.relations import directions_called
from catalog.query.tokens import token
from catalog.services.render import render_dirty
from tests.catalog.counted import check_counts
from tests.catalog.saying import START, claim, say, unsay

pytestmark = pytest.mark.django_db(transaction=True)

EDGES = (
    ("ownedby", "group:default/team-1"),
    ("ownerof", "component:default/c1"),
    ("dependson", "component:default/c2"),
    ("dependencyof", "component:default/c3"),
)
FIELDS = (
    "metadata.name",
    "metadata.title",
    "spec.owner",
    "metadata.tags",
    "metadata.uid",
    "metadata.namespace",
)


@pytest.fixture(autouse=True)
def own_index(core_pack: None) -> Iterator[None]:
    """Its own, for the database is emptied after each test."""
    forget_index()
    yield
    forget_index()


def ids(rows: Any) -> set[int]:
    return set(rows.values_list("pk", flat=True))


def check(viewers: list[Any]) -> None:
    """Compare all that is kept with what a fresh look finds."""
    alive = Entity.objects.filter(deleted_at=None)
    with index() as kept:
        assert set(kept.everything) == ids(alive)
        for word in (token("kind", "component"), token("spec.owner", "team-1"), token("metadata.tags", "go")):
            assert set(kept.with_token(word)) & ids(alive) == ids(alive.filter(tokens__contains=[word]))
        assert set(kept.where(alive.filter(name__startswith="c1"))) == ids(
            alive.filter(name__startswith="c1")
        )
        for viewer in viewers:
            assert set(kept.seen_by(viewer)) == ids(visible(viewer, alive))
            for name, ref in EDGES:
                rows = alive.filter(_related(name, ref))
                if viewer is viewers[0]:
                    assert set(kept.related(name, ref, seen=kept.seen_by(viewer))) == ids(rows)
        texts = Served.objects.filter(entity__deleted_at=None).values_list("pk", "document")
        documents = {pk: orjson.loads(text) for pk, text in texts}
        for name in FIELDS[:4]:
            wanted = {}
            for pk, document in documents.items():
                at = document
                for step in path_of(name):
                    at = at.get(step) if isinstance(at, dict) else None
                if (found := parse_values(at)) is not None:
                    wanted[pk] = found
            field = kept.field(name)
            assert field.values == wanted
            assert set(field.having) == set(wanted)
            fresh = Index().come_up().field(name)
            assert field.order == fresh.order
            assert field.counts(kept.everything) == fresh.counts(kept.everything)
            assert set(kept.containing(name, "e")) == set(Index().come_up().containing(name, "e"))
        for name, column in kept.columns(COLUMNS).items():
            having = defaultdict(set)
            for pk, value in alive.values_list("pk", name):
                for one in [value] if isinstance(value, str) else value:
                    having[one].add(pk)
            assert {value: set(found) for value, found in column.having.items()} == having
    for viewer in viewers:
        for text in (
            "",
            "type:service -tag:java",
            "dependsOn:c2 OR c1",
            "ownedBy:* owner:team-1 changed:<7d",
        ):
            check_counts(viewer, text, now=START + timedelta(days=1))


def _related(name: str, ref: str) -> Q:
    found = Q(pk__in=[])
    for way in directions_called(name):
        found |= way.entities([RefPattern.of(ref)])
    return found


def write(chance: random.Random, minute: int) -> None:
    """Something that sources, people or the queue do."""
    names = [f"c{number}" for number in range(8)]
    said = [
        claim(
            f"component:{name}",
            {
                "type": chance.choice(["service", "library"]),
                "owner": f"team-{chance.randrange(3)}",
                "dependsOn": [f"component:{other}" for other in chance.sample(names, chance.randrange(3))],
            },
            metadata={
                "title": chance.choice(["One", "two", "Three"]),
                "tags": chance.sample(["go", "Java", "c"], 2),
            },
            minute=minute,
        )
        for name in chance.sample(names, chance.randint(1, 4))
    ]
    match chance.randrange(5):
        case 0:
            some = chance.sample(names, 2)
            unsay("yaml:a", *(f"component:{name}" for name in some), minute=minute)
        case 1:
            say(
                "yaml:a",
                *said,
                claim(f"group:team-{chance.randrange(3)}", {"type": "team", "children": []}, minute=minute),
            )
        case 2:
            Entity.objects.filter(name=chance.choice(names)).update(
                owner=f"group:default/team-{chance.randrange(3)}"
            )
        case _:
            say("yaml:a", *said)
    render_dirty(at=START)


@pytest.mark.parametrize("seed", range(3))
def test_it_follows_whatever_is_written(seed: int, vic: User) -> None:
    third = User.objects.create(username="third")
    for scope in ("owner:group:default/team-1", "type:library tag:java", "type:website,none"):
        grant(user=third, role="viewer", scope_type="query", scope=scope)
    chance = random.Random(seed)
    for minute in range(12):
        write(chance, minute)
        if chance.random() < 0.8:
            check([vic, third])


def test_a_write_costs_one_look_at_what_it_touched(vic: User) -> None:
    say("yaml:a", *(claim(f"component:c{number}", {"type": "service"}) for number in range(50)))
    with index() as kept:
        kept.with_token(token("spec.type", "service"))
        assert len(kept.field("metadata.name").order) == 50
    say("yaml:a", claim("component:c7", {"type": "library"}, minute=1))
    with CaptureQueriesContext(connection) as asked, index() as kept:
        assert len(kept.with_token(token("spec.type", "service"))) == 49
        assert len(kept.field("metadata.name").order) == 50
    assert len(asked) == 0  # what it asks is prepared, and counted nowhere
    assert len(kept._batches) == 1
    assert len(kept._batches[0].rows) == 1


def test_what_was_counted_a_moment_ago_is_counted_again_by_one_small_statement(
    vic: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(entities, "fetch", lambda sql, *given: asked.append(sql) or fetch(sql, *given))
    monkeypatch.setattr(columns, "each", lambda sql, *given: asked.append(sql) or each(sql, *given))

    def counted(text: str) -> int:
        with counting(vic, now=START) as counts:
            facets = counts.facets(text, FACETS)
            assert [facet.field for facet in facets] == list(FACETS)
            assert sum(counts.sizes(text, "type").values()) == counts.total(text)
            return counts.total(text)

    say("yaml:a", *(claim(f"component:c{number}", {"type": "service"}) for number in range(50)))
    assert counted("kind:component type:service c4") == 11
    (of_columns,) = [sql for sql in asked if "GROUPING" in sql]
    assert all(name in of_columns for name in COLUMNS)
    asked.clear()
    assert counted("kind:component type:service c4") == 11
    assert len(asked) == 1
    asked.clear()
    assert counted("kind:component -type:service OR c4") == 11
    assert len(asked) == 1  # of other mixes of the same terms nothing is looked up either
    say("yaml:a", claim("component:c7", {"type": "library"}, minute=1))
    asked.clear()
    assert counted("type:service") == 49
    assert len(asked) == 2  # what was touched, and how it is now


def test_what_could_not_be_read_is_read_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    say("yaml:a", claim("component:c1", {"type": "service"}))
    service = token("spec.type", "service")
    with index() as kept:
        assert len(kept.with_token(service)) == 1
    say("yaml:a", claim("component:c1", {"type": "library"}, minute=1))

    def lost(sql: str, *given: Any) -> Any:
        if "catalog_served" in sql:
            raise OperationalError
        return fetch(sql, *given)

    with monkeypatch.context() as broken:
        broken.setattr(entities, "fetch", lost)
        with pytest.raises(OperationalError), index():
            pass
    with index() as kept:
        assert len(kept.with_token(service)) == 0


def test_the_first_entity_of_all_is_seen() -> None:
    with index() as kept:
        assert not kept.everything
    say("yaml:a", claim("component:c1", {"type": "service"}))
    with index() as kept:
        assert len(kept.everything) == 1


def test_what_was_not_asked_for_during_many_changes_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entities, "MOST_CHANGES", 5)
    say("yaml:a", *(claim(f"component:c{number}", {"type": "service"}) for number in range(3)))
    service, library = (token("spec.type", text) for text in ("service", "library"))
    with index() as kept:
        assert (len(kept.with_token(service)), len(kept.with_token(library))) == (3, 0)
    for minute in range(1, 8):
        say("yaml:a", claim(f"component:c{minute % 3}", {"type": "library"}, minute=minute))
        with index() as kept:
            assert len(kept.with_token(library)) == min(minute, 3)
            assert sum(len(batch.rows) for batch in kept._batches) <= 5
    with index() as kept:
        assert len(kept.with_token(service)) == 0


def test_what_nobody_else_sees_yet_is_seen_inside_its_transaction_alone() -> None:
    say("yaml:a", claim("component:c1", {"type": "service"}))
    with index() as shared:
        assert len(shared.everything) == 1
    try:
        with transaction.atomic():
            say("yaml:a", claim("component:c2", {"type": "service"}))
            with index() as own:
                assert own is not shared
                assert len(own.everything) == 2
            raise RuntimeError
    except RuntimeError:
        pass
    with index() as shared:
        assert len(shared.everything) == 1


def test_an_entity_that_is_newer_than_the_last_look_stands_once_in_the_order() -> None:
    uids = {1: "u1"}
    field = Field("spec.type", [(1, "b"), (2, "a")], uids)
    assert [pk for _value, _uid, pk in field.order] == [1]
    uids[2] = "u2"
    field.put(2, "a")
    assert [pk for _value, _uid, pk in field.order] == [2, 1]
    field.put(2, "c")
    assert [pk for _value, _uid, pk in field.order] == [1, 2]


def test_too_many_changes_are_not_named() -> None:
    say("yaml:a", claim("component:c1", {"type": "service"}))
    with index() as kept:
        assert len(kept.everything) == 1
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO catalog_entity (uid, ref, kind, namespace, name, title, description, type, lifecycle, owner,
                system, tags, sources, tokens, last_run, version, signals, digest, revision, created_at, changed_at)
            SELECT gen_random_uuid(), 'component:x/n' || n, 'component', 'x', 'n' || n, '', '', '', '', '', '',
                '{}', '{}', '{}', '', '', '{}', '', 1, now(), now() FROM generate_series(1, 6000) AS n
            """
        )
    assert list(Touched.objects.order_by("id").values_list("ids", flat=True))[-1] is None
    with index() as kept:
        assert len(kept.everything) == 6_001


def test_what_it_failed_to_take_in_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    say("yaml:a", claim("component:c1", {"type": "service"}))
    service = token("spec.type", "service")
    with index() as kept:
        assert len(kept.with_token(service)) == 1
    say("yaml:a", claim("component:c2", {"type": "service"}, minute=1))
    monkeypatch.setattr(Index, "_take_in", _fail)
    with pytest.raises(OSError, match="lost"), index():
        pass
    monkeypatch.undo()
    with index() as kept:
        assert len(kept.with_token(service)) == 2


def _fail(*_given: Any) -> None:
    raise OSError("lost")


def test_what_is_kept_is_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entities, "MOST_BYTES", 2_000)
    monkeypatch.setattr(entities, "MOST_VALUES", 5)
    monkeypatch.setattr(entities, "MOST_COLUMN_VALUES", 5)
    say("yaml:a", *(claim(f"component:c{number}", {"type": f"t{number}"}) for number in range(3)))
    with index() as kept:
        for number in range(20):
            assert len(kept.with_token(token("spec.type", f"t{number}"))) == (number < 3)
        assert len(kept._sets) < 10
        assert kept._bytes == sum(one.size for one in kept._sets.values())
        for name in ("metadata.name", "spec.type", "kind"):
            assert len(kept.field(name).values) == 3
        assert list(kept._fields) == ["kind"]
        for name in ("kind", "type", "namespace", "owner"):
            assert len(kept.columns([name])[name].having) == (3 if name == "type" else 1)
        assert list(kept._columns) == ["type", "namespace", "owner"]
        assert len(kept.columns(COLUMNS)["type"].having) == 3
        assert list(kept._columns) == []
