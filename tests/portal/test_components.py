"""The tags and partials that pages are made of."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.template.backends.django import DjangoTemplates
from django.test import RequestFactory
from django.utils import timezone
from django.utils.safestring import mark_safe

from integrations.contract import Category
from integrations.records import AlertStatus, CheckStatus, DeploymentStatus, RunStatus
from portal import links
from portal.icons import icon_names
from portal.middleware import POLICY
from portal.templatetags import foreign, portico
from portal.templatetags.charts import nice_ticks
from portal.templatetags.foreign import code_lines, render_markdown, safe_url
from portal.templatetags.statuses import STATUSES, status_of

ROOT = Path(__file__).resolve().parents[2]
ENGINE = DjangoTemplates(
    {
        "NAME": "components",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
)
EVIL = '"><script>alert(1)</script>'


def render(source: str, **context: object) -> str:
    return ENGINE.from_string("{% load portico %}" + source).render(context, RequestFactory().get("/"))


def partial(name: str, **context: object) -> str:
    return ENGINE.get_template(f"components/{name}.html").render(context, RequestFactory().get("/"))


def words(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


class Links(HTMLParser):
    """What a browser would follow or run."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    @property
    def hrefs(self) -> list[str | None]:
        return [value for name, value in self.attributes if name in {"href", "src", "action"}]


# -- status words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "state", "word", "tone"),
    [
        ("run", "passed", "Passed", "ok"),
        ("run", RunStatus.UNSTABLE, "Unstable", "warn"),
        ("run", "", "No runs", "mute"),
        ("run", None, "No runs", "mute"),
        ("deployment", DeploymentStatus.AWAITING_APPROVAL, "Awaiting approval", "mute"),
        ("deployment", "awaiting_approval", "Awaiting approval", "mute"),
        ("deployment", "drifted", "Drifted", "warn"),
        ("health", "down", "Down", "fail"),
        ("check", "exempt", "Exempt", "mute"),
        ("alert", "firing", "Firing", "fail"),
        ("incident", "acknowledged", "Acknowledged", "mute"),
        ("sync", "running", "Syncing", "run"),
        ("sync", "", "Never synced", "mute"),
        ("run", "exploded", "Unknown", "mute"),
        ("weather", "rain", "Unknown", "mute"),
    ],
)
def test_a_state_has_its_one_word(what, state, word, tone):
    found = status_of(what, state)
    assert (found.word, found.tone) == (word, tone)
    html = portico.status(what, state)
    assert f"po-{tone}" in html
    assert html.endswith(f"{word}</span>")


@pytest.mark.parametrize(
    ("what", "states"),
    [("run", RunStatus), ("deployment", DeploymentStatus), ("check", CheckStatus), ("alert", AlertStatus)],
)
def test_every_state_of_a_record_has_a_word(what, states):
    assert [state for state in states if status_of(what, state).word == "Unknown"] == []


def test_every_status_has_an_icon_of_the_sprite():
    assert {one.icon for states in STATUSES.values() for one in states.values()} <= icon_names()


def test_a_stale_status_says_so_whatever_it_was():
    html = portico.status("run", "passed", stale=timezone.now() - timedelta(days=3, hours=1))
    assert words(html) == "Passed, stale 3 d"
    assert "po-mute" in html
    assert "#history" in html


def test_the_tools_own_word_is_in_the_tooltip_only():
    html = portico.status("run", "failed", detail="EXCEPTION (4)")
    assert 'data-tip="EXCEPTION (4)"' in html
    assert words(html) == "Failed"


def test_only_what_runs_turns():
    assert "po-i-turn" in portico.status("run", "running")
    assert "po-i-turn" not in portico.status("run", "queued")


# -- times and numbers ------------------------------------------------------------------------------------


@pytest.fixture
def noon(monkeypatch):
    now = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
    monkeypatch.setattr(timezone, "now", lambda: now)
    return now


@pytest.mark.parametrize(
    ("age", "short", "long"),
    [
        (timedelta(seconds=20), "now", "now"),
        (timedelta(minutes=12), "12 min", "12 min ago"),
        (timedelta(hours=9), "9 h", "9 h ago"),
        (timedelta(hours=20), "yesterday", "yesterday"),
        (timedelta(days=2), "2 d", "2 d ago"),
        (timedelta(days=41), "41 d", "41 d ago"),
        (timedelta(days=200), "6 months", "6 months ago"),
        (timedelta(days=800), "2 years", "2 years ago"),
        (timedelta(hours=-3), "in 3 h", "in 3 h"),
    ],
)
def test_ages_are_short(noon, age, short, long):
    assert words(portico.ago(noon - age)) == short
    assert words(portico.ago(noon - age, "ago")) == long


def test_an_hour_before_midnight_is_not_yesterday_yet(monkeypatch):
    now = datetime(2026, 11, 24, 0, 30, tzinfo=UTC)
    monkeypatch.setattr(timezone, "now", lambda: now)
    assert words(portico.ago(now - timedelta(hours=1))) == "1 h"


