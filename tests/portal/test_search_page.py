"""The page of the search over everything, and the box that leads to it."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape

import pytest
from django.test import Client

from access.models import User
from catalog.models import Entity, PassageSort
from catalog.services.passages import Part, replace_passages
from tests.catalog.judged.company import found_up
from tests.catalog.saying import component, say

Look = Callable[..., str]


@pytest.fixture
def look(core_pack: None, browse: Callable[[User], Client], vic: User) -> Look:
    found_up(noise=0)

    def get(path: str = "/search", who: User = vic, **params: str) -> str:
        answer = browse(who).get(path, params)
        assert answer.status_code == 200
        return answer.content.decode()

    return get


def hits(html: str) -> list[str]:
    return [unescape(url) for url in re.findall(r'<h2><a href="([^"]+)"', html)]


def test_hits_lead_to_what_they_are(look: Look) -> None:
    assert hits(look(q="pay"))[0] == "/catalog/default/component/pay"
    operation = hits(look(q="createRefund"))[0]
    assert operation.startswith("/catalog/default/api/payments?tab=definition&op=POST+%2Fcharges")
    section = hits(look(q="rotate signing keys"))[0]
    assert section.endswith("/component/secrets-rotator?tab=docs&page=docs%2Frunbook.md#md-rotate-by-hand")
    assert hits(look(q="passkeys"))[0] == "/catalog/default/component/identity-provider?tab=activity"


def test_tabs_narrow_to_a_kind_or_a_sort(look: Look) -> None:
    everything = look(q="container")
    for tab in ("in=kind:component", "in=kind:api", "in=operation"):
        assert f"/search?q=container&amp;{tab}" in everything
    assert all("/api/" in url for url in hits(look(q="container", **{"in": "kind:api"})))
    assert all("op=" in url for url in hits(look(q="container", **{"in": "operation"})))
    assert hits(look(q="crane", **{"in": "activity"})) == [
        "/catalog/default/component/crane-scheduler?tab=activity"
    ]
    assert "Nothing has “basket”" in look(q="basket", **{"in": "page"})


def test_pages_follow_one_another(look: Look, browse: Callable[[User], Client], vic: User) -> None:
    say("yaml:many", *(component(f"many-{number:03}") for number in range(45)))
    seen = hits(look(q="many"))
    assert len(seen) == 20
    assert "1-20 of 45" in look(q="many")
    seen += hits(look(q="many", **{"from": "20"})) + hits(look(q="many", **{"from": "40"}))
    assert len(set(seen)) == 45
    assert browse(vic).get("/search", {"q": "many", "from": "4000"}).status_code == 302
    assert browse(vic).get("/search", {"q": "many", "in": "unicorns"}).status_code == 302


def test_it_says_that_hits_are_left_out_only_where_some_are(look: Look) -> None:
    said = "One counts a hundred hits of each sort."
    say("yaml:many", *(component(f"many-{number:03}") for number in range(60)))
    known = Entity.objects.get(name="many-000")
    parts = [Part(f"GET /many/{number}", f"Many {number}") for number in range(60)]
    replace_passages(sort=PassageSort.OPERATION, passages={known.pk: parts})
    few = look(q="many")
    assert "of 120" in few
    assert said not in few
    say("yaml:more", *(component(f"many-{number:03}") for number in range(60, 110)))
    assert said in look(q="many", **{"from": "80"})


def test_what_was_asked_is_marked_and_texts_of_others_stay_texts(look: Look) -> None:
    found = Entity.objects.get(name="basket")
    evil = "<script>alert(1)</script> wombat <b>"
    replace_passages(sort=PassageSort.PAGE, passages={found.pk: [Part("a.md", evil, f"{evil} and text")]})
    html = look(q="wombat")
    assert "<mark>wombat</mark>" in html
    assert "<script>alert" not in html
    assert "&lt;script&gt;" in html
    assert "<script>alert" not in look(q=evil)
    suggested = look("/search/suggest", q="wombat")
    assert "<b>wombat</b>" in suggested
    assert "<script>alert" not in suggested


def test_it_says_what_it_did(look: Look, cleo: User) -> None:
    assert "“paymnt” was taken for payment" in look(q="paymnt ledger")
    assert "Nothing has all of these words" in look(q="crane xylophone scheduler")
    nothing = look(q="xylophone")
    assert "Nothing has “xylophone”" in nothing
    assert "/why?of=xylophone" in nothing
    assert "What are you looking for?" in look()
    assert hits(look(q="pay", who=cleo)) == []


def test_the_box_shows_the_best_hits_and_leads_to_the_page(look: Look) -> None:
    html = look("/search/suggest", q="refund a charge")
    urls = [unescape(url) for url in re.findall(r'<a [^>]*href="([^"]+)"', html)]
    assert urls[0].startswith("/catalog/default/api/payments?tab=definition&op=")
    assert urls[-1] == "/search?q=refund%20a%20charge"
    assert 'action="/search"' in look()
