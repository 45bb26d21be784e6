"""A filter for each format: what its editor asks, and what the list then shows."""

from __future__ import annotations

import html
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client

from access.models import User
from catalog.documents.formats import FORMATS
from catalog.models import KindField
from catalog.queries import search_entities
from portal.filters import WAYS, list_fields
from tests.catalog.saying import component, say
from tests.catalog_data import forget_definitions

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]

# Of each format: what one component has and what another; what is asked; and what the first alone fits.
ASKED: dict[str, tuple[Any, Any, list[dict[str, Any]]]] = {
    "text": (
        "card payments",
        "mail",
        [
            {"how": "is", "value": "card payments"},
            {"how": "contains", "value": "d pay"},
            {"how": "begins", "value": "card"},
        ],
    ),
    "markdown": ("*Read* me, (now)", "no", [{"how": "contains", "value": "me, (now"}]),
    "number": (12.5, 3, [{"how": "range", "from": "5"}, {"how": "range", "from": "12.5", "to": "12.5"}]),
    "percentage": (99.9, 95, [{"how": "range", "from": "99", "to": "100"}]),
    "boolean": (True, False, [{"how": "among", "value": "true"}]),
    "date": ("2026-03-01", "2026-01-01", [{"how": "range", "from": "2026-02-01", "to": "2026-03-01"}]),
    "date-time": (
        "2026-03-01T09:30:00Z",
        "2020-01-01T00:00:00Z",
        [{"how": "range", "from": "2026-03-01", "to": "2026-03-01"}],
    ),
    "duration": (
        "90 s",
        "2 h",
        [{"how": "range", "to": "5 min"}, {"how": "range", "from": "1.5min", "to": "2 min"}],
    ),
    "url": ("https://a.example/x?y=1", "https://b.example", [{"how": "contains", "value": "a.example"}]),
    "labelled-url": (
        {"url": "https://a.example", "title": "A"},
        {"url": "https://b.example"},
        [{"how": "contains", "value": "//a."}],
    ),
    "email": ("ana@acme.example", "ben@acme.example", [{"how": "begins", "value": "ana@"}]),
    "user": ("user:default/ana", "user:default/ben", [{"how": "is", "value": "user:default/ana"}]),
    "team": ("payments", "other", [{"how": "is", "value": "group:default/payments"}]),
    "entity": ("api:default/a", "api:default/b", [{"how": "is", "value": "api:default/a"}]),
    "entities": (
        ["api:default/a", "api:default/c"],
        ["api:default/b"],
        [{"how": "is", "value": "api:default/c"}],
    ),
    "enum": ("gold", "silver", [{"how": "among", "value": "gold"}]),
    "list": (["red", "green"], ["blue"], [{"how": "is", "value": "green"}]),
    "json": ({"a": 1}, None, [{"how": "any"}]),
    "yaml": ({"a": 1}, None, [{"how": "any"}]),
    "version": ("1.10.2", "1.9", [{"how": "range", "from": "1.10"}, {"how": "is", "value": "1.10.2"}]),
    "image": ("https://a.example/a.png", "https://a.example/b.png", [{"how": "contains", "value": "a.png"}]),
    "openapi": ("openapi: 3.1.0", None, [{"how": "any"}]),
    "asyncapi": ("asyncapi: 3.0.0", None, [{"how": "any"}]),
    "graphql": ("type Query { a: Int }", None, [{"how": "any"}]),
}


@pytest.fixture(autouse=True)
def _fields() -> Any:
    """A field of each format on components."""
    for name in FORMATS:
        values = (
            {"values": [{"value": "gold", "title": "Gold"}, {"value": "silver"}]} if name == "enum" else {}
        )
        spec = {"kinds": ["Component"], "field": f"spec.f-{name}", "title": f"The {name}", "format": name}
        KindField.objects.create(name=f"f-{name}", spec={**spec, "shown": ["filter"], **values})
    forget_definitions()
    yield
    forget_definitions()


@pytest.fixture
def browser(client: Client, ana: User) -> Client:
    client.force_login(ana)
    return client


def apply(browser: Client, field: str, **asked: Any) -> str:
    """The query that the list is then of."""
    answer = browser.get("/catalog/filter", {"field": field, "action": "apply", **asked})
    assert answer.status_code == 302, html.unescape(answer.content.decode())[-2_000:]
    return parse_qs(urlsplit(answer.url).query)["q"][0]