def test_a_time_keeps_its_exact_moment(noon):
    html = portico.ago(noon - timedelta(minutes=12))
    assert 'datetime="2026-11-24T11:48:00+00:00"' in html
    assert 'title="24 Nov 2026, 11:48 UTC"' in html
    assert words(portico.at(noon)) == "24 Nov 2026, 12:00"
    assert words(portico.at(noon, "time")) == "12:00"
    assert words(portico.at("2026-11-24T14:02:00Z", "day")) == "24 Nov 2026"


@pytest.mark.parametrize("nothing", [None, "", "soon", "2026-99-99T00:00:00Z"])
def test_no_moment_is_nothing(nothing):
    assert portico.ago(nothing) == portico.at(nothing) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (0.25, "250 ms"), (48, "48 s"), (192, "3 min 12 s"), (120, "2 min"), (3599.7, "1 h"),
        (3840, "1 h 4 min"), (90_000, "1 d 1 h"), (3 * 86_400 + 7200, "3 d"),
        (timedelta(seconds=71), "1 min 11 s"), (None, ""),
    ],
)  # fmt: skip
def test_durations_have_two_units_at_most(seconds, text):
    assert portico.duration(seconds) == text


def test_numbers_are_written_for_people():
    assert portico.num(1204) == "1,204"
    assert portico.num(None) == ""
    assert portico.percent(96.4) == "96.4 %"
    assert portico.percent(100) == "100 %"
    assert portico.filesize(812) == "812 B"
    assert portico.filesize(48_200_000) == "48.2 MB"
    assert portico.filesize(5_000_000_000_000_000) == "5,000 TB"


# -- addresses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "https://git.example/shop/checkout?a=1#b",
        "http://[2001:db8::1]:8080/x",
        "mailto:ana@acme.example",
        "/catalog?q=kind:component",
        "#top",
        "?page=2",
    ],
)
def test_safe_addresses_stay_as_they_are(address):
    assert safe_url(address) == address


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "java\nscript:alert(1)",
        "\x01javascript:alert(1)",
        " javascript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "vbscript:x",
        "file:///etc/passwd",
        "blob:https://x.example/1",
        "//evil.example/x",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "https:evil.example",
        "https:\\\\evil.example",
        "http://[",
        "http://a:99999/",
        "docs/x.md",
        "",
        None,
    ],
)
def test_unsafe_addresses_are_dropped(address):
    assert safe_url(address) == ""
    html = portico.link(address or "", "text")
    assert html == "text"
    assert "<a " not in portico.entity_chip(title="x", url=address or "")
    assert "<a " not in portico.tag("x", address or "")


def test_a_relative_address_is_resolved_against_its_base():
    assert safe_url("docs/x.md", "https://git.example/a/b/") == "https://git.example/a/b/docs/x.md"
    assert safe_url("javascript:alert(1)", "https://git.example/") == ""


# -- Markdown and code ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[a](javascript:alert(1))",
        "<a href='java&#x0A;script:alert(1)'>a</a>",
        '<a href="//evil.example" onclick="alert(1)">a</a>',
        "<style>*{display:none}</style><div style='position:fixed'>x</div>",
        "<form action=/x><button>Sign in</button></form>",
        "<svg onload=alert(1)><use href='x'></svg>",
        "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
        "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
        "![x](data:image/svg+xml;base64,AAAA)",
        "<input type=password><object data=x></object><base href=//evil.example>",
        '<a href="https://a.example/\\"><img src=x onerror=alert(1)>">x</a>',
        "`<script>`\n\n    <script>alert(1)</script>",
    ],
)
def test_markdown_of_others_runs_nothing(text):
    found = Links(render_markdown(text))
    assert not {"script", "style", "form", "input", "button", "iframe", "svg", "object", "base", "img"} & set(
        found.tags
    )
    assert not [name for name, _ in found.attributes if name.startswith("on") or name == "style"]
    assert all(re.match(r"https?://a\.example/", href or "") for href in found.hrefs)


def test_markdown_keeps_what_a_readme_needs():
    html = render_markdown(
        "# Set up\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\ndef f(): return 'x'\n```\n"
        "\n~~old~~ [up](#set-up)\n\n# Set up\n\n<details open><summary>More</summary>x</details>"
    )
    assert '<h3 id="md-set-up">' in html
    assert '<h3 id="md-set-up-1">' in html
    assert 'href="#md-set-up"' in html
    assert '<table tabindex="0">' in html
    assert '<code class="po-hl"><span class="k">def</span>' in html
    assert "<s>old</s>" in html
    assert "<summary>More</summary>" in html


def test_ids_and_classes_of_a_text_cannot_pass_for_the_pages_own():
    html = render_markdown('<h2 id="po-confirm">x</h2><span class="po-banner po-fail">y</span>')
    assert 'id="md-po-confirm"' in html
    assert "po-banner" not in html


