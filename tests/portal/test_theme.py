"""The looks hold what they promise: contrast, size, no style or script in a page, the content policy."""

from __future__ import annotations

import gzip
import re
from itertools import product
from pathlib import Path

import pytest
from django.contrib.messages.storage.base import Message
from django.http import HttpResponse
from django.template.backends.django import DjangoTemplates
from django.test import RequestFactory

from portal.icons import icon_names
from portal.middleware import SecurityHeadersMiddleware

PORTAL = Path(__file__).resolve().parents[2] / "portal"
CSS = (PORTAL / "static/portico/portico.css").read_text()
TEMPLATES = sorted((PORTAL / "templates").rglob("*.html"))
TOKENS = {
    name: {"light": light, "dark": dark}
    for name, light, dark in re.findall(
        r"--po-([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", CSS.partition("/* 2.")[0]
    )
}
GROUNDS = ["canvas", "sheet", "surface", "sunken", "hover"]
STATUSES = ["ok", "warn", "fail", "run", "mute"]
# What is read on what, and the least contrast that it must have.
PAIRS = [
    *((one, ground, 4.5) for one, ground in product(["text", "text-2", "text-3", "link"], GROUNDS)),
    *((one, ground, 4.5) for one, ground in product(STATUSES, ["sheet", "surface", "hover"])),
    *((one, f"{one}-soft", 4.5) for one in STATUSES),
    *(("text", f"{one}-soft", 4.5) for one in STATUSES),
    *((one, "soft", 4.5) for one in ("text", "text-2", "link", "soft-fg", *STATUSES)),
    ("text-2", "mute-soft", 4.5),
    ("accent-fg", "accent", 4.5),
    ("accent-fg", "accent-hover", 4.5),
    ("sheet", "text", 4.5),
    ("surface", "fail", 4.5),
    *(("surface", f"c{n}", 4.5) for n in range(1, 9)),
    *(("border-control", ground, 3) for ground in ("sheet", "surface")),
    *(("focus", ground, 3) for ground in GROUNDS),
]


def luminance(colour: str) -> float:
    def linear(part: int) -> float:
        share = part / 255
        return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(int(colour[n : n + 2], 16)) for n in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_computed_as_the_guidelines_do():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_can_be_read_on_its_ground(theme):
    weak = [
        f"{one} on {ground}: {found:.2f}, needs {least}"
        for one, ground, least in PAIRS
        if (found := contrast(TOKENS[one][theme], TOKENS[ground][theme])) < least
    ]
    assert not weak


def test_the_worst_contrasts_are_those_that_were_chosen():
    for name, worst in {
        "text": (14.6, 11.5),
        "text-2": (6.7, 6.7),
        "text-3": (4.9, 4.8),
        "link": (6.5, 7.1),
    }.items():
        for theme, least in zip(("light", "dark"), worst, strict=True):
            found = min(contrast(TOKENS[name][theme], TOKENS[ground][theme]) for ground in GROUNDS)
            assert found >= least - 0.06, (name, theme, found)


def test_colours_stand_in_the_tokens_alone():
    rules = CSS.partition("/* 2.")[2]
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b", rules) == []


def test_every_token_that_is_used_exists():
    known = set(re.findall(r"(--[\w-]+):", CSS))
    assert set(re.findall(r"var\((--[\w-]+)", CSS)) <= known


def test_the_style_sheet_and_script_stay_small():
    assert len(gzip.compress(CSS.encode(), 9)) < 13_000
    assert len(gzip.compress((PORTAL / "static/portico/portico.js").read_bytes(), 9)) < 8_350
    assert len(gzip.compress((PORTAL / "static/portico/icons.svg").read_bytes(), 9)) < 8_000


def test_the_script_evaluates_nothing():
    script = (PORTAL / "static/portico/portico.js").read_text()
    assert not re.search(r"\beval\(|new Function|setAttribute\(.style|\.cssText", script)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(PORTAL / "templates")))
def test_templates_obey_the_content_policy(path):
    text = re.sub(r"{%.*?%}", " ", path.read_text())
    assert not re.search(r"\sstyle\s*=|<style|\son[a-z]+\s*=|\bhx-on|javascript:|\bjs:", text)
    assert not re.search(r"<script(?![^>]*\ssrc=)", text)
    assert not re.search(r"#[0-9a-fA-F]{6}\b", text)
    assert not re.search(r"(?:src|href)=[\"'](?:https?:)?//", text)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(PORTAL / "templates")))
def test_templates_name_icons_that_exist(path):
    names = re.findall(r"{% icon \"([^\"]+)\"|icon(?:_name)?=\"([^\"]+)\"", path.read_text())
    assert {name for pair in names for name in pair if name} <= icon_names()


