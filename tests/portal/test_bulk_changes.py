"""Changes of many things that a worker does: all of it or nothing, seen while it lasts, and undone as one."""

from __future__ import annotations

import html
import re
import threading
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from access.models import AuditEvent, Undoable, User
from access.services.undo import undo_change
from catalog.models import BulkChange, Claim, Entity, Rank
from catalog.services import bulk_changes, bulk_fields
from catalog.services.bulk_fields import check_change, plan_fields
from catalog.services.render import render_dirty
from catalog.tasks import change_many
from portal.views import many
from tests.catalog.saying import claim, component, document, say

pytestmark = pytest.mark.django_db
FEW = 3


@pytest.fixture(autouse=True)
def catalog(core_pack: None, monkeypatch: pytest.MonkeyPatch) -> None:
    say(
        "yaml:a",
        *(component(f"c{n}") for n in range(FEW + 2)),
        claim("group:crew", {"type": "team", "children": []}),
    )
    render_dirty(at=timezone.now())
    for view in ("bulk", "owners"):
        monkeypatch.setattr(f"portal.views.{view}.AT_ONCE", FEW)
    monkeypatch.setattr(many.change_many, "apply_async", lambda **_options: None)  # a worker comes later


@pytest.fixture
def editor(client: Client, ben: User) -> Client:
    client.force_login(ben)
    return client


def components() -> list[Entity]:
    return list(Entity.objects.filter(kind="component").order_by("title", "ref"))


def text(answer: Any, status: int = 200) -> str:
    assert answer.status_code == status
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.content.decode())).split())


def queue(user: User, value: str = "retired", **more: Any) -> BulkChange:
    plan = plan_fields(user=user, entities=components(), change=check_change("spec.lifecycle", "set", value))
    what = {"path": "spec.lifecycle", "action": "set", "value": value}
    given = {"expected": plan.mark, "reason": "Over.", **more}
    return bulk_changes.queue(user=user, what=what, entities=components(), **given)


def lifecycles() -> set[str]:
    return {document(one.ref)["spec"]["lifecycle"] for one in components()}


def test_a_field_of_many_is_previewed_queued_done_and_undone(editor: Client, ben: User) -> None:
    asked = {
        "q": "kind:component",
        "field": "spec.lifecycle",
        "do": "set",
        "value": "retired",
        "reason": "Over.",
    }
    preview = editor.post("/catalog/fields", {**asked, "action": "preview"}).content.decode()
    mark = re.search(r'name="mark" value="([^"]+)"', preview)
    uids = re.search(r'name="entities" value="([^"]+)"', preview)
    assert mark
    assert uids
    queued = editor.post(
        "/catalog/fields", {**asked, "action": "apply", "mark": mark[1], "entities": uids[1]}
    )
    change = BulkChange.objects.get()
    assert queued.url == f"/catalog/changes/{change.pk}"
    page = text(editor.get(queued.url))
    assert "Waiting 5 entities" in page
    assert "spec.lifecycle Set to retired Over." in page
    assert lifecycles() == {"production"}
    change_many()
    assert lifecycles() == {"retired"}
    page = text(editor.get(queued.url))
    assert "Done" in page
    assert "5 entities are changed" in page
    event = AuditEvent.objects.get(verb="entity.bulk-fields")
    assert (event.actor_uid, event.changes["count"]) == (str(ben.pk), 5)
    change.refresh_from_db()
    assert change.entities == []
    undo_change(change=Undoable.objects.get(event=event), user=ben)
    assert lifecycles() == {"production"}
    assert not Claim.objects.filter(rank=Rank.PERSON).exists()


def test_owners_go_the_same_way(editor: Client) -> None:
    asked = {"q": "kind:component", "owner": "group:default/crew"}
    preview = editor.post("/catalog/owners", {**asked, "action": "preview"}).content.decode()
    mark = re.search(r'name="mark" value="([^"]+)"', preview)
    assert mark
    queued = editor.post("/catalog/owners", {**asked, "action": "apply", "mark": mark[1]})
    assert "spec.owner Set to group:default/crew" in text(editor.get(queued.url))
    change_many()
    assert set(Entity.objects.filter(kind="component").values_list("owner", flat=True)) == {
        "group:default/crew"
    }