def test_links_of_a_text_follow_its_base_and_lead_nowhere_without_one():
    text = "[doc](docs/x.md) [root](/x) [out](https://a.example/)"
    base = "https://git.example/shop/checkout/"
    assert Links(render_markdown(text)).hrefs == ["https://a.example/"]
    assert Links(render_markdown(text, base)).hrefs == [
        "https://git.example/shop/checkout/docs/x.md",
        "https://git.example/x",
        "https://a.example/",
    ]


def test_images_become_links_and_badges_their_text():
    found = render_markdown(
        "![Logo](https://img.example/l.png) [![Build](https://img.example/b.svg)](https://ci.example/)"
        ' <img src="https://img.example/x.png">'
    )
    assert "<img" not in found
    assert Links(found).hrefs == [
        "https://img.example/l.png",
        "https://ci.example/",
        "https://img.example/x.png",
    ]
    assert ">Build</a>" in found


def test_code_is_escaped_highlighted_and_counted_by_line():
    lines = code_lines('a: "<b>"\n# c\n', "yaml")
    assert len(lines) == 2
    assert "&lt;b&gt;" in lines[0]
    assert 'class="c1"' in lines[1]
    assert code_lines("<x>", "no-such-language") == ["&lt;x&gt;"]
    assert code_lines("<x>" * 100_000)[0].startswith("&lt;x&gt;")
    html = render("{% code text 'yaml' %}", text="a: 1\nb: 2")
    assert html.count("po-code-line") == 2


# -- small pieces -----------------------------------------------------------------------------------------


def test_an_icon_is_silent_unless_it_has_a_title():
    assert 'aria-hidden="true"' in portico.icon("cube")
    assert 'role="img" aria-label="Component"' in portico.icon("cube", "Component")
    assert "#box" in portico.icon("no-such-icon")


def test_every_kind_and_category_has_a_look():
    assert {icon for icon, _ in portico.KINDS.values()} <= icon_names()
    assert set(portico.CATEGORIES) == {category.value for category in Category}
    assert (
        set(portico.CATEGORIES.values()) | {colour for _, colour in portico.KINDS.values()} <= portico.COLOURS
    )


@pytest.mark.parametrize(
    "html",
    [
        portico.entity_chip(
            title=EVIL, ref=EVIL, kind=EVIL, url=EVIL, icon_name=EVIL, colour=EVIL, card=EVIL
        ),
        portico.entity_chip(title=EVIL, ref=EVIL, missing=True),
        portico.owner_chip({"title": EVIL, "kind": "group"}),
        portico.avatar(EVIL, EVIL),
        portico.monogram(EVIL, EVIL[:2], EVIL),
        portico.status("run", EVIL, detail=EVIL),
        portico.tone(EVIL, EVIL, EVIL),
        portico.pill(EVIL, EVIL, EVIL),
        portico.tag(EVIL, EVIL),
        portico.link("https://a.example/" + EVIL, EVIL),
        portico.sparkline([1, 2, 3], EVIL),
        portico.run_bars([("ok", 1, EVIL)], EVIL),
    ],
)
def test_pieces_escape_what_they_are_given(html):
    found = Links(html)
    assert "script" not in found.tags
    assert set(found.tags) <= {"span", "svg", "use", "a", "path", "polyline", "rect", "title"}


def test_a_chip_shows_people_and_teams_by_their_letters():
    assert "po-avatar-team po-c" in portico.entity_chip(ref="group:default/payments")
    assert words(portico.entity_chip(ref="user:default/ana")) == "AN ana"
    assert "po-kind" in portico.entity_chip(ref="component:default/x")


def test_a_missing_entity_is_dashed_and_says_why():
    html = portico.entity_chip(ref="group:default/pay", missing=True)
    assert "po-chip-missing" in html
    assert "group:default/pay is not in the catalog." in html


def test_no_owner_is_said():
    assert words(portico.owner_chip(None)) == "No owner"
    assert "po-avatar-none" in portico.owner_chip({})
    assert words(portico.owner_chip({"title": "Payments", "kind": "group"})) == "PA Payments"


def test_letters_and_colours_are_a_names_own():
    assert words(portico.avatar("Ana Ito")) == "AI"
    assert words(portico.monogram("Git main", category="git")) == "Gm"
    assert portico.colour_of("Payments") == portico.colour_of("payments")
    assert {portico.colour_of(str(n)) for n in range(100)} == {f"c{n}" for n in range(1, 8)}


# -- charts and graphs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("highest", "ticks"),
    [
        (17, [0, 5, 10, 15, 20]),
        (20, [0, 5, 10, 15, 20]),
        (3, [0, 1, 2, 3]),
        (0, [0, 1]),
        (0.4, [0, 0.1, 0.2, 0.3, 0.4]),
    ],
)
def test_an_axis_has_round_figures_from_nought(highest, ticks):
    assert nice_ticks(highest) == ticks


