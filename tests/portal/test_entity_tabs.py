"""What people decided about an entity can be seen where it counts, and taken back there."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from access.models import User
from catalog.models import Claim, Rank, Tie
from catalog.services.edit import decide_tie, override_field
from portal.values import in_words
from portal.views.edit import _typed, typed_value
from tests.catalog.saying import claim, component, document, entity, say

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]

PAY = "component:default/pay"
PAGE = "/catalog/default/component/pay"


def text(client: Client, url: str) -> str:
    """What one reads on a page, its tags left out."""
    answer = client.get(url)
    assert answer.status_code == 200, answer.status_code
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.content.decode())).split())


class TestForbiddenTies:
    @pytest.fixture
    def tie(self, ben: User) -> Tie:
        repo = "repo:h.example/pay"
        say("connection:g/r", claim("repository:pay", rank=Rank.CONNECTION, keys=(repo,)))
        say("yaml:a", claim("component:pay", {"type": "x"}, about=(repo,)))
        made = decide_tie(
            user=ben,
            source=entity(PAY),
            type="hasSource",
            target=entity("repository:default/pay"),
            state="forbidden",
            reason="Another product",
        )
        assert made is not None
        return made

    @pytest.mark.parametrize("page", [PAGE, "/catalog/default/repository/pay"])
    def test_they_are_listed_at_both_ends_with_who_and_why(
        self, tie: Tie, browse: Callable[[User], Client], vic: User, page: str
    ) -> None:
        said = text(browse(vic), f"{page}?tab=relations")
        assert "Forbidden ties 1" in said
        assert "forbidden by Ben Okafor" in said
        assert "Another product" in said
        assert "Undo" not in said  # vic may not

    def test_one_click_takes_them_back(self, tie: Tie, browse: Callable[[User], Client], ben: User) -> None:
        client = browse(ben)
        url = "/catalog/default/repository/pay?tab=relations"
        assert "Undo" in text(client, url)
        answer = client.post(f"/ties/{tie.pk}", {"state": "auto", "back": "target"})
        assert (answer.status_code, answer["Location"]) == (302, url)
        said = text(client, url)
        assert "Forbidden ties" not in said
        assert "Source of 1 pay" in said


class TestTying:
    def test_one_says_only_to_what_and_from_either_end(
        self, browse: Callable[[User], Client], ben: User
    ) -> None:
        say("connection:g/r", claim("repository:pay", {}, keys=("repo:h.example/pay",)))
        say("connection:r/a", claim("artifact:pay", {}, keys=("image:h.example/pay",)))
        say("yaml:a", claim("component:pay", {"type": "x"}), claim("group:crew", {"type": "team"}, id="g"))
        client = browse(ben)
        image = "/catalog/default/artifact/pay/tie"
        assert "It can be of these kinds: component, pipeline, repository, workload." in text(client, image)
        untied = text(client, "/catalog/default/group/crew/tie")
        assert "Nothing ties a thing of the kind group." in untied
        assert "of these kinds" not in untied
        answer = client.post(image, {"target": "group:default/crew"})
        assert answer.status_code == 422
        assert "expected is one of: component, pipeline" in html.unescape(answer.content.decode())
        for url, target in ((image, "repository:default/pay"), (f"{PAGE}/tie", "repository:default/pay")):
            answer = client.post(url, {"target": target})
            assert (answer.status_code, answer["Location"]) == (302, url.replace("/tie", "?tab=relations"))
        assert set(Tie.objects.values_list("source__kind", "type", "target__kind", "state")) == {
            ("repository", "packagedAs", "artifact", "confirmed"),
            ("component", "hasSource", "repository", "confirmed"),
        }
        assert "Tie to..." in text(client, "/catalog/default/artifact/pay")
        assert "Tie to..." not in text(client, "/catalog/default/group/crew")


class TestOverrides:
    @pytest.fixture(autouse=True)
    def pay(self, core_pack: None) -> None:
        say("yaml:a", component("pay", owner="payments", tags=["go"]))

    def test_the_reason_is_told_at_the_field_in_the_history_and_in_the_source(
        self, browse: Callable[[User], Client], ben: User, vic: User
    ) -> None:
        override_field(user=ben, entity=entity(PAY), path="spec.lifecycle", value="deprecated", reason="Sold")
        override_field(user=ben, entity=entity(PAY), path="spec.owner", value="team", reason="They took it")
        viewer = browse(vic)
        for tab in ("overview", "history", "source"):
            said = text(viewer, f"{PAGE}?tab={tab}")
            assert "Sold" in said, tab
            assert "They took it" in said, tab
            assert "override:" not in said, tab
        history = text(viewer, f"{PAGE}?tab=history")
        # Each at its own change.
        assert re.search(r"Reason: They took it .*spec\.owner.* Reason: Sold .*spec\.lifecycle", history)

    def test_the_form_says_who_overrides_it_and_takes_it_back(
        self, browse: Callable[[User], Client], ana: User, ben: User
    ) -> None:
        override_field(user=ben, entity=entity(PAY), path="spec.owner", value="team", reason="They took it")
        client = browse(ana)
        said = text(client, f"{PAGE}/edit?field=spec.owner")
        assert "Ben Okafor overrides this field. They took it" in said
        assert "Take the override back" in said
        client.post(f"{PAGE}/edit", {"field": "spec.owner", "action": "drop"})
        assert document(PAY)["spec"]["owner"] == "payments"

    def test_another_persons_word_gives_way_as_the_form_says(
        self, browse: Callable[[User], Client], ana: User, ben: User
    ) -> None:
        override_field(user=ana, entity=entity(PAY), path="spec.owner", value="team")
        client = browse(ben)
        assert "Your value takes the place of theirs." in text(client, f"{PAGE}/edit?field=spec.owner")
        answer = client.post(f"{PAGE}/edit", {"field": "spec.owner", "value": "wallets"})
        assert answer.status_code == 302
        assert document(PAY)["spec"]["owner"] == "wallets"

    @pytest.mark.parametrize("way", ["get", "post"])
    def test_a_name_is_not_overridden_and_the_form_says_what_to_do_instead(
        self, browse: Callable[[User], Client], ben: User, way: str
    ) -> None:
        answer = getattr(browse(ben), way)(f"{PAGE}/edit", {"field": "metadata.name", "value": "paid"})
        assert answer.status_code == 422
        html = answer.content.decode()
        assert "metadata.name cannot be overridden." in html
        assert "override metadata.title" in html
        assert '<option value="metadata.title" selected>' in html
        assert "paid" not in html
        assert not Claim.objects.filter(rank=Rank.PERSON).exists()

    def test_lists_that_are_put_together_say_so(self, browse: Callable[[User], Client], ben: User) -> None:
        client = browse(ben)
        assert "nothing of theirs can be taken away" in text(client, f"{PAGE}/edit?field=metadata.tags")
        assert "nothing of theirs can be taken away" not in text(client, f"{PAGE}/edit?field=spec.owner")

    @pytest.mark.parametrize(
        ("typed", "present", "kept"),
        [
            ("1.10", "1.9", "1.10"),
            ("1.10", "", "1.10"),
            ("010", "", "010"),
            ("1e3", "", "1e3"),
            ("yes", "", "yes"),
            ("2026-11-24", "", "2026-11-24"),
            ("3", "", 3),
            ("3", "2", "3"),
            ('"3"', 2, "3"),
            ("true", False, True),
            ("[a, b]", "", ["a", "b"]),
            ("a: b", "", "a: b"),
            ("- a\n- b", ["a"], ["a", "b"]),
            ("", "x", ""),
        ],
    )
    def test_what_is_typed_is_what_is_said(self, typed: str, present: Any, kept: Any) -> None:
        found = typed_value(typed, present)
        assert (found, type(found)) == (kept, type(kept))

    @pytest.mark.parametrize(
        "value", ["a", "1.10", "[a]", "'quoted'", "", 3, 1.5, True, ["a", "1.10", 2], [], "two\nlines"]
    )
    def test_what_is_shown_is_read_back_as_the_same(self, value: Any) -> None:
        assert typed_value(_typed(value), value) == value

    def test_half_a_list_is_refused_and_stays_in_the_form(
        self, browse: Callable[[User], Client], ben: User
    ) -> None:
        answer = browse(ben).post(f"{PAGE}/edit", {"field": "spec.owner", "value": "[payments, "})
        assert answer.status_code == 422
        assert "begins like a list, but is none" in answer.content.decode()
        assert 'value="[payments, "' in answer.content.decode()
        assert document(PAY)["spec"]["owner"] == "payments"
        assert typed_value('"[payments"') == "[payments"

    def test_a_version_stays_a_word_through_the_form(
        self, browse: Callable[[User], Client], ben: User
    ) -> None:
        browse(ben).post(
            f"{PAGE}/edit", {"field": "metadata.annotations.acme.example/version", "value": "1.10"}
        )
        assert document(PAY)["metadata"]["annotations"]["acme.example/version"] == "1.10"
        assert Claim.objects.filter(rank=Rank.PERSON).count() == 1


def test_the_graph_reads_along_its_arrows(browse: Callable[[User], Client], vic: User) -> None:
    say("yaml:a", component("pay", dependsOn=["component:ledger"]), component("ledger"))
    assert re.search(r"pay service .*ledger depends on", text(browse(vic), f"{PAGE}?tab=relations"))
    said = text(browse(vic), "/catalog/default/component/ledger?tab=relations")
    graph, _title, listed = said.rpartition("All relations")
    # What points here says what this is to it; the list below reads from here.
    assert "pay depends on" in graph
    assert "Needed by 1 pay" in listed


def test_a_link_that_no_page_may_follow_is_not_offered(browse: Callable[[User], Client], vic: User) -> None:
    bad, good = "javascript:alert(1)", "https://runbook.acme.example/"
    say("yaml:a", claim("component:pay", metadata={"links": [{"url": bad}, {"url": good}]}))
    shown = browse(vic).get(PAGE).content.decode()
    assert f'href="{good}"' in shown
    assert bad not in shown


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "nothing"),
        (True, "yes"),
        (["go", 2, None], "go, 2, nothing"),
        ({"url": "https://a.example", "title": "Board"}, "Board (https://a.example)"),
        ({"go": 1, "sql": [1, 2]}, "go: 1, sql: 1, 2"),
        ([{"email": "a@b.example"}, {"email": "c@d.example"}], "email: a@b.example; email: c@d.example"),
        ([], "an empty list"),
    ],
)
def test_values_are_told_in_words(value: Any, words: str) -> None:
    assert in_words(value) == words


class TestTwoAtOnce:
    def test_the_second_sees_what_changed_keeps_their_value_and_chooses(
        self, browse: Callable[[User], Client], ana: User, ben: User
    ) -> None:
        say("yaml:a", component("pay", owner="payments"))
        first, second = browse(ana), Client()
        second.force_login(ben)
        tags = [
            re.search(r'name="etag" value="([^"]+)"', client.get(f"{PAGE}/edit").content.decode())
            for client in (first, second)
        ]
        seen = html.unescape(tags[0][1]) if tags[0] else ""
        mine = {"field": "spec.lifecycle", "value": "deprecated", "reason": "Sold", "etag": seen}
        assert first.post(f"{PAGE}/edit", mine).status_code == 302

        theirs = {"field": "spec.owner", "value": "wallets", "etag": seen}
        answer = second.post(f"{PAGE}/edit", theirs)
        assert answer.status_code == 422
        page = answer.content.decode()
        said = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())
        assert re.search(r'id="edit-error" role="alert"><svg.*?</svg><div>It was changed since you', page)
        assert re.search(r"What changed meanwhile Changed by Ana Ruiz .*Reason: Sold .*spec\.lifecycle", said)
        assert "Override all the same" in said
        assert "Leave it as it is now" in said
        assert 'value="wallets"' in page
        assert document(PAY)["spec"]["owner"] == "payments"

        fresh = re.search(r'name="etag" value="([^"]+)"', page)
        assert fresh
        again = theirs | {"etag": html.unescape(fresh[1])}
        assert second.post(f"{PAGE}/edit", again).status_code == 302
        spec = document(PAY)["spec"]
        assert (spec["owner"], spec["lifecycle"]) == ("wallets", "deprecated")

    def test_nobody_takes_back_what_they_have_not_seen(
        self, browse: Callable[[User], Client], ana: User, ben: User
    ) -> None:
        say("yaml:a", component("pay", owner="payments"))
        override_field(user=ben, entity=entity(PAY), path="spec.owner", value="team")
        client = browse(ana)
        found = re.search(r'name="etag" value="([^"]+)"', client.get(f"{PAGE}/edit").content.decode())
        assert found
        override_field(user=ben, entity=entity(PAY), path="spec.type", value="website")
        given = {"field": "spec.owner", "action": "drop", "etag": html.unescape(found[1])}
        assert client.post(f"{PAGE}/edit", given).status_code == 422
        assert document(PAY)["spec"]["owner"] == "team"
