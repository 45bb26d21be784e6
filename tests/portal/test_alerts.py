"""What alerts is seen where it counts: on the page of what it is about, of its team, and in the timeline."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from access.models import User
from catalog import queries
from catalog.services.activity import ActivityIn, apply_activity
from catalog.services.render import render_dirty
from tests.catalog.saying import claim, component, later, say

pytestmark = pytest.mark.django_db

PAGE = "/catalog/default/component/pay"
Browse = Callable[[User], Client]


def tell(status: str, title: str, *, about: str = "pay", severity: str = "critical", minute: int = 1) -> None:
    """Have an alert told, as a connector does."""
    item = ActivityIn(
        type="alert",
        external_id=title,
        event="incident.detected",
        status=status,
        title=title,
        url=f"https://alerts.acme.example/{minute}",
        at=later(minute),
        as_of=later(minute),
        started_at=later(minute),
        about=(f"ref:component:default/{about}",),
        data={"severity": severity},
    )
    apply_activity(connection_slug="am", connector="alertmanager", items=[item])
    render_dirty(at=later(minute))
    queries.forget_delivered_types()


def card(client: Client, url: str) -> str:
    """What one reads on a page's card of alerts; empty where there is none."""
    answer = client.get(url)
    assert answer.status_code == 200
    found = re.search(r'<section[^>]*id="[^"]*alerts".*?</section>', answer.content.decode(), re.DOTALL)
    return _words(found[0]) if found else ""


def text(answer: Any) -> str:
    """What one reads on a page."""
    return _words(answer.content.decode())


def _words(markup: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


@pytest.fixture(autouse=True)
def catalog(core_pack: None) -> None:
    say("yaml:a", component("pay", owner="payments"), component("web", owner="payments", id="2"))
    say("yaml:a", claim("group:payments", {"type": "team", "children": []}))


def test_what_is_not_over_stands_on_the_page_of_what_it_is_about(browse: Browse, vic: User) -> None:
    assert card(browse(vic), PAGE) == ""
    tell("firing", "Down: No answer.")
    tell("silenced", "Slow", minute=2, severity="")
    tell("resolved", "Full", minute=3)
    tell("firing", "Elsewhere", about="web", minute=4)
    said = card(browse(vic), PAGE)
    assert said.index("Silenced Slow") < said.index("Firing Down: No answer. critical")
    assert "Full" not in said
    assert "Elsewhere" not in said
    tell("resolved", "Down: No answer.", minute=5)
    tell("resolved", "Slow", minute=5)
    assert card(browse(vic), PAGE) == ""


def test_a_teams_page_shows_what_alerts_on_what_it_owns(browse: Browse, vic: User, cleo: User) -> None:
    tell("firing", "Down: No answer.")
    tell("firing", "Slow", about="web", minute=2)
    said = card(browse(vic), "/catalog/default/group/payments")
    assert said.index("Firing Slow critical web") < said.index("Firing Down: No answer. critical pay")
    assert browse(cleo).get(PAGE).status_code == 404


def test_the_timeline_says_what_an_alert_is_about(browse: Browse, vic: User) -> None:
    tell("firing", "Down: No answer.")
    tell("pending", "Slow", about="web", minute=2)
    said = text(browse(vic).get("/activity?type=alert"))
    assert "Slow pending on web" in said
    assert "Down: No answer. firing on pay" in said
    assert "Down: No answer. firing" in text(browse(vic).get(f"{PAGE}?tab=activity&type=alert,incident"))