def test_a_sparkline_is_well_formed_and_skips_gaps():
    drawing = ElementTree.fromstring(portico.sparkline([1, None, 3, 3], "Pass rate"))
    assert drawing.get("aria-label") == "Pass rate"
    assert len(drawing.find("polyline").get("points").split()) == 3
    assert portico.sparkline([1], "x") == portico.sparkline([None, None], "x") == ""
    assert ElementTree.fromstring(portico.sparkline([5, 5, 5], "flat")).find("polyline") is not None


def test_bars_reach_the_height_of_their_value():
    chart = {
        "title": "Runs per day",
        "labels": ["1 Nov", "2 Nov"],
        "series": [
            {"name": "passed", "values": [5, 10], "colour": "c1"},
            {"name": "failed", "values": [5, 0], "colour": "c-fail"},
        ],
    }
    html = render("{% bar_chart chart %}", chart=chart)
    drawing = ElementTree.fromstring(re.search(r"<svg.*?</svg>", html, re.DOTALL)[0])
    first, second = drawing.findall("g")
    assert [rect.get("height") for rect in first.findall("rect")] == ["100", "50", "50"]
    assert [rect.get("height") for rect in second.findall("rect")] == ["100", "100"]
    assert first.get("aria-label") == "1 Nov: passed 5, failed 5"
    assert [group.get("tabindex") for group in (first, second)] == ["0", "-1"]
    assert "Show as table" in html
    assert words(html[html.index("<tbody>") :]) == "1 Nov 5 5 2 Nov 10 0"


def test_a_chart_of_nothing_is_drawn_too():
    assert "po-plot" in render("{% bar_chart chart %}", chart={"title": "x", "labels": [], "series": []})


def test_the_graph_links_its_neighbours_and_counts_the_rest():
    node = {
        "title": "ledger",
        "sub": "depends on",
        "kind": "component",
        "url": "/catalog/default/component/ledger",
    }
    html = render(
        "{% relation_graph graph %}",
        graph={
            "centre": {"title": "checkout-api", "kind": "component", "url": "/self"},
            "incoming": [node],
            "outgoing": [node, node | {"title": "gone", "url": "", "missing": True}],
            "more_outgoing": 12,
            "url": "/graph",
        },
    )
    assert html.count('href="/catalog/default/component/ledger"') == 2
    assert "+12 more" in html
    assert "po-node-missing" in html
    assert "/self" not in html
    incoming, outgoing = re.findall(r"<svg viewBox.*?</svg>", html, re.DOTALL)
    assert incoming.count("<path") == 1
    assert outgoing.count("<path") == 3


# -- partials ---------------------------------------------------------------------------------------------


def test_an_action_is_a_link_a_form_or_a_menu():
    assert 'href="/x"' in render("{% action a %}", a={"label": "Open", "url": "/x", "primary": True})
    form = render(
        "{% action a %}",
        a={"label": "Delete", "url": "/x", "method": "post", "confirm": {"title": "Delete x?"}},
    )
    assert '<form method="post" action="/x">' in form
    assert "csrfmiddlewaretoken" in form
    assert 'data-confirm="Delete x?"' in form
    items = [{"label": "Git", "url": "/g"}, {"rule": True}, {"label": "Drop", "url": "/d", "method": "post"}]
    menu = render("{% action a %}", a={"label": "Open in", "items": items})
    assert "<details" in menu
    assert "csrfmiddlewaretoken" in menu
    assert "<hr>" in menu


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ({"state": "loading", "load_url": "/w/1"}, "Loading"),
        (
            {"state": "error", "message": "The tool answered 401.", "retry_url": "/w/1"},
            "The tool answered 401.",
        ),
        ({"state": "denied"}, "Ask an administrator"),
        ({"state": "empty", "message": "No runs yet"}, "No runs yet"),
        ({"state": "ready", "footer": "3 of 14"}, "3 of 14"),
    ],
)
def test_a_card_tells_its_state(state, text):
    html = partial("card", card={"id": "w1", "title": "Runs"} | state)
    assert text in html
    assert 'aria-labelledby="w1-title"' in html
    assert ('hx-get="/w/1"' in html) == (state["state"] in {"loading", "error"})


def test_a_stale_card_says_its_age():
    html = partial("card", card={"id": "w", "title": "x", "stale_at": timezone.now() - timedelta(hours=5)})
    assert "5 h ago" in html


