"""The parts of entities that search finds beside them."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from access.models import User
from access.permissions import visible
from catalog.models import Entity, Passage, PassageSort
from catalog.search.words import query, vector, words_of
from catalog.services.passages import MAX_TEXT, MOST, Part, replace_passages
from tests.catalog.saying import claim, component, say, writes

OPERATION = PassageSort.OPERATION
PAGE = PassageSort.PAGE


@pytest.fixture
def pets(core_pack: None) -> Entity:
    spec = {"type": "openapi", "lifecycle": "production", "owner": "pets", "definition": "openapi: 3.1.0"}
    say("yaml:pets", claim("api:pets", spec))
    return Entity.objects.get(name="pets")


def keys_of(entity: Entity, sort: str = OPERATION) -> list[str]:
    return list(entity.passages.filter(sort=sort).order_by("position").values_list("key", flat=True))


def test_what_is_said_replaces_what_was_there_of_that_sort_alone(pets: Entity) -> None:
    replace_passages(sort=PAGE, passages={pets.pk: [Part("README.md", "Pets")]})
    parts = [Part("GET /pets", "List pets", "All of them."), Part("POST /pets", "Add a pet")]
    assert replace_passages(sort=OPERATION, passages={pets.pk: parts}) == 2
    assert keys_of(pets) == ["GET /pets", "POST /pets"]

    assert replace_passages(sort=OPERATION, passages={pets.pk: parts[1:]}) == 2  # one went, one moved
    assert keys_of(pets) == ["POST /pets"]
    assert replace_passages(sort=OPERATION, passages={pets.pk: []}) == 1
    assert keys_of(pets) == []
    assert keys_of(pets, PAGE) == ["README.md"]


def test_what_is_the_same_is_not_written_again(pets: Entity) -> None:
    parts = [Part(f"GET /pets/{number}", f"Pet {number}") for number in range(50)]
    replace_passages(sort=OPERATION, passages={pets.pk: parts})
    before = dict(pets.passages.values_list("key", "id"))
    with writes() as written:
        assert replace_passages(sort=OPERATION, passages={pets.pk: parts}) == 0
    assert written == []

    parts[7] = Part("GET /pets/7", "The seventh pet")
    assert replace_passages(sort=OPERATION, passages={pets.pk: parts}) == 1
    assert dict(pets.passages.values_list("key", "id")) == before
    assert pets.passages.get(key="GET /pets/7").title == "The seventh pet"


def test_many_entities_take_two_statements_and_those_that_are_gone_are_left_out(pets: Entity) -> None:
    say("yaml:services", *(component(f"service-{number}") for number in range(5)))
    ids = list(Entity.objects.values_list("pk", flat=True))
    with CaptureQueriesContext(connection) as asked:
        said = {pk: [Part("README.md", f"Of {pk}", "Text")] for pk in [*ids, 987_654_321]}
        assert replace_passages(sort=PAGE, passages=said) == len(ids)
    assert (
        len([query for query in asked if "SAVEPOINT" not in query["sql"]]) == 2
    )  # what is there; what is written


def test_too_much_is_cut_and_what_a_database_cannot_hold_is_taken_out(pets: Entity) -> None:
    parts = [
        Part("long", "T\0 \n title", "word " * 100_000),
        Part("long", "said twice"),
        Part("", "no key"),
        Part("\ud800", "half a character"),
        *(Part(f"n{number}", "") for number in range(MOST + 10)),
    ]
    assert replace_passages(sort=PAGE, passages={pets.pk: parts}) == MOST
    first = pets.passages.order_by("position").first()
    assert first is not None
    assert (first.key, first.title, len(first.text)) == ("long", "T title", MAX_TEXT)


def test_one_sees_passages_of_what_one_sees(pets: Entity, vic: User, cleo: User) -> None:
    replace_passages(sort=PAGE, passages={pets.pk: [Part("README.md", "Pets")]})
    assert visible(vic, Passage.objects.all()).count() == 1
    assert visible(cleo, Passage.objects.all()).count() == 0


def matches(text: str, *asked: str) -> bool:
    wanted = " & ".join(query(word) for one in asked for word in words_of(one))
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::tsvector @@ %s::tsquery", [vector((text, "A")), wanted])
        return bool(cursor.fetchone()[0])


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("GET /pets/{petId}", "pets petid"),
        ("GET /pets/{petId}", "id"),
        ("listPets", "pets"),
        ("listPets", "LISTPETS"),
        ("parseHTTPHeader", "header"),
        ("snake_case_name", "case_name"),
        ("Übersicht der Müllabfuhr", "uebersicht mull"),
        ("Übersicht der Müllabfuhr", "ÜBERSICHT müllabfuhr"),
        ("Straße", "strasse"),
        ("Café au lait", "cafe"),
        ("Cafe\u0301", "café"),
        ("An accent \u0301 alone", "accent \u0302 alone"),
        ("Платёжный шлюз", "платежный"),
        ("支払いゲートウェイの設定", "ゲートウェイ"),
        ("部署到生产环境", "生产"),
        ("ﬁle ＡＰＩ", "file api"),
        ("हिन्दी दस्तावेज़", "हिन्दी"),
        ("Installing on Linux", "install lin"),
    ],
)
def test_words_are_found_however_they_are_written(db: Any, text: str, asked: str) -> None:
    assert matches(text, asked)


@pytest.mark.parametrize(("text", "asked"), [("payments", "ments"), ("部署到生产环境", "产生"), ("a b", "c")])
def test_words_that_are_not_there_are_not_found(db: Any, text: str, asked: str) -> None:
    assert not matches(text, asked)


@given(st.text(max_size=200))
def test_any_text_makes_a_vector_that_holds_its_words(text: str) -> None:
    said = vector((text, "A"), (text, "D"))
    for word in words_of(text):
        assert word
        assert not set(word) & set("'\\ \0")
        for part in query(word).strip("()").split(" & "):
            assert f"{part.removesuffix('*')}" in said