def test_every_format_is_asked_for() -> None:
    assert set(ASKED) == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_has_a_filter_that_finds_what_fits(browser: Client, ana: User, name: str) -> None:
    fits, fits_not, ways = ASKED[name]
    others = {} if fits_not is None else {f"f-{name}": fits_not}
    say("yaml:a", component("yes", **{f"f-{name}": fits}), component("no", **others))
    if fits_not is not None:
        say("yaml:a", component("bare"))

    def found(query: str) -> set[str]:
        return {entity.name for entity in search_entities(ana, query)}

    one = next(one for one in list_fields("component") if one.name == f"spec.f-{name}")
    for asked in ways:
        query = apply(browser, one.name, q="kind:component", **asked)
        assert found(query) == {"yes"}, query
        left = found(apply(browser, one.name, q="kind:component", **asked, **{"not": "1"}))
        assert left == found("kind:component") - {"yes"}
        assert browser.get("/catalog", {"q": query}).status_code == 200
    none = {"bare"} if fits_not is not None else {"no"}
    assert found(apply(browser, one.name, q="kind:component", how="none")) == none
    assert none.isdisjoint(found(apply(browser, one.name, q="kind:component", how="any")))
    # Its editor has an input for each way to ask.
    for way in one.ways:
        shown = browser.get("/catalog/filter", {"field": one.name, "how": way, "part": "editor"})
        page = shown.content.decode()
        assert f'value="{way}" selected' in page
        assert ('name="value"' in page) == (way in {"is", "contains", "begins", "among"})
        assert ('name="from"' in page) == (way == "range")


def test_a_list_of_a_kind_offers_its_fields_and_those_that_are_to_narrow_it(browser: Client) -> None:
    say("yaml:a", component("pay"))
    page = html.unescape(browser.get("/catalog?q=kind:component").content.decode())
    assert "/catalog/filter?q=kind:component&field=spec.f-percentage" in page
    form = browser.get("/catalog/filter?q=kind:component&part=form").content.decode()
    assert "The duration (spec.f-duration)" in form
    assert "Changed (changed)" in form
    assert "<html" not in form
    whole = browser.get(
        "/catalog/filter?q=kind:component&field=spec.f-number&order=-changed"
    ).content.decode()
    assert 'type="number" step="any"' in whole
    assert 'name="order" value="-changed"' in whole
    assert "<html" in whole


def test_a_filter_joins_what_is_asked_already(browser: Client) -> None:
    assert apply(browser, "spec.f-enum", q="kind:component spec.f-enum:silver", value="gold") == (
        "kind:component spec.f-enum:silver,gold"
    )
    assert apply(browser, "spec.f-number", q="kind:api OR kind:component", **{"from": "3"}) == (
        "(kind:api OR kind:component) spec.f-number:>=3"
    )
    assert apply(browser, "changed", q="pay", how="lately", days="7") == "pay changed:<7d"
    assert apply(browser, "owner", value='group:default/a b"') == 'owner:"group:default/a b\\""'
    answer = browser.get(
        "/catalog/filter",
        {"field": "owner", "value": "x", "action": "apply", "order": "-changed", "limit": "100"},
    )
    assert answer.url == "/catalog?q=owner:x&order=-changed&limit=100"
    assert apply(browser, "label.tier", value="1") == "label.tier:1"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"field": "spec.f-number"}, "Say from where"),
        ({"field": "spec.f-number", "from": "a(b"}, "no value that can be compared"),
        ({"field": "spec.f-number", "from": "soon"}, "can be compared with no field"),
        ({"field": "spec.f-text"}, "Say what"),
        ({"field": "spec.f-text", "value": "x" * 300}, "At most 200"),
        ({"field": "changed", "how": "lately", "days": "-1"}, "A number of days"),
        ({"field": "spec.f-text", "how": "range"}, "Expected is one of"),
        ({"field": "nonsense"}, "There is no field"),
        ({"field": "owner", "value": "::"}, "is no reference"),
    ],
)
def test_what_cannot_be_asked_is_said_at_its_input(browser: Client, asked: dict[str, str], said: str) -> None:
    answer = browser.get("/catalog/filter", {**asked, "action": "apply"})
    assert answer.status_code == 422
    assert said in html.unescape(answer.content.decode())


def test_every_way_has_words() -> None:
    assert {way for one in list_fields("component") for way in one.ways} == set(WAYS)