def test_a_table_lays_out_its_columns_by_what_they_hold():
    table = {
        "caption": "Components",
        "select": "ref",
        "columns": [
            {"label": "Name"},
            {"label": "Lifecycle"},
            {"label": "Text", "css": "po-col-auto"},
            {"label": "Owner"},
            {"label": "Changed", "sort": "descending", "sort_url": "?order=changed"},
        ],
        "rows": [
            {
                "key": "component:default/x",
                "label": "x",
                "cells": [
                    {"chip": {"title": "x", "kind": "component", "url": "/x"}},
                    {"text": "production"},
                    {"text": "long"},
                    {"is_owner": True, "owner": None},
                    {"time": timezone.now()},
                ],
            }
        ],
    }
    html = partial("table", table=table)
    assert '<th scope="col" class="po-name">' in html
    assert '<td class="po-col-m">production</td>' in html
    assert '<td class="po-col-auto">long</td>' in html
    assert '<td class="po-owner po-col-owner po-keep">' in html
    assert '<th scope="col" class="po-num po-col-s po-keep" aria-sort="descending">' in html
    assert 'name="ref" value="component:default/x" aria-label="Select x"' in html
    assert "No owner" in html


def test_whatever_a_cell_holds_is_shown_and_escaped():
    cells = [
        {"chip": {"title": EVIL, "ref": "component:default/x", "url": "javascript:alert(1)"}},
        {"owner": {"title": EVIL, "ref": "group:default/x", "missing": True, "url": "/x/unknown"}},
        {"status": {"domain": "run", "state": "failed", "at": timezone.now(), "detail": EVIL}},
        {"sources": [{"label": EVIL, "letters": "Gh", "category": "git"}, {"label": "Files"}]},
        {"tag": EVIL, "url": "/tags"},
        {"tags": [EVIL, "go"]},
        {"mono": EVIL},
        {"url": "javascript:alert(1)", "text": EVIL},
        {"html": mark_safe("<i>made here</i>"), "css": "po-num"},
        {"html": EVIL},
        {"text": EVIL},
        {"text": 0},
        {"text": None},
    ]
    table = {
        "select": "ref",
        "form": EVIL,
        "columns": [{"label": EVIL} for _cell in cells],
        "rows": [
            {"key": EVIL, "label": EVIL, "cells": cells, "group": {"cell": {"text": EVIL}, "count": 1204}}
        ],
    }
    html = partial("table", table=table)
    assert "<script" not in html
    assert "javascript" not in html
    assert html.count("&lt;script&gt;") > len(cells)
    assert '<td class="po-col-m po-num"><i>made here</i></td>' in html
    assert '<td class="po-col-m">0</td>' in html
    assert '<td class="po-col-m"></td>' in html
    assert '<span class="po-count">1,204</span>' in html
    assert "Failed" in html


def test_query_terms_are_tokens_that_the_form_sends_again():
    query = {
        "action": "/catalog",
        "rest": "card",
        "tokens": [
            {"text": "owner:payments", "remove_url": "?q=card"},
            {"text": '-tag:"a b"'},
            {"text": "colour:red", "error": "There is no field colour."},
        ],
    }
    html = partial("query_box", query=query)
    assert '<input type="hidden" name="q" value="owner:payments">' in html
    assert '<input type="hidden" name="q" value="-tag:&quot;a b&quot;">' in html
    assert 'name="q" value="card"' in html
    assert html.count("is-not") == 1
    assert 'is-wrong" data-tip="There is no field colour."' in html
    assert 'aria-label="Remove owner:payments"' in html


FIELD = {"name": "n", "label": "Label", "help": "What it is for.", "value": "v", "errors": ["Too long."]}


@pytest.mark.parametrize(
    "kind",
    [
        "text",
        "textarea",
        "number",
        "bool",
        "select",
        "segments",
        "multiple",
        "secret",
        "list",
        "map",
        "url",
        "yaml",
    ],
)
def test_every_field_has_a_name_a_help_and_its_error(kind):
    field = FIELD | {"type": kind, "choices": [{"value": "v", "label": "V"}], "pairs": [("a", "b")]}
    html = partial("field", field=field)
    assert "Label" in html
    assert '<p class="po-help" id="n-help">What it is for.</p>' in html
    assert "Too long." in html
    if kind not in {"segments", "list", "map"}:
        assert 'aria-invalid="true" aria-describedby="n-error n-help"' in html
        assert re.search(r'name="n"', html)
    assert ("n__key" in html) == (kind == "map")


def test_a_secret_is_never_printed():
    html = partial("field", field=FIELD | {"type": "secret", "value": "hunter2", "is_set": True})
    assert "hunter2" not in html
    assert "Replace" in html
    assert "hunter2" not in partial("field", field=FIELD | {"type": "secret", "value": "hunter2"})


def test_facets_tell_what_is_chosen_without_colour():
    facet = {
        "label": "Owner",
        "values": [
            {"label": "Payments", "count": 1204, "url": "?a", "is_on": True, "avatar": "team"},
            {"label": "Data", "count": 1, "url": "?b", "exclude_url": "?-b"},
        ],
        "more": 2,
        "more_url": "?all",
    }
    html = partial("facet", facet=facet)
    assert '<span class="po-sr">chosen</span>' in html
    assert "1,204" in html
    assert 'data-alt-href="?-b"' in html
    assert "Show 2 more" in html


