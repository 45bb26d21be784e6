"""The first page by day: where tools disagree, what waits for one, what is to be seen to; and overrides as patches."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape

import pytest
from django.test import Client
from django.utils.html import strip_tags

from access.models import User
from access.services import grant
from catalog.models import Rank
from catalog.services.edit import override_field
from tests.catalog.saying import claim, component, document, entity, say

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]

TOOL = {"rank": Rank.CONNECTION}


def card(client: Client, id: str, url: str = "/") -> str:
    """The words of a card, its links as [address]; empty where it is absent."""
    html = client.get(url).content.decode()
    found = re.search(rf'<(section|div)[^>]* id="w-{id}".*?</\1>', html, re.DOTALL)
    if not found:
        return ""
    text = re.sub(r'<a [^>]*?href="([^"]*)"[^>]*>', r" [\1] ", found[0])
    return unescape(" ".join(strip_tags(text.replace("<", " <")).split()))


@pytest.fixture
def viewer(browse: Callable[[User], Client], vic: User) -> Client:
    return browse(vic)


class TestDisagreements:
    def test_there_is_no_card_while_all_agree(self, viewer: Client) -> None:
        say("yaml:a", component("pay"))
        say("connection:git/x", claim("component:pay", {"owner": "team"}, **TOOL))
        assert card(viewer, "disagreements") == ""

    def test_it_counts_entities_by_field_and_leads_to_them(self, viewer: Client) -> None:
        say("yaml:a", component("pay"), component("ledger"), component("quiet"))
        say(
            "connection:git/x",
            claim("component:pay", {"owner": "other", "lifecycle": "old", "odd": 1}, **TOOL),
            claim("component:ledger", {"owner": "other"}, **TOOL),
        )
        say("connection:ci/x", claim("component:quiet", {"odd": 1}, id="q", **TOOL))
        say("connection:more/x", claim("component:quiet", {"odd": 2}, id="q", **TOOL))
        said = card(viewer, "disagreements")
        assert "[/catalog?q=conflict%3Aowner] Owner 2 entities" in said
        assert "[/catalog?q=conflict%3Alifecycle] Lifecycle 1 entity" in said
        assert "Other fields 1 entity" in said
        (others,) = re.findall(r"\[(\S*)\] Other fields", said)
        for url, names in (
            ("/catalog?q=conflict%3Aowner", {"pay", "ledger"}),
            (others, {"quiet"}),
            ("/catalog?q=has%3Aconflict", {"pay", "ledger", "quiet"}),
        ):
            html = viewer.get(url).content.decode()
            assert {n for n in ("pay", "ledger", "quiet") if f"/component/{n}" in html} == names, url

    def test_it_counts_what_the_viewer_may_see(
        self, browse: Callable[[User], Client], no_access: User
    ) -> None:
        grant(role="viewer", user=no_access, scope_type="namespace", scope="mine")
        say("yaml:a", component("pay"), claim("component:mine/own", {"owner": "a"}))
        say("connection:git/x", claim("component:pay", {"owner": "other"}, **TOOL))
        client = browse(no_access)
        assert card(client, "disagreements") == ""
        say("connection:git/x", claim("component:mine/own", {"owner": "other"}, **TOOL))
        assert "Owner 1 entity" in card(client, "disagreements")


class TestPatch:
    SOURCE = "/catalog/default/component/pay?tab=source"
    EDIT = "/catalog/default/component/pay/edit"

    def declare(self, owner: str) -> None:
        text = f"kind: Component\nspec:\n  owner: {owner}  # who is called\n"
        spec = {"type": "service", "lifecycle": "production", "owner": owner}
        say("yaml:a", claim("component:pay", spec, place={"file": "pay/info.yaml", "line": 1, "text": text}))

    def test_an_override_is_offered_as_a_patch_until_the_file_agrees(
        self, browse: Callable[[User], Client], ben: User
    ) -> None:
        self.declare("old")
        override_field(user=ben, entity=entity("component:default/pay"), path="spec.owner", value="new")
        client = browse(ben)
        html = unescape(client.get(self.SOURCE).content.decode())
        assert "Copy as catalog-info patch" in html
        (patch,) = re.findall(r'data-copy="([^"]+)"', html)
        assert "+++ b/pay/info.yaml\n" in patch
        assert "-  owner: old  # who is called\n+  owner: new  # who is called\n" in patch
        assert "Copy as catalog-info patch" in client.get(f"{self.EDIT}?field=spec.owner").content.decode()
        self.declare("new")
        html = client.get(self.SOURCE).content.decode()
        assert "The file agrees" in html
        assert "Copy as catalog-info patch" not in html
        assert "says the same by now" in client.get(f"{self.EDIT}?field=spec.owner").content.decode()
        assert "Drop the override" in html
        client.post(self.EDIT, {"field": "spec.owner", "action": "drop"})
        assert "Overrides" not in client.get(self.SOURCE).content.decode()
        assert document("component:default/pay")["spec"]["owner"] == "new"

    def test_who_may_not_write_sees_the_override_and_no_words_of_the_file(
        self, viewer: Client, ben: User
    ) -> None:
        self.declare("old")
        override_field(user=ben, entity=entity("component:default/pay"), path="spec.owner", value="new")
        html = viewer.get(self.SOURCE).content.decode()
        assert "Overrides" in html
        assert "who is called" not in html
        assert "Drop the override" not in html
        answer = viewer.get("/api/v1/entities/default/component/pay/provenance/")
        assert answer.status_code == 200
        assert "who is called" not in answer.content.decode()
