"""The box at the top: what was meant comes first, a slip of the pen finds it too, and nothing that is hidden."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.db import connection
from django.db.models.functions import Upper
from django.test import Client

from access.models import User
from catalog import queries
from tests.catalog.saying import claim, component, say

pytestmark = pytest.mark.django_db
Suggest = Callable[..., list[str]]


@pytest.fixture
def suggest(browse: Callable[[User], Client], ben: User) -> Suggest:
    def ask(text: str, who: User = ben) -> list[str]:
        page = browse(who).get("/search/suggest", {"q": text}).content.decode()
        return [match.split("/")[-1] for match in re.findall(r'href="(/catalog/[^"]+)"', page)]

    return ask


@pytest.fixture(autouse=True)
def company(core_pack: None) -> None:
    names = ["pay", "pay-api", "apay", "payment-checkout", "ledger", "login-web", "warehouse-models"]
    say("yaml:a", *[component(name) for name in names])
    say("yaml:b", claim("component:aaa", {"type": "x"}, metadata={"title": "About the money ledger"}))
    say("yaml:b", claim("component:zzz", {"type": "x"}, metadata={"title": "Money ledger"}))
    say("yaml:c", component("elsewhere/paymnts-vault"))


def test_the_exact_name_is_first_then_what_begins_so_then_what_holds_it(suggest: Suggest) -> None:
    found = suggest("pay")
    assert found[:2] == ["pay", "pay-api"]
    assert "apay" in found
    assert suggest("PAY")[0] == "pay"


def test_the_exact_title_is_before_what_only_holds_it(suggest: Suggest) -> None:
    assert suggest("money ledger") == ["zzz", "aaa"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("paymnt-chekout", "payment-checkout"),
        ("payment chekcout", "payment-checkout"),
        ("ledgre", "ledger"),
        ("logn-web", "login-web"),
        ("warehose models", "warehouse-models"),
    ],
)
def test_a_slip_of_the_pen_finds_what_was_meant(suggest: Suggest, typed: str, meant: str) -> None:
    assert suggest(typed)[0] == meant


def test_what_is_like_nothing_or_hidden_is_not_offered(suggest: Suggest, cleo: User, ben: User) -> None:
    assert suggest("xylophone") == []
    assert suggest("ldg") == []
    assert suggest("ledgre", cleo) == []
    assert suggest("paymnts-valt", cleo) == ["paymnts-vault"]


def test_names_that_are_alike_are_found_by_an_index(ben: User) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO catalog_entity (uid, ref, kind, namespace, name, title, description, type, lifecycle, owner,
                system, tags, sources, tokens, last_run, version, signals, digest, revision, created_at, changed_at)
            SELECT gen_random_uuid(), 'component:default/thing-' || n, 'component', 'default', 'thing-' || n,
                'Thing ' || n, '', '', '', '', '', '{}', '{}', '{}', '', '', '{}', '', 1, now(), now()
            FROM generate_series(1, 3000) AS n
            """
        )
        cursor.execute("ANALYZE catalog_entity")
    rows = queries.list_entities(ben).alias(upper=Upper("name")).filter(upper__trigram_similar="LEDGRE")
    assert "entity_text" in rows.explain()