def test_the_sprite_holds_exactly_the_listed_icons():
    sprite = (PORTAL / "static/portico/icons.svg").read_text()
    assert set(re.findall(r'<symbol id="([^"]+)"', sprite)) == icon_names()
    assert "Paweł Kuna" in (PORTAL.parent / "NOTICE").read_text()


# -- the content policy -----------------------------------------------------------------------------------


def answer(path: str, **headers: str) -> HttpResponse:
    request = RequestFactory().get(path)
    return SecurityHeadersMiddleware(lambda _request: HttpResponse(headers=headers))(request)


@pytest.mark.parametrize("path", ["/catalog", "/api/v1/docs/", "/admin/"])
def test_pages_may_load_nothing_but_their_own(path):
    policy = answer(path)["Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["font-src"] == rules["connect-src"] == "'self'"
    assert rules["img-src"] == "'self' data:"
    assert rules["base-uri"] == rules["frame-ancestors"] == "'none'"
    assert rules["form-action"] == "'self'"
    assert "unsafe" not in policy


def test_a_view_may_set_a_stricter_policy_itself():
    assert answer("/", **{"Content-Security-Policy": "sandbox"})["Content-Security-Policy"] == "sandbox"


def test_devices_are_switched_off():
    assert "camera=()" in answer("/")["Permissions-Policy"]
    assert answer("/")["Cross-Origin-Resource-Policy"] == "same-origin"


# -- the shell --------------------------------------------------------------------------------------------

ENGINE = DjangoTemplates(
    {
        "NAME": "theme",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
)


class Ana:
    is_authenticated = True

    def get_username(self) -> str:
        return "ana"


def page(template: str = "base.html", cookies: dict[str, str] | None = None, **context: object) -> str:
    request = RequestFactory().get("/")
    request.COOKIES |= cookies or {}
    request.user = Ana()
    return ENGINE.get_template(template).render(context, request)


def test_the_first_paint_has_the_readers_choices():
    html = page(cookies={"po_theme": "dark", "po_density": "compact", "po_sidebar": "rail", "po_keys": "off"})
    root = re.search(r"<html[^>]*>", html)[0]
    assert all(
        choice in root
        for choice in (
            'data-bs-theme="dark"',
            'data-density="compact"',
            'data-sidebar="rail"',
            'data-keys="off"',
        )
    )


def test_a_strange_cookie_changes_nothing():
    root = re.search(r"<html[^>]*>", page(cookies={"po_theme": '"><script>', "po_density": "huge"}))[0]
    assert root == '<html lang="en" data-bs-theme="auto">'


def test_the_token_against_forgery_is_inherited_by_every_request():
    assert re.search(r"<body[^>]* hx-headers:inherited='{\"X-CSRFToken\": \"\w{64}\"}'", page())
    assert '"includeIndicatorCSS": false' in page()


def test_the_shell_works_without_script():
    html = page(shell={"nav": [], "sign_out_url": "/sign-out"})
    assert 'action="/search" method="get"' in html
    assert 'class="po-skip" href="#main"' in html
    assert '<main class="po-sheet " id="main"' in html
    assert 'href="#po-side"' in html
    assert re.search(
        r'<form method="post" action="/sign-out"><input type="hidden" name="csrfmiddlewaretoken"', html
    )


def test_navigation_marks_where_one_is_and_what_fails():
    nav = [
        {
            "title": "Manage",
            "items": [
                {"label": "Catalog", "url": "/catalog", "icon": "server", "is_active": True},
                {"label": "Problems", "url": "/problems", "icon": "bug", "count": 1207, "is_failing": True},
                {"label": "<b>", "url": "javascript:alert(1)", "icon": "bug"},
            ],
        }
    ]
    html = page(shell={"nav": nav})
    assert '<a class="po-nav" href="/catalog" aria-current="page"' in html
    assert 'is-failing">1,207</span>' in html
    assert "javascript:" not in html
    assert "&lt;b&gt;" in html


def test_success_becomes_a_toast_and_errors_stay_in_place():
    html = page(messages=[Message(25, "Saved."), Message(40, "Not saved: the name is taken.")])
    toasts = html[html.index('id="po-toasts"') :]
    banners = html[html.index('id="po-banners"') : html.index('id="po-toasts"')]
    assert "Saved." in toasts
    assert "Not saved" in banners
    assert 'role="alert"' in banners
    assert "Not saved" not in toasts


def test_sign_in_needs_no_shell():
    html = page("base_plain.html")
    assert "po-side" not in html
    assert '<main id="main"' in html