def test_a_change_is_told_without_colour():
    html = render(
        "{% diff rows %}",
        rows=[{"path": "spec.owner", "old": "a", "new": "b"}, {"path": "tag", "new": "<i>"}],
    )
    assert words(html) == "Changes spec.owner − before a › + after b tag + after <i>"


def test_of_a_list_is_told_what_went_and_what_came():
    many = [f"tag-{n}" for n in range(20)]
    rows = [
        {"path": "tags", "old": ["a", "b"], "new": ["b", "c"]},
        {"path": "order", "old": ["a", "b"], "new": ["b", "a"]},
        {"path": "more", "old": [], "new": many},
    ]
    said = words(render("{% diff rows %}", rows=rows))
    assert "tags − before a › + after c order" in said
    assert "order − before a − before b + after b + after a more" in said
    assert "− before an empty list" in said
    assert all(f"+ after {name}" in said for name in many)
    assert "Show 9 more" in said


def test_pages_of_a_list_are_links():
    html = render(
        "{% pagination page %}", page={"first": 1, "last": 50, "total": 1204, "next_url": "?cursor=x"}
    )
    assert "1-50 of 1,204" in html
    assert 'rel="next" data-stay="next" href="?cursor=x"' in html
    assert "Previous" not in html


def test_a_value_shows_where_it_comes_from():
    source = {
        "label": "Git main", "category": "git", "path": "spec.owner",
        "losing": [{"label": "YAML", "value": "group:platform"}], "override_url": "/override",
    }  # fmt: skip
    html = partial("facts", facts=[{"label": "Owner", "value": "payments", "source": source}])
    assert 'aria-label="From Git main. Why?"' in html
    assert "group:platform" in html
    assert 'href="/override"' in html


def test_what_was_read_from_a_tool_is_no_link_unless_it_is_safe():
    run = {
        "status": "passed",
        "title": EVIL,
        "url": "javascript:alert(1)",
        "branch": EVIL,
        "commit": "8f3c1e2a",
    }
    html = partial("run_row", run=run | {"duration": 184, "at": timezone.now()})
    assert "script" not in Links(html).tags
    assert "javascript" not in html
    assert "3 min 4 s" in html
    assert "8f3c1e2<" in html


def test_a_confirmation_names_the_thing_and_repeats_the_verb():
    html = partial(
        "confirm_dialog",
        dialog={
            "id": "del",
            "title": "Delete Git main?",
            "impact": ["412 entities"],
            "verb": "Delete",
            "url": "/x",
            "name": "git-main",
        },
    )
    assert "412 entities" in html
    assert 'data-must-equal="git-main"' in html
    assert "csrfmiddlewaretoken" in html
    assert re.search(r'type="submit">Delete</button>', html)


# -- in a browser -----------------------------------------------------------------------------------------

STATIC = ROOT / "portal/static"
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".woff2": "font/woff2"}
PAGE = """{% extends "base.html" %}{% load portico %}{% block title %}Parts{% endblock %}
{% block header %}{% include "components/page_header.html" %}{% endblock %}
{% block page %}{% include "components/tabs.html" %}
<div class="po-bar">{% include "components/query_box.html" %}</div>
{% include "components/table.html" %}{% include "components/selection_bar.html" with actions=bulk %}
<div class="po-grid">{% include "components/number.html" %}{% include "components/card.html" %}</div>
{% bar_chart chart %}{% relation_graph graph %}{% include "components/facts.html" %}
<form class="po-form" data-dirty>{% for field in fields %}{% include "components/field.html" %}{% endfor %}
{% include "components/savebar.html" %}</form>
{% include "components/timeline.html" %}{% code "a: 1" "yaml" %}{% markdown "# Read me" %}
{% include "components/banner.html" with tone="fail" text="Sync stopped." dismiss=True %}{% endblock %}"""