def test_few_are_changed_at_once(editor: Client) -> None:
    uid = str(components()[0].uid)
    plan = plan_fields(
        user=User.objects.get(username="ben"),
        entities=components()[:1],
        change=check_change("spec.lifecycle", "set", "retired"),
    )
    editor.post(
        "/catalog/fields",
        {
            "entities": uid,
            "field": "spec.lifecycle",
            "value": "retired",
            "action": "apply",
            "mark": plan.mark,
        },
    )
    assert not BulkChange.objects.exists()
    assert lifecycles() == {"retired", "production"}


def test_what_is_not_as_it_was_seen_is_not_done_and_says_why(editor: Client, ben: User) -> None:
    change = queue(ben)
    say("yaml:a", component("c1", lifecycle="old"), minute=1)
    change_many()
    change.refresh_from_db()
    assert change.state == "failed"
    page = text(editor.get(f"/catalog/changes/{change.pk}"))
    assert "Nothing of it is changed. Something of it was changed since you looked." in page
    assert not Claim.objects.filter(rank=Rank.PERSON).exists()


def test_who_may_no_longer_changes_nothing(ben: User) -> None:
    change = queue(ben)
    User.objects.filter(pk=ben.pk).update(is_active=False)
    change_many()
    change.refresh_from_db()
    assert change.state == "failed"
    assert lifecycles() == {"production"}


def test_it_can_be_let_be_until_it_is_done(editor: Client, ben: User) -> None:
    change = queue(ben)
    editor.post(f"/catalog/changes/{change.pk}")
    change_many()
    change.refresh_from_db()
    assert (change.state, lifecycles()) == ("cancelled", {"production"})
    assert editor.post(f"/catalog/changes/{change.pk}").status_code == 409


def test_so_many_of_ones_own_wait_and_no_more(editor: Client, ben: User, ana: User) -> None:
    last = [queue(ben) for _n in range(bulk_changes.MOST_WAITING)][-1]
    asked = {"action": "apply", "q": "kind:component", "field": "spec.lifecycle", "value": "retired"}
    said = text(editor.post("/catalog/fields", asked), 422)
    assert "10 changes of yours wait for a worker" in said
    assert queue(ana).is_active
    bulk_changes.cancel(user=ben, change=last)
    assert queue(ben).is_active


def test_nobody_sees_the_changes_of_others(client: Client, ben: User, ana: User) -> None:
    change = queue(ben)
    client.force_login(ana)
    assert client.get(f"/catalog/changes/{change.pk}").status_code == 404


def test_a_worker_that_dies_leaves_nothing_done_and_another_begins_anew(
    ben: User, editor: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = queue(ben)
    write = bulk_fields.say_words

    def dies(words: Any, *, by: str) -> None:
        write(words, by=by)
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(bulk_fields, "say_words", dies)
        with pytest.raises(SystemExit):
            bulk_changes.execute(change_id=change.pk)
    change.refresh_from_db()
    assert (change.state, change.attempts) == ("queued", 1)
    assert not Claim.objects.filter(rank=Rank.PERSON).exists()
    assert "Being done" in text(editor.get(f"/catalog/changes/{change.pk}"))
    change_many()
    change.refresh_from_db()
    assert (change.state, change.attempts, change.changed) == ("done", 2, 5)


def test_what_kills_each_worker_is_given_up_with_nothing_done(ben: User) -> None:
    change = queue(ben)
    BulkChange.objects.update(attempts=bulk_changes.ATTEMPTS)
    change_many()
    change.refresh_from_db()
    assert change.state == "failed"
    assert "stopped 3 times" in change.error
    assert lifecycles() == {"production"}


def test_an_error_of_ours_is_told_without_its_words(ben: User, monkeypatch: pytest.MonkeyPatch) -> None:
    change = queue(ben)

    def fails(*_args: Any, **_options: Any) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(bulk_fields, "say_words", fails)
    change_many()
    change.refresh_from_db()
    assert change.state == "failed"
    assert "secret" not in change.error


@pytest.mark.django_db(transaction=True)
def test_two_workers_do_it_once(ben: User) -> None:
    change = queue(ben)
    done: list[None] = []

    def other() -> None:
        try:
            done.append(bulk_changes.execute(change_id=change.pk))
        finally:
            connection.close()

    with transaction.atomic():
        BulkChange.objects.select_for_update().get(pk=change.pk)  # one is at it
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(30)
        assert done == [None]
    change.refresh_from_db()
    assert (change.state, change.attempts) == ("queued", 0)
    change_many()
    change_many()
    assert AuditEvent.objects.filter(verb="entity.bulk-fields").count() == 1
