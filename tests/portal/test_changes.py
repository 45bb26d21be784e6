"""Recent changes in the browser and by the API: what is listed to whom, the look before, and the undo."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from access.actors import acting_as, actor_of
from access.models import AuditEvent, Undoable, User
from access.services import grant
from catalog.models import Entity
from catalog.services.edit import override_field
from catalog.services.render import render_dirty
from integrations.models import CatalogLocation
from integrations.services import locations
from integrations.tasks import housekeeping, read_location, remove_location
from tests.catalog.saying import START, component, document, entity, say

pytestmark = pytest.mark.django_db

PAY = "component:default/pay"
PAGE, API = "/settings/changes", "/api/v1/changes"
FILE = """\
apiVersion: backstage.io/v1alpha1
kind: Component
metadata: {{name: {name}}}
spec: {{type: service, lifecycle: production, owner: {owner}}}
"""


@pytest.fixture(autouse=True)
def pay(core_pack: None) -> Entity:
    say("yaml:a", component("pay", owner="file"))
    return entity(PAY)


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def text_of(answer: Any) -> str:
    return html.unescape(answer.content.decode())


def latest() -> Undoable:
    return Undoable.objects.latest("event_id")


class TestPage:
    def test_empty(self, ben: User) -> None:
        assert "Nothing to undo" in text_of(client_of(ben).get(PAGE))

    def test_what_was_done_by_whom_leads_to_what_the_undo_does(
        self, ana: User, ben: User, pay: Entity, django_capture_on_commit_callbacks: Any
    ) -> None:
        with acting_as(actor_of(ana)):
            override_field(user=ana, entity=pay, path="spec.owner", value="ours", reason="moved")
        User.objects.filter(pk=ana.pk).update(name="Ana Ruiz")
        client, change = client_of(ben), latest()
        page = text_of(client.get(PAGE))
        assert f"Overrode spec.owner of {PAY}: ours" in page
        assert "Ana Ruiz · " in page
        assert f'href="{PAGE}/{change.pk}"' in page
        page = text_of(client.get(f"{PAGE}/{change.pk}"))
        assert f"spec.owner of {PAY} is overridden by nobody" in page
        assert "file" in page.split('class="po-diff"')[1].split("</table>")[0]
        assert document(PAY)["spec"]["owner"] == "ours"
        with django_capture_on_commit_callbacks(execute=True):
            answer = client.post(f"{PAGE}/{change.pk}", {"seen": ""}, follow=True)
        assert answer.redirect_chain == [(PAGE, 302)]
        assert f"Undone by {ben.label}" in text_of(answer)
        assert document(PAY)["spec"]["owner"] == "file"
        page = text_of(client.get(f"{PAGE}/{change.pk}"))
        assert "Undo it" not in page
        assert f"It was undone by {ben.label}" in page

    def test_whose_account_is_gone_is_named_as_it_was_noted(self, ana: User, ben: User, pay: Entity) -> None:
        with acting_as(actor_of(ana)):
            override_field(user=ana, entity=pay, path="spec.owner", value="ours")
        ana.delete()
        assert "ana · " in text_of(client_of(ben).get(PAGE))

    def test_what_was_changed_meanwhile_is_shown_first(self, ana: User, ben: User, pay: Entity) -> None:
        override_field(user=ben, entity=pay, path="spec.owner", value="ours")
        first, client = latest(), client_of(ana)
        override_field(user=ben, entity=pay, path="spec.owner", value="ours too")
        answer = client.post(f"{PAGE}/{first.pk}", {"seen": ""})
        assert answer.status_code == 409
        page = text_of(answer)
        assert "Nothing is undone yet" in page
        assert f'name="seen" value="{latest().pk}"' in page
        assert document(PAY)["spec"]["owner"] == "ours too"
        assert client.post(f"{PAGE}/{first.pk}", {"seen": str(latest().pk)}).status_code == 302
        assert document(PAY)["spec"]["owner"] == "file"

    def test_in_pages(self, ben: User, pay: Entity) -> None:
        for number in range(52):
            override_field(user=ben, entity=pay, path="metadata.title", value=f"title-{number}.")
        client = client_of(ben)
        first = text_of(client.get(PAGE))
        assert "title-51." in first
        assert "title-1." not in first
        cursor = first.split("?cursor=")[1].split('"')[0]
        assert "title-1." in text_of(client.get(f"{PAGE}?cursor={cursor}"))
        assert client.get(f"{PAGE}?cursor=nonsense").status_code == 302

    def test_who_may_undo_nothing_is_not_let_in(self, vic: User, ben: User, pay: Entity) -> None:
        override_field(user=ben, entity=pay, path="spec.owner", value="ours")
        for path in (PAGE, f"{PAGE}/{latest().pk}"):
            assert client_of(vic).get(path).status_code == 403
        assert client_of(vic).post(f"{PAGE}/{latest().pk}", {"seen": ""}).status_code == 403
        assert PAGE not in text_of(client_of(vic).get("/settings"))
        assert PAGE in text_of(client_of(ben).get("/settings"))

    def test_what_one_may_not_change_is_not_there(self, no_access: User, ben: User, pay: Entity) -> None:
        override_field(user=ben, entity=pay, path="spec.owner", value="hushed")
        grant(role="editor", user=no_access, scope_type="namespace", scope="elsewhere")
        client = client_of(no_access)
        assert "hushed" not in text_of(client.get(PAGE))
        assert client.get(f"{PAGE}/{latest().pk}").status_code == 404
        assert client.post(f"{PAGE}/{latest().pk}", {"seen": ""}).status_code == 404
        assert document(PAY)["spec"]["owner"] == "hushed"

    def test_markup_in_what_was_said_is_text(self, ben: User, pay: Entity) -> None:
        override_field(user=ben, entity=pay, path="metadata.title", value="<script>alert(1)</script>")
        client = client_of(ben)
        for path in (PAGE, f"{PAGE}/{latest().pk}"):
            assert b"<script>alert" not in client.get(path).content


def test_after_30_days_it_is_forgotten_by_itself(ben: User, pay: Entity) -> None:
    override_field(user=ben, entity=pay, path="spec.owner", value="ours")
    override_field(user=ben, entity=pay, path="spec.owner", value="ours too")
    change = latest()
    Undoable.objects.filter(pk=change.pk).update(expires_at=timezone.now())
    assert client_of(ben).get(f"{PAGE}/{change.pk}").status_code == 404
    housekeeping()
    assert Undoable.objects.count() == 1


class TestApi:
    def test_listed_looked_at_and_undone(self, ben: User, pay: Entity) -> None:
        with acting_as(actor_of(ben)):
            override_field(user=ben, entity=pay, path="spec.owner", value="ours")
        client, change = client_of(ben), latest()
        (row,) = client.get(f"{API}/").json()["results"]
        assert (row["id"], row["verb"], row["actor_label"]) == (change.pk, "entity.override", "ben")
        assert row["title"] == f"Overrode spec.owner of {PAY}: ours"
        one = client.get(f"{API}/{change.pk}/").json()
        difference = {"path": "spec.owner", "old": "ours", "new": "file"}
        assert one["undo"]["differences"] == {PAY: [difference]}
        dry = client.post(f"{API}/{change.pk}/undo/?dry_run=true")
        assert (dry.status_code, dry.json()["undone_at"]) == (200, None)
        assert document(PAY)["spec"]["owner"] == "ours"
        done = client.post(f"{API}/{change.pk}/undo/")
        assert (done.status_code, done.json()["undone_by"]) == (200, ben.label)
        assert document(PAY)["spec"]["owner"] == "file"
        again = client.post(f"{API}/{change.pk}/undo/")
        assert (again.status_code, again.json()["code"]) == (409, "cannot-undo")
        assert "already" in again.json()["detail"]

    def test_later_changes_are_listed(self, ben: User, pay: Entity) -> None:
        override_field(user=ben, entity=pay, path="spec.owner", value="ours")
        first = latest()
        override_field(user=ben, entity=pay, path="spec.owner", value="ours too")
        found = client_of(ben).get(f"{API}/{first.pk}/").json()["undo"]
        assert [one["title"] for one in found["later"]] == [f"Overrode spec.owner of {PAY}: ours too"]

    def test_not_for_viewers(self, vic: User, ben: User, pay: Entity) -> None:
        override_field(user=ben, entity=pay, path="spec.owner", value="ours")
        client = client_of(vic)
        assert client.get(f"{API}/").status_code == 403
        assert client.post(f"{API}/{latest().pk}/undo/").status_code == 403
        assert client_of(ben).get(f"{API}/999999999999999999/").status_code == 404


class TestCatalogFiles:
    """Imports and their removal; each time the files are read again between and after, as a schedule does."""

    @pytest.fixture
    def folder(self, tmp_path: Path, settings: Any) -> Path:
        settings.PORTICO_FILES_ALLOW = [tmp_path]
        (tmp_path / "all.yaml").write_text(
            "---\n".join(FILE.format(name=name, owner="team") for name in ("one", "two"))
        )
        return tmp_path

    @pytest.fixture
    def undo(self, ana: User, django_capture_on_commit_callbacks: Any) -> Any:
        def do(verb: str) -> Undoable:
            change = Undoable.objects.filter(event__verb=verb).latest("event_id")
            with django_capture_on_commit_callbacks() as asked:
                answer = client_of(ana).post(f"{API}/{change.pk}/undo/")
            assert answer.status_code == 200, answer.content
            assert asked  # a worker
            return change

        return do

    @staticmethod
    def sync() -> None:
        """All that a schedule would do."""
        for row in CatalogLocation.objects.all():
            (remove_location if row.is_removed else read_location)(location_id=row.pk)
        render_dirty(at=START)

    @staticmethod
    def alive() -> list[str]:
        found = Entity.objects.filter(deleted_at=None, kind="component").order_by("ref")
        return [ref.rpartition("/")[2] for ref in found.values_list("ref", flat=True)]

    @pytest.mark.parametrize("way", ["browser", "command"])
    def test_an_import_is_taken_back(self, ana: User, ben: User, folder: Path, undo: Any, way: str) -> None:
        if way == "browser":
            client_of(ana).post("/connections/import", {"address": str(folder), "action": "import"})
            self.sync()
        else:
            locations.import_paths(addresses=[str(folder)], by="Ana", from_shell=True)
        self.sync()
        assert self.alive() == ["one", "pay", "two"]
        override_field(user=ben, entity=entity("component:default/one"), path="spec.owner", value="ours")
        change = Undoable.objects.get(event__verb="catalog.import")
        page = text_of(client_of(ana).get(f"{PAGE}/{change.pk}"))
        assert "2 entities go: nobody else speaks of them." in page
        assert "Overrode spec.owner of component:default/one: ours" in page
        assert not Undoable.objects.filter(event__verb="catalog.import", pk__in=_seen_by(ben)).exists()
        undo("catalog.import")
        self.sync()
        assert self.alive() == ["pay"]
        self.sync()
        assert self.alive() == ["pay"]
        assert not CatalogLocation.objects.exists()

    def test_a_removal_is_taken_back_with_what_people_said(
        self, ana: User, ben: User, folder: Path, undo: Any
    ) -> None:
        locations.import_paths(addresses=[str(folder)], by="Ana", from_shell=True)
        uid = entity("component:default/one").uid
        override_field(user=ben, entity=entity("component:default/one"), path="spec.owner", value="ours")
        location = CatalogLocation.objects.get()
        roots, interval = location.roots, location.interval
        client_of(ana).post(f"/connections/import/{location.pk}/remove")
        self.sync()
        assert self.alive() == ["pay"]
        imported = Undoable.objects.get(event__verb="catalog.import")
        assert imported.undone_by == ana.label
        change = undo("catalog.location-remove")
        self.sync()
        assert self.alive() == ["one", "pay", "two"]
        assert entity("component:default/one").uid == uid
        assert document("component:default/one")["spec"]["owner"] == "ours"
        location = CatalogLocation.objects.get()
        assert (location.roots, location.interval) == (roots, interval)
        (folder / "all.yaml").write_text(FILE.format(name="one", owner="other"))
        read_location(location_id=location.pk, is_guarded=False)
        assert self.alive() == ["one", "pay"]
        undo("catalog.import")  # the undo of the undo
        self.sync()
        assert self.alive() == ["pay"]
        change.refresh_from_db()
        assert AuditEvent.objects.filter(verb="change.undo").count() == 2

    def test_a_removal_that_is_under_way_is_called_off(self, ana: User, folder: Path, undo: Any) -> None:
        locations.import_paths(addresses=[str(folder)], by="Ana", from_shell=True)
        location = CatalogLocation.objects.get()
        client_of(ana).post(f"/connections/import/{location.pk}/remove")
        undo("catalog.location-remove")
        remove_location(location_id=location.pk)  # the worker comes too late
        self.sync()
        assert self.alive() == ["one", "pay", "two"]

    def test_what_was_imported_again_or_removed_since_is_said(self, ana: User, folder: Path) -> None:
        locations.import_paths(addresses=[str(folder)], by="Ana", from_shell=True)
        location = CatalogLocation.objects.get()
        client_of(ana).post(f"/connections/import/{location.pk}/remove")
        self.sync()
        locations.import_paths(addresses=[str(folder)], by="Ana", from_shell=True)
        removed = Undoable.objects.get(event__verb="catalog.location-remove")
        assert removed.is_undone
        assert Undoable.objects.filter(event__verb="catalog.import", undone_at=None).count() == 1


def _seen_by(user: User) -> list[int]:
    answer = client_of(user).get(f"{API}/?limit=1000")
    return [row["id"] for row in answer.json()["results"]]
