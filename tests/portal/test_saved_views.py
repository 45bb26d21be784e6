"""Views: kept lists, for oneself, a team or all; in the navigation, by the form, by the API and from packs."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from access.definitions import forget_stamps
from access.models import AuditEvent, User
from access.services import create_token, tie_account
from base.errors import Forbidden, InvalidInput, NotFound, PreconditionFailed
from catalog.models import Entity
from catalog.services.render import render_dirty
from portal import saved_views
from portal.models import SavedView
from portal.packs import apply_pack
from portal.saved_views import (
    VIEWS,
    TooManyViews,
    change_view,
    delete_view,
    make_view,
    restore_view,
    views_of,
)
from tests.catalog.saying import claim, component, say

pytestmark = pytest.mark.django_db
Browse = Callable[[User], Client]


@pytest.fixture(autouse=True)
def catalog(core_pack: None) -> None:
    saved_views.forget_navigation()
    say(
        "yaml:a",
        claim("group:pay", {"type": "team", "children": []}),
        claim("group:web", {"type": "team", "children": []}),
        claim("user:ben", {"memberOf": ["pay"]}),
        claim("user:vic", {"memberOf": ["pay"]}),
        component("card", owner="group:pay"),
        component("bill", owner="group:pay"),
        component("shop", owner="group:web"),
        claim("component:lost", {"type": "service"}),
    )
    render_dirty(at=timezone.now())


def on_team(*users: User) -> None:
    for user in users:
        tie_account(user, entity_uid=Entity.objects.get(ref=f"user:default/{user.username}").uid)
        user.refresh_from_db()


def shown(client: Client, url: str, status: int = 200) -> str:
    answer = client.get(url)
    assert answer.status_code == status, url
    return html.unescape(answer.content.decode())


def titles(user: User) -> list[str]:
    return [view.title for view in views_of(user)]


def test_a_list_is_kept_as_it_is_shown_and_opened_by_its_link(browse: Browse, vic: User) -> None:
    client = browse(vic)
    page = shown(client, "/catalog?q=kind:component&columns=owner,type&order=-changed&group=owner")
    found = re.search(r'href="(/views/new[^"]*)"', page)
    assert found
    form = shown(client, found[1])
    assert 'name="query" id="query" value="kind:component"' in form
    assert 'value="owner" checked' in form
    sent = {
        "title": "Ours", "audience": "personal", "query": "kind:component", "columns": ["owner", "type"],
        "order": "-changed", "group": "owner",
    }  # fmt: skip
    answer = client.post(found[1], sent)
    view = SavedView.objects.get()
    assert answer.headers["Location"] == saved_views.list_url(view)
    assert view.spec == {
        "title": "Ours", "query": "kind:component", "columns": ["owner", "type"], "order": "-changed",
        "group": "owner",
    }  # fmt: skip
    assert client.get(f"/views/{view.pk}").headers["Location"] == saved_views.list_url(view)
    page = shown(client, saved_views.list_url(view))
    assert "<h1>Ours</h1>" in page
    assert "Your own view" in page
    assert "Save the changes" not in page
    assert re.search(r'aria-current="page"[^>]*data-rail-tip="Ours"', page)  # in the navigation
    assert AuditEvent.objects.filter(verb="view.create", actor_uid=str(vic.pk)).exists()


def test_a_grouped_list_has_a_heading_with_the_number_of_each_group(browse: Browse, vic: User) -> None:
    client = browse(vic)
    page = shown(client, "/catalog?q=kind:component&group=owner&order=-title")
    headings = re.findall(r'<th scope="rowgroup".*?</th>', page)
    assert [re.sub(r"<[^>]+>|\s+", " ", one).split()[-1] for one in headings] == ["1", "2", "1"]
    assert "No owner" in headings[0]
    names = re.findall(r'href="/catalog/default/component/(\w+)"', page)
    assert list(dict.fromkeys(names)) == ["lost", "card", "bill", "shop"]
    assert "cannot be grouped by" in shown(client, "/catalog?group=nonsense")
    page = shown(client, "/catalog?q=kind:component&group=owner&limit=10&order=-owner")
    assert (
        "shop" in re.findall(r'href="/catalog/default/component/(\w+)"', page)[0]
    )  # falls, if that is asked for


def test_what_was_changed_of_a_list_is_kept_in_its_view_or_taken_back(browse: Browse, vic: User) -> None:
    view = make_view(user=vic, title="Ours", query="kind:component")
    client = browse(vic)
    page = shown(client, saved_views.list_url(view) + "&order=-changed")
    assert "Back to the view" in page
    found = re.search(r'action="(/views/\d+/save[^"]*)"', page)
    assert found
    assert client.post(found[1]).status_code == 302
    view.refresh_from_db()
    assert view.spec["order"] == "-changed"
    assert "Back to the view" not in shown(client, saved_views.list_url(view))
    client.post(f"/views/{view.pk}/save?q=kind:nonsense(")
    view.refresh_from_db()
    assert view.spec["query"] == "kind:component"


class TestWhoSeesIt:
    def test_ones_own_is_seen_by_nobody_else(self, browse: Browse, vic: User, ana: User) -> None:
        view = make_view(user=vic, title="Mine", query="kind:component")
        assert titles(vic) == ["Mine"]
        assert titles(ana) == []
        client = browse(ana)
        for url in (f"/views/{view.pk}", f"/views/{view.pk}/edit", f"/api/v1/views/{view.pk}/"):
            assert client.get(url).status_code == 404, url
        for url in (f"/views/{view.pk}/delete", f"/views/{view.pk}/save", f"/views/{view.pk}/restore"):
            assert client.post(url).status_code == 404, url
        assert "not for you" in shown(client, f"/catalog?view={view.pk}")
        assert "Mine" not in shown(client, "/settings/packs")
        assert "mine-" not in client.get("/api/v1/definitions/").content.decode()

    def test_a_teams_is_its_members_who_may_edit_it_too(self, vic: User, ben: User, ana: User) -> None:
        on_team(vic, ben)
        view = make_view(user=vic, title="Pay", audience="team", team="group:default/pay")
        assert titles(ben) == ["Pay"]
        assert titles(ana) == []  # whatever else they may
        change_view(user=ben, view=view, title="Payments")
        assert titles(vic) == ["Payments"]
        with pytest.raises(InvalidInput, match="team of yours"):
            make_view(user=vic, title="Web", audience="team", team="group:default/web")
        with pytest.raises(InvalidInput, match="team of yours"):
            make_view(user=ana, title="Pay", audience="team", team="group:default/pay")

    def test_one_for_all_takes_who_may_compose_pages(self, browse: Browse, vic: User, ana: User) -> None:
        with pytest.raises(Forbidden):
            make_view(user=vic, title="All", audience="all")
        view = make_view(user=ana, title="All", audience="all")
        assert titles(vic) == ["All"]
        assert "All" in shown(browse(vic), "/")
        for do in (
            lambda: change_view(user=vic, view=view, title="Mine"),
            lambda: delete_view(user=vic, view=view),
        ):
            with pytest.raises(Forbidden):
                do()
        own = make_view(user=vic, title="Own")
        with pytest.raises(Forbidden):
            change_view(user=vic, view=own, audience="all")
        assert 'value="all"' not in shown(browse(vic), "/views/new")
        assert 'value="all"' in shown(browse(ana), "/views/new")

    def test_a_token_that_is_held_to_a_role_saves_nothing(self, client: Client, vic: User) -> None:
        token = create_token(user=vic, name="ci", role="viewer").text
        answer = client.post(
            "/api/v1/views/", {"title": "x"}, "application/json", headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.status_code == 403


def test_the_form_renames_shares_and_says_what_is_wrong_at_the_fields(
    browse: Browse, vic: User, ben: User
) -> None:
    on_team(vic, ben)
    view = make_view(user=vic, title="Mine", query="kind:component")
    client = browse(vic)
    page = shown(client, f"/views/{view.pk}/edit")
    etag = re.search(r'name="etag" value="([^"]*)"', client.get(f"/views/{view.pk}/edit").content.decode())
    assert etag
    assert "group:default/pay" in page
    sent = {"title": "", "query": "kind:(", "audience": "personal", "etag": html.unescape(etag[1])}
    wrong = client.post(f"/views/{view.pk}/edit", sent)
    assert wrong.status_code == 422
    assert 'id="title-error"' in wrong.content.decode()
    wrong = client.post(f"/views/{view.pk}/edit", {**sent, "title": "x", "columns": "nonsense"})
    said = wrong.content.decode()
    assert wrong.status_code == 422
    assert 'id="query-error"' in said
    good = {**sent, "title": "Pay", "query": "kind:api", "audience": "team", "team": "group:default/pay"}
    assert client.post(f"/views/{view.pk}/edit", good).status_code == 302
    assert titles(ben) == ["Pay"]
    late = client.post(f"/views/{view.pk}/edit", {**good, "title": "Late"})
    assert late.status_code == 422
    assert "was changed since" in html.unescape(late.content.decode())
    assert titles(ben) == ["Pay"]


def test_a_deletion_is_taken_back_for_30_days(browse: Browse, vic: User) -> None:
    view = make_view(user=vic, title="Mine", query="kind:component")
    client = browse(vic)
    toast = client.post(f"/views/{view.pk}/delete", headers={"HX-Request": "true"})
    assert f"/views/{view.pk}/restore" in toast.headers["HX-Trigger"]
    assert titles(vic) == []
    assert "Mine" not in shown(client, "/")
    page = shown(client, "/views")
    assert "Deleted in the last 30 days" in page
    assert "is gone" in shown(client, f"/catalog?view={view.pk}") or "no such view" in shown(
        client, f"/catalog?view={view.pk}"
    )
    client.post(f"/views/{view.pk}/restore")
    assert titles(vic) == ["Mine"]
    delete_view(user=vic, view=view)
    saved_views.forget_deleted(now=timezone.now() + timedelta(days=29))
    assert restore_view(user=vic, view_id=view.pk).deleted_at is None
    delete_view(user=vic, view=view)
    saved_views.forget_deleted(now=timezone.now() + timedelta(days=31))
    with pytest.raises(NotFound):
        restore_view(user=vic, view_id=view.pk)


def test_the_api_has_views_whole(client: Client, vic: User, ben: User, as_token: Callable[..., Any]) -> None:
    on_team(vic, ben)
    headers = as_token(vic)

    def call(method: str, url: str, data: Any = None, **more: str) -> Any:
        return getattr(client, method)(
            f"/api/v1/views/{url}", data, "application/json", headers={**headers, **more}
        )

    made = call("post", "", {"title": "Pay", "query": "owner:@me", "columns": ["owner"], "audience": "team",
                             "team": "group:default/pay"})  # fmt: skip
    assert made.status_code == 201, made.content
    one = made.json()
    assert (one["team"], one["by"], one["may_change"]) == ("group:default/pay", "Vic Lind", True)
    listed = client.get("/api/v1/views/?audience=team", headers=headers).json()
    assert [row["title"] for row in listed["results"]] == ["Pay"]
    assert listed["total"] == 1
    etag = client.get(f"/api/v1/views/{one['id']}/", headers=headers).headers["ETag"]
    changed = call("patch", f"{one['id']}/", {"group": "owner"}, **{"If-Match": etag})
    assert changed.status_code == 200, changed.content
    assert changed.json()["group"] == "owner"
    assert call("patch", f"{one['id']}/", {"title": "x"}, **{"If-Match": etag}).status_code == 412
    assert changed.json()["team"] == "group:default/pay"  # what is left out stays
    for wrong in (
        {"title": "x", "query": "kind:("},
        {"title": "x", "columns": ["nope"]},
        {"title": "x", "order": "y"},
    ):
        answer = call("post", "", wrong)
        assert answer.status_code == 422, wrong
        assert answer.json()["errors"][0]["path"] in {"query", "columns", "order"}
    assert call("delete", f"{one['id']}/").status_code == 204
    assert client.get(f"/api/v1/views/{one['id']}/", headers=headers).status_code == 404
    assert call("post", f"{one['id']}/restore/").status_code == 200


def test_packs_bring_views_for_all_and_what_people_keep_is_no_part_of_one(
    tmp_path: Path, vic: User, ana: User
) -> None:
    folder = tmp_path / "ours"
    folder.mkdir()
    text = (
        "apiVersion: portico/v1\nkind: View\nmetadata: {name: failing}\n"
        "spec: {title: Failing, query: 'is:failing', group: owner}\n"
    )
    (folder / "views.yaml").write_text(text)
    assert [step.action for step in apply_pack(folder, by="tests")] == ["create"]
    assert titles(vic) == ["Failing"]
    make_view(user=vic, title="Mine")
    make_view(user=ana, title="Ours", audience="all")
    assert [name for name, _spec in VIEWS.export()] == ["failing", "ours"]
    view = SavedView.objects.get(name="failing")
    delete_view(user=ana, view=view)
    apply_pack(folder, by="tests", keep_edits=True)
    assert titles(vic) == ["Mine", "Ours"]  # a start does not bring it back
    (folder / "views.yaml").write_text(text.replace("owner}", "nonsense}"))
    with pytest.raises(InvalidInput, match="wrong"):
        apply_pack(folder, by="tests")


def test_there_is_an_end_of_views(monkeypatch: pytest.MonkeyPatch, vic: User) -> None:
    monkeypatch.setattr(saved_views, "MOST_VIEWS", 1)
    first = make_view(user=vic, title="a")
    with pytest.raises(TooManyViews):
        make_view(user=vic, title="b")
    delete_view(user=vic, view=first)
    make_view(user=vic, title="b")
    with pytest.raises(TooManyViews):
        restore_view(user=vic, view_id=first.pk)


def test_who_saw_an_older_state_changes_nothing(vic: User) -> None:
    view = make_view(user=vic, title="a")
    seen = saved_views.etag_of(view)
    change_view(user=vic, view=view, title="b", expected=seen)
    with pytest.raises(PreconditionFailed):
        change_view(user=vic, view=view, title="c", expected=seen)


def test_the_navigation_costs_nothing_until_a_view_changes(
    browse: Browse, vic: User, django_assert_num_queries: Any
) -> None:
    make_view(user=vic, title="Mine")
    saved_views.forget_navigation()
    assert [item.title for item in saved_views.navigation_of(vic)] == ["Mine"]
    with django_assert_num_queries(0):
        saved_views.navigation_of(vic)
    SavedView.objects.update(revision=9)  # by another process
    forget_stamps()
    with django_assert_num_queries(2):  # 1 whether anything changed, 2 the views
        saved_views.navigation_of(vic)


def test_views_are_tabs_above_the_lists_that_they_show(browse: Browse, vic: User) -> None:
    say("yaml:t", component("tabbed"))
    made = [make_view(user=vic, title=f"Own {n}", query="kind:component type:service") for n in range(5)]
    wide = make_view(user=vic, title="Anything", query="has:owner")
    saved_views.forget_navigation()

    def tabs(url: str) -> list[tuple[str, bool]]:
        page = browse(vic).get(url).content.decode()
        (nav,) = re.findall(r'<nav class="po-tabs" aria-label="Kinds">(.*?)</nav>', page)
        return [
            (html.unescape(label.strip()), "aria-current" in attributes)
            for attributes, label in re.findall(r"<a ([^>]*)>(?:<svg.*?</svg>)?([^<]*)", nav)
        ]

    # The list of all has what is of no one kind, the list of a kind what is of that.
    assert ("Anything", False) in tabs("/catalog")
    assert "Own 0" not in dict(tabs("/catalog"))
    of_kind = tabs("/catalog?q=kind:component")
    assert [label for label, _active in of_kind if label.startswith("Own")] == ["Own 0", "Own 1", "Own 2"]
    assert dict(of_kind)["Components"]
    # An opened view is the one tab that is chosen, also where there is no room for all; the others are behind "More".
    opened = tabs(saved_views.list_url(made[4]))
    assert [label for label, is_active in opened if is_active] == ["Own 4"]
    assert [label for label, _active in opened if label.startswith("Own")] == ["Own 0", "Own 1", "Own 4"]
    page = browse(vic).get("/catalog?q=kind:component").content.decode()
    assert f'href="{html.escape(saved_views.list_url(made[3]))}"' in page
    assert [label for label, is_active in tabs(saved_views.list_url(wide)) if is_active] == ["Anything"]