def sample() -> dict[str, object]:
    now = timezone.now()
    node = {"title": "ledger", "kind": "component", "url": "/ledger", "sub": "depends on"}
    return {
        "shell": {"nav": [{"items": [{"label": "Catalog", "url": "/catalog", "icon": "server"}]}]},
        "title": "Components",
        "actions": [
            {"label": "Delete", "url": "/delete", "method": "post", "danger": True,
             "confirm": {"title": "Delete all?", "text": "3 go.", "verb": "Delete", "name": "all"}},
            {"label": "More", "items": [{"label": one, "url": f"/{one}"} for one in ("First", "Second")]},
        ],
        "tabs": [{"label": "All", "url": "/catalog", "count": 3, "is_active": True}],
        "query": {"action": "/catalog", "tokens": [{"text": "kind:component"}, {"text": "-tag:old"}]},
        "table": {
            "caption": "Components", "select": "ref", "columns": [{"label": "Name"}, {"label": "Last run"}],
            "rows": [
                {"key": name, "label": name, "cells": [
                    {"chip": {"title": name, "kind": "component", "url": f"/{name}"}},
                    {"status": {"domain": "run", "state": state, "at": now}},
                ]}
                for name, state in (("one", "passed"), ("two", "failed"), ("three", "running"))
            ],
        },
        "bulk": [{"value": "owner", "label": "Set owner", "icon": "users"}],
        "number": {"label": "Pass rate", "value": "96.4 %", "values": [1, 2], "trend": "up"},
        "card": {"id": "card", "title": "Alerts", "state": "empty", "menu": [{"label": "Open", "url": "/a"}]},
        "chart": {"title": "Runs", "labels": ["1", "2"], "series": [{"name": "passed", "values": [1, 2]}]},
        "graph": {"centre": node, "incoming": [node], "outgoing": [node, node]},
        "facts": [{"label": "Owner", "owner": None, "source": {"label": "Git main", "category": "git"}}],
        "fields": [
            {"name": "title", "label": "Title", "type": "text", "required": True, "errors": ["Too long."]},
            {"name": "labels", "label": "Labels", "type": "map", "pairs": []},
        ],
        "days": [{"label": "Today", "items": [{"at": now, "tone": "ok", "title": "build #1", "url": "/b"}]}],
    }  # fmt: skip


@pytest.fixture
def parts(page, context):
    """The page of parts, served with the portal's own content policy."""
    html = ENGINE.from_string(PAGE).render(sample(), RequestFactory().get("/"))
    page.faults = []
    page.on("console", lambda message: message.type == "error" and page.faults.append(message.text))
    page.on("pageerror", lambda error: page.faults.append(str(error)))

    def serve(route):
        path = route.request.url.removeprefix("http://portico.example").partition("?")[0]
        if path.startswith("/static/"):
            file = STATIC / path.removeprefix("/static/")
            return route.fulfill(body=file.read_bytes(), content_type=TYPES[file.suffix])
        headers = {"Content-Security-Policy": POLICY}
        if path.startswith("/search/"):
            html_of = '<a role="option" class="po-option" href="/ledger">ledger</a>'
            term = '<div role="option" class="po-option" data-value="owner:payments">owner:payments</div>'
            body = html_of if path == "/search/suggest" else term
            return route.fulfill(body=body, headers=headers, content_type="text/html")
        return route.fulfill(body=html, headers=headers, content_type="text/html; charset=utf-8")

    context.route("**/*", serve)
    page.goto("http://portico.example/parts")
    return page


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1440, 1920])
def test_the_parts_are_accessible_and_fit(parts, theme, width):
    parts.set_viewport_size({"width": width, "height": 900})
    parts.evaluate("theme => { document.documentElement.dataset.bsTheme = theme }", theme)
    found = Axe().run(parts)
    assert [(one["id"], one["nodes"][0]["html"]) for one in found.response["violations"]] == []
    assert parts.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert parts.faults == []


@pytest.mark.browser
def test_rows_are_walked_and_selected_by_key(parts):
    parts.keyboard.press("j")
    parts.keyboard.press("x")
    assert parts.locator("[data-selected]").inner_text() == "1 selected"
    parts.locator("tbody input").nth(2).click(modifiers=["Shift"])
    assert parts.locator("[data-selected]").inner_text() == "3 selected"
    assert parts.locator("[data-select-all]").is_checked()
    parts.locator("[data-select-none]").click()
    assert parts.locator("[data-selection-bar]").is_hidden()
    parts.keyboard.press("j")
    parts.keyboard.press("Enter")
    parts.wait_for_url("**/two")


@pytest.mark.browser
def test_a_single_letter_can_be_turned_off(parts):
    parts.keyboard.press("?")
    parts.locator("[data-keys-switch]").uncheck()
    parts.keyboard.press("Escape")
    parts.keyboard.press("[")
    assert parts.evaluate("document.documentElement.dataset.sidebar") is None
    assert "po_keys=off" in parts.evaluate("document.cookie")


@pytest.mark.browser
def test_search_suggests_and_gives_the_focus_back(parts):
    parts.locator(".po-tabs a").focus()
    parts.keyboard.press("Control+k")
    option = parts.get_by_role("option", name="ledger")
    option.wait_for()
    parts.keyboard.press("Escape")
    assert option.is_hidden()
    parts.keyboard.press("Escape")
    assert parts.evaluate("document.activeElement.textContent").startswith("All")
    parts.keyboard.press("Control+k")
    option.wait_for()
    parts.keyboard.press("ArrowDown")
    parts.keyboard.press("Enter")
    parts.wait_for_url("**/ledger")


@pytest.mark.browser
def test_a_chosen_term_joins_the_query_in_one_parameter(parts):
    parts.keyboard.press("/")
    parts.keyboard.type("ow")
    parts.get_by_role("option", name="owner:payments").click()
    parts.wait_for_url("**/catalog?*")
    assert parts.url.endswith("/catalog?q=kind%3Acomponent+-tag%3Aold+owner%3Apayments")


