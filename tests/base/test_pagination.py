from itertools import chain

import orjson
import pytest
from rest_framework.request import Request

from access.models import AuditEvent
from base.errors import BadRequest
from base.pagination import BadCursor, KeysetPagination, Page, list_answer, paginate, read_limit

ORDER = ("verb", "-id")


@pytest.fixture
def rows(db):
    """Nine rows, three of each of three verbs; ids ascend across them."""
    for number in range(9):
        AuditEvent.objects.create(actor_type="system", actor_label=str(number), verb="abc"[number % 3])
    return AuditEvent.objects.all()


def labels(page):
    return [getattr(row, "actor_label", None) or row["actor_label"] for row in page.rows]


EXPECTED = ["6", "3", "0", "7", "4", "1", "8", "5", "2"]


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 8, 9, 10])
def test_there_and_back_again(rows, limit):
    page = paginate(rows, order=ORDER, limit=limit)
    assert page.previous is None
    pages = [labels(page)]
    while page.next:
        page = paginate(rows, order=ORDER, limit=limit, cursor=page.next)
        pages.append(labels(page))
    assert list(chain(*pages)) == EXPECTED
    back = [labels(page)]
    while page.previous:
        page = paginate(rows, order=ORDER, limit=limit, cursor=page.previous)
        back.insert(0, labels(page))
        assert page.next
    assert back == pages


def test_rows_that_come_and_go_move_nothing(rows):
    first = paginate(rows, order=("-id",), limit=3)
    AuditEvent.objects.create(actor_type="system", actor_label="new", verb="a")
    second = paginate(rows, order=("-id",), limit=3, cursor=first.next)
    assert labels(first) + labels(second) == ["8", "7", "6", "5", "4", "3"]
    before = paginate(rows, order=("-id",), limit=9, cursor=second.previous)
    assert labels(before) == ["new", "8", "7", "6"]


def test_times_and_other_shapes_of_rows(rows):
    order = ("at", "id")
    for shape, key in [
        (rows.values("at", "id", "actor_label"), None),
        (rows.values_list("at", "id", "actor_label", named=True), None),
        (rows.values_list("at", "id", "actor_label"), lambda row: row[:2]),
    ]:
        page = paginate(shape, order=order, limit=4, key=key)
        rest = paginate(shape, order=order, limit=5, cursor=page.next, key=key)
        found = [row["id"] if isinstance(row, dict) else row[1] for row in page.rows + rest.rows]
        assert found == sorted(row.id for row in rows)
        assert rest.next is None


def test_an_empty_list(db):
    assert paginate(AuditEvent.objects.all(), order=("id",)) == Page([], None, None)


@pytest.mark.parametrize("cursor", ["x", "a.b.c", "é", "." * 50, "eyJhIjoxfQ.AAAA"])
def test_a_broken_cursor_is_told(rows, cursor):
    with pytest.raises(BadCursor) as caught:
        paginate(rows, order=("id",), cursor=cursor)
    assert caught.value.status == 400


def test_a_changed_cursor_and_one_of_another_order_are_told(rows):
    cursor = paginate(rows, order=("id",), limit=1).next
    with pytest.raises(BadCursor):
        paginate(rows, order=("id",), cursor="A" + cursor[1:])
    with pytest.raises(BadCursor, match="another order"):
        paginate(rows, order=("-id",), cursor=cursor)


@pytest.mark.parametrize(("text", "limit"), [(None, 50), ("", 50), ("1", 1), ("1000", 1000)])
def test_limits(text, limit):
    assert read_limit(text) == limit


@pytest.mark.parametrize("text", ["0", "1001", "-1", "x", "1.5", "٣", "1e2", "9" * 5000])
def test_wrong_limits(text):
    with pytest.raises(BadRequest, match="from 1 to 1000") as caught:
        read_limit(text)
    assert len(caught.value.message) < 200


def test_the_answer_keeps_the_query_in_its_links(rows, rf):
    class View:
        ordering = ORDER

    asked = Request(rf.get("/things/?q=a+b&limit=4&fields=actor"))
    pagination = KeysetPagination()
    found = pagination.paginate_queryset(rows, asked, View())
    shown = [{"actor": row.actor_label, "id": row.pk} for row in found]
    answer = orjson.loads(pagination.get_paginated_response(shown).content)
    assert (answer["results"], answer["total"], answer["previous"]) == (
        [{"actor": actor} for actor in EXPECTED[:4]],
        9,
        None,
    )
    assert answer["next"].startswith("http://testserver/things/?")
    assert "q=a+b" in answer["next"]
    assert "limit=4" in answer["next"]
    assert list_answer(asked, [], Page([], None, None), total=0) == {
        "results": [],
        "next": None,
        "previous": None,
        "total": 0,
    }