@pytest.mark.browser
def test_what_cannot_be_undone_asks_for_the_name(parts):
    posted = []
    parts.on("request", lambda request: posted.append(request.url) if request.method == "POST" else None)
    delete = parts.get_by_role("button", name="Delete")
    delete.click()
    go = parts.locator("#po-confirm [value=yes]")
    assert go.is_disabled()
    parts.keyboard.press("Escape")
    assert posted == []
    delete.click()
    parts.locator("#po-confirm-name").fill("all")
    go.click()
    parts.wait_for_url("**/delete")
    assert posted == ["http://portico.example/delete"]


@pytest.mark.browser
def test_menus_open_by_key_and_close_with_escape(parts):
    parts.locator("summary", has_text="More").focus()
    parts.keyboard.press("ArrowDown")
    parts.keyboard.press("ArrowDown")
    assert parts.evaluate("document.activeElement.textContent") == "Second"
    parts.keyboard.press("Escape")
    assert parts.evaluate("document.activeElement.textContent").strip() == "More"
    assert parts.get_by_text("Second").is_hidden()


@pytest.mark.browser
def test_pasted_pairs_fill_a_map(parts):
    parts.locator("[name=labels__key]").first.focus()
    parts.evaluate(
        """() => { const data = new DataTransfer(); data.setData("text", "team=pay\\ntier = 1");
        document.activeElement.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true,
        cancelable: true})); }"""
    )
    values = parts.locator("[data-map] > div input").evaluate_all("all => all.map(one => one.value)")
    assert values == ["team", "pay", "tier", "1"]
    assert parts.locator(".po-savebar").is_visible()


@pytest.mark.browser
def test_a_tooltip_tells_the_exact_time_on_focus(parts):
    parts.locator("time").first.focus()
    tip = parts.get_by_role("tooltip")
    assert re.search(r"\d{2}:\d{2}:\d{2} UTC$", tip.inner_text())
    parts.keyboard.press("Escape")
    assert tip.is_hidden()


@pytest.mark.browser
def test_a_toast_is_held_and_its_words_are_no_markup(parts):
    parts.evaluate("portico.toast('<b>Saved</b>', 'https://evil.example/')")
    toast = parts.locator(".po-toast")
    assert toast.locator("span").inner_text() == "<b>Saved</b>"
    assert toast.locator("button").count() == 1  # closing it; an address elsewhere is no undo


def test_a_banner_does_not_take_the_title_of_its_page():
    includes = re.compile(r'{% include "components/banner\.html".*?%}')
    texts = [path.read_text() for path in (ROOT / "portal/templates").rglob("*.html")]
    found = [one for text in texts for one in includes.findall(text)]
    assert found
    assert [one for one in found if not one.endswith(" only %}")] == []


def test_every_component_is_documented():
    text = (ROOT / "docs/ui-components.md").read_text()
    inner = {
        "action", "bar_chart", "breadcrumbs", "card_error", "code", "diff", "diff_sign",
        "field_aria",
        "field_list_row", "field_map_row", "graph_more", "graph_node", "menu", "pagination", "provenance",
        "query_tokens", "relation_graph", "skeleton", "timeline_item",
    }  # fmt: skip
    public = {path.stem for path in (ROOT / "portal/templates/components").glob("*.html")} - inner
    assert [name for name in sorted(public) if f"`{name}`" not in text] == []
    tags = {name for name in portico.register.tags if name not in {"html_attributes", "chosen"}}
    assert [name for name in sorted(tags) if f"{{% {name} " not in text] == []
    assert [name for name in portico.register.filters if f"|{name}" not in text.replace("\\|", "|")] == []


@pytest.mark.parametrize(
    ("repository", "path", "base"),
    [
        ("https://github.com/acme/pay", "README.md", "https://github.com/acme/pay/blob/main/"),
        ("https://github.com/acme/pay.git", "docs/a b/README.md", "https://github.com/acme/pay/blob/main/docs/a%20b/"),
        ("https://gitlab.acme.example/x/pay", "README.md", "https://gitlab.acme.example/x/pay/-/blob/main/"),
        ("https://bitbucket.org/acme/pay/", "README.md", "https://bitbucket.org/acme/pay/src/main/"),
        ("https://codeberg.org/acme/pay", "README.md", "https://codeberg.org/acme/pay/src/branch/main/"),
        ("https://git.acme.example/pay", "README.md", ""),
        ("", "README.md", ""),
    ],
)  # fmt: skip
def test_relative_links_of_a_file_lead_to_the_files_beside_it(repository: str, path: str, base: str) -> None:
    assert links.folder_url(repository, "main", path) == base
    assert links.folder_url(repository, "", path) == ""
    html = foreign.render_markdown("[guide](docs/guide.md) ![logo](logo.svg)", base)
    assert (f'href="{base}docs/guide.md"' in html) == bool(base)
    assert "guide" in html
    assert "<img" not in html
