"""The pages of connections: connecting a tool, its runs, what it brought, its rules, its end."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from access.models import AuditEvent, Secret, User
from access.services import grant
from catalog.models import Claim, Entity, Rank, Source
from catalog.queries import list_entities
from catalog.services.ingest import ClaimIn, apply_claims
from integrations.models import CatalogLocation, Connection, ResourceRun, RunState, StoredRecord, SyncRun
from integrations.services.connections import OWNER, config_of, create_connection
from integrations.services.runs import request_sync
from integrations.sync import execute_run
from integrations.tasks import read_location, remove_location, settle_connection

SECRET = "s3cret-of-the-tool"
REPO = "repo:git.acme.example/acme/"


@pytest.fixture(autouse=True)
def _core(core_pack: None) -> None:
    """Kinds, pages and roles."""


@pytest.fixture(autouse=True)
def queue(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Runs whose message would be sent: a test has no broker, and the row is the truth."""
    sent: list[int] = []
    monkeypatch.setattr(
        "integrations.tasks.execute_run.delay_on_commit", lambda *, run_id: sent.append(run_id), raising=False
    )
    return sent


@pytest.fixture
def admin(browse: Callable[[User], Client], ana: User) -> Client:
    return browse(ana)


@pytest.fixture
def viewer(browse: Callable[[User], Client], vic: User) -> Client:
    return browse(vic)


@pytest.fixture
def folder(tmp_path: Path, settings: Any) -> Path:
    settings.PORTICO_FILES_ALLOW = [tmp_path]
    return tmp_path


def image(number: int, **more: Any) -> dict[str, Any]:
    return {
        "type": "artifact",
        "external_id": f"img-{number}",
        "artifact_type": "image",
        "name": f"image-{number}",
        "keys": [f"image:registry.acme.example/image-{number}"],
        **more,
    }


def repository(name: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "repository",
        "external_id": name,
        "name": name,
        "path": f"acme/{name}",
        "keys": [f"{REPO}{name}"],
        "build_files": ["go.mod"],
        "last_activity_at": "@-3d",
        **more,
    }


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sync(connection: Connection) -> SyncRun:
    run = request_sync(connection=connection, by="tests")
    execute_run(run_id=run.pk, now=timezone.now())
    run.refresh_from_db()
    return run


@pytest.fixture
def images(folder: Path) -> Connection:
    """A connection that brought 40 images, of which one line was wrong."""
    bad = image(99) | {"artifact_type": "wrong"}
    path = write(folder / "images.jsonl", [*(image(n) for n in range(40)), bad])
    connection = create_connection(
        slug="images", label="Images", connector="records", config={"location": str(path), "token": SECRET}
    )
    sync(connection)
    return connection


@pytest.fixture
def held(images: Connection) -> ResourceRun:
    """What the guard held when the tool listed only a few of them."""
    write(Path(images.config["location"]), [image(n) for n in range(5)])
    run = sync(images)
    assert run.state == RunState.PARTIAL
    return run.resources.get(state="held")


def text_of(answer: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


# --- the list ---------------------------------------------------------------------------------------------------


class TestList:
    def test_empty_it_says_what_to_do(self, admin: Client) -> None:
        answer = admin.get("/connections")
        assert answer.status_code == 200
        for way in ("/connections/new", "/connections/import", "/sample"):
            assert f'"{way}"' in answer.content.decode()

    def test_a_viewer_sees_no_buttons_that_act(
        self, browse: Callable[[User], Client], vic: User, images: Connection
    ) -> None:
        html = browse(vic).get("/connections").content.decode()
        assert "Images" in html
        assert "/sync" not in html.partition("<main")[2]
        assert "/connections/new" not in html

    def test_it_shows_state_entities_and_the_next_run(self, admin: Client, images: Connection) -> None:
        answer = admin.get("/connections")
        assert "Synced" in text_of(answer)
        assert '<a href="/catalog?q=source%3Aimages">40</a>' in answer.content.decode()
        assert "in 9 min" in text_of(answer) or "in 10 min" in text_of(answer)

    def test_what_nobody_confirmed_for_three_intervals_is_stale(
        self, admin: Client, images: Connection
    ) -> None:
        SyncRun.objects.update(finished_at=timezone.now() - timedelta(seconds=4 * images.interval))
        assert "Synced, stale 40 min" in text_of(admin.get("/connections"))

    def test_a_run_shows_its_progress_and_asks_again_soon(self, admin: Client, images: Connection) -> None:
        assert 'hx-trigger="every 30s"' in admin.get("/connections").content.decode()
        run = request_sync(connection=images, by="ana")
        SyncRun.objects.filter(pk=run.pk).update(state=RunState.RUNNING)
        ResourceRun.objects.create(
            run=run, name="entities", position=0, state="reading", listed=412, expected=640
        )
        answer = admin.get("/connections")
        html = answer.content.decode()
        assert "412/640" in text_of(answer)
        assert 'max="640"' in html
        assert 'hx-get="/connections" hx-trigger="every 2s" hx-select="#main"' in html
        assert "/connections/images/cancel" in html
        assert "every 2s" in admin.get("/connections/images").content.decode()
        assert "412/640" in text_of(admin.get(f"/connections/images/runs/{run.pk}"))

    def test_the_page_of_one_says_why_not_all_was_read(self, admin: Client, held: ResourceRun) -> None:
        rows = text_of(admin.get("/connections/images")).partition("Last runs")[2]
        assert held.run.message
        assert held.run.message in html.unescape(rows)

    def test_what_the_guard_holds_stands_above_it_with_names(self, admin: Client, held: ResourceRun) -> None:
        words = text_of(admin.get("/connections"))
        assert "stopped before it removed anything" in words
        assert "35 records would go" in words
        assert "image-10" in words
        assert "and 30 more" in words


# --- connecting -------------------------------------------------------------------------------------------------


class TestConnecting:
    def test_the_gallery_has_all_connectors_on_shelves(self, admin: Client) -> None:
        words = text_of(admin.get("/connections/new"))
        for shelf, tool in (
            ("Git", "Git"),
            ("CI", "Buildbot"),
            ("Registries", "Container registry"),
            ("Files", "Records"),
        ):
            assert shelf in words
            assert tool in words

    def test_it_is_searched_by_name_and_by_what_it_brings(self, admin: Client) -> None:
        assert "Buildbot" not in text_of(admin.get("/connections/new?q=JSON+Lines"))
        part = admin.get("/connections/new?q=buildb&part=shelves").content.decode()
        assert "Buildbot" in part
        assert "<html" not in part
        assert "No connector is called “kettle”" in text_of(admin.get("/connections/new?q=kettle"))

    def test_an_unknown_connector_is_not_found(self, admin: Client) -> None:
        assert admin.get("/connections/new/kettle").status_code == 404

    def test_the_form_has_the_models_fields_and_the_guide(self, admin: Client) -> None:
        html = admin.get("/connections/new/buildbot").content.decode()
        for name in ("base_url", "username", "password", "token", "builders", "days"):
            assert f'name="{name}"' in html
        assert "About Buildbot" in html
        assert 'type="password"' in html

    def test_errors_stand_at_their_fields_and_in_a_summary_that_takes_focus(self, admin: Client) -> None:
        answer = admin.post(
            "/connections/new/buildbot",
            {
                "connection_name": "",
                "connection_slug": "No!",
                "connection_namespace": "default",
                "days": "x",
                "token": SECRET,
            },
        )
        assert answer.status_code == 422
        html = answer.content.decode()
        assert "data-focus" in html
        for name in ("connection_name", "base_url", "days"):
            assert f'href="#field-{name}"' in html
            assert f'id="{name}-error"' in html
        assert SECRET not in html
        assert "Set, will be saved" in html, (
            "a secret that was typed beside an error has not to be typed again"
        )

    @pytest.mark.parametrize("slug", ["new", "import", "Not-this", "images"])
    def test_a_short_name_that_cannot_be_is_refused(
        self, admin: Client, images: Connection, slug: str
    ) -> None:
        answer = admin.post(
            "/connections/new/records",
            {
                "connection_name": "A",
                "connection_slug": slug,
                "connection_namespace": "default",
                "location": images.config["location"],
            },
        )
        assert answer.status_code == 422
        assert 'id="connection_slug-error"' in answer.content.decode()

    def test_the_whole_way_without_script(self, admin: Client, folder: Path, queue: list[int]) -> None:
        path = write(
            folder / "all.jsonl",
            [repository("ledger"), image(1, about=[f"{REPO}ledger"]), image(2) | {"artifact_type": "wrong"}],
        )
        start = "/connections/new/records"
        given = {
            "connection_name": "Git and images",
            "connection_slug": "",
            "connection_namespace": "shop",
            "location": str(path),
            "token": SECRET,
            "types": ["repository", "artifact", ""],
        }
        answer = admin.post(start, given)
        assert answer.status_code == 302
        assert answer["Location"] == f"{start}/test"
        tested = admin.get(f"{start}/test")
        assert "Holds records" in text_of(tested)

        again = admin.get(start).content.decode()
        assert "Git and images" in again
        assert str(path) in again
        assert "Set, will be saved" in again

        answer = admin.post(f"{start}/preview")
        assert answer["Location"] == f"{start}/preview"
        previewed = admin.get(f"{start}/preview")
        words = text_of(previewed)
        assert "2 new" in words
        assert "1 refused" in words
        assert "image-1" in words
        assert "artifact_type" in words
        assert not Connection.objects.exists()
        assert not StoredRecord.objects.exists()
        assert not Entity.objects.exists(), "a preview writes nothing"

        last = admin.get(f"{start}/schedule")
        assert "git-and-images" in last.content.decode()
        answer = admin.post(f"{start}/schedule", {"connection_interval": "3600"})
        assert answer["Location"] == "/connections/git-and-images"

        connection = Connection.objects.get()
        assert (connection.slug, connection.label, connection.namespace, connection.interval) == (
            "git-and-images",
            "Git and images",
            "shop",
            3600,
        )
        assert connection.config["types"] == ["repository", "artifact"]
        assert config_of(connection).token.get_secret_value() == SECRET  # type: ignore[attr-defined]
        run = connection.runs.get()
        assert queue == [run.pk]
        assert run.requested_by == "Ana Ruiz"
        execute_run(run_id=run.pk, now=timezone.now())
        assert Entity.objects.filter(namespace="shop", kind="repository").exists()

        for seen in (tested, again, previewed, last, admin.get("/connections/git-and-images/settings")):
            assert SECRET not in (seen if isinstance(seen, str) else seen.content.decode())
        for session in Session.objects.all():
            assert SECRET not in json.dumps(session.get_decoded())
            assert not session.get_decoded().get("connecting"), "the draft is dropped at the end"
        assert SECRET not in repr(list(AuditEvent.objects.values_list("changes", flat=True)))

    def test_the_draft_waits_sealed(self, admin: Client, folder: Path) -> None:
        path = write(folder / "a.jsonl", [image(1)])
        admin.post(
            "/connections/new/records",
            {
                "connection_name": "A",
                "connection_namespace": "default",
                "location": str(path),
                "token": SECRET,
            },
        )
        kept = json.dumps(Session.objects.get().get_decoded())
        assert str(path) in kept
        assert SECRET not in kept

    def test_a_secret_is_forgotten_on_demand_and_all_of_it_discarded(
        self, admin: Client, folder: Path
    ) -> None:
        given = {
            "connection_name": "A",
            "connection_namespace": "default",
            "location": str(folder),
            "token": SECRET,
        }
        write(folder / "a.jsonl", [image(1)])
        admin.post("/connections/new/records", given)
        answer = admin.post("/connections/new/records", {**given, "token": "", "forget": "token"})
        assert "Set, will be saved" not in answer.content.decode()
        assert "Set, will be saved" not in admin.get("/connections/new/records").content.decode()
        assert admin.post("/connections/new/records", {"action": "discard"})["Location"] == "/connections/new"
        assert str(folder) not in admin.get("/connections/new/records").content.decode()

    def test_what_fails_in_the_test_says_why_and_what_to_do(self, admin: Client, folder: Path) -> None:
        given = {
            "connection_name": "A",
            "connection_namespace": "default",
            "location": str(folder / "none.jsonl"),
        }
        answer = admin.post("/connections/new/records", given, follow=True)
        assert "fails" in text_of(answer)
        assert "none.jsonl" in text_of(answer)
        assert "Preview anyway" in text_of(answer)
        answer = admin.post("/connections/new/records/preview", follow=True)
        assert "The tool could not be read." in text_of(answer)
        assert self.ticked(answer) == ["Tool", "Settings"]
        assert self.ticked(admin.get("/connections/new/records/schedule")) == ["Tool", "Settings"]

    def test_what_went_well_is_ticked(self, admin: Client, folder: Path) -> None:
        given = {
            "connection_name": "A",
            "connection_namespace": "default",
            "location": str(write(folder / "some.jsonl", [image(1)])),
        }
        admin.post("/connections/new/records", given)
        # Nobody has looked at the preview yet.
        schedule = "/connections/new/records/schedule"
        assert self.ticked(admin.get(schedule)) == ["Tool", "Settings", "Test"]
        admin.post("/connections/new/records/preview")
        assert self.ticked(admin.get(schedule)) == ["Tool", "Settings", "Test", "Preview"]

    @staticmethod
    def ticked(answer: Any) -> list[str]:
        found = re.findall(r'<li class="is-done">(?:<a[^>]*>)?([^<]+)', answer.content.decode())
        return [one.strip() for one in found]

    def test_a_preview_shows_what_it_found_beside_what_is_broken(self, admin: Client, folder: Path) -> None:
        (folder / "some.jsonl").write_text(json.dumps(image(1)) + "\nnonsense\n")
        given = {
            "connection_name": "A",
            "connection_namespace": "default",
            "location": str(folder / "some.jsonl"),
        }
        admin.post("/connections/new/records", given)
        shown = text_of(admin.post("/connections/new/records/preview", follow=True))
        assert "Not all of it could be read." in shown
        assert "image-1" in shown
        assert "Continue" in shown

    @pytest.mark.parametrize("step", ["test", "preview", "schedule"])
    def test_a_later_step_without_settings_goes_back_to_them(self, admin: Client, step: str) -> None:
        for ask in (admin.get, admin.post):
            answer = ask(f"/connections/new/records/{step}")
            assert answer["Location"] == "/connections/new/records"

    def test_a_preview_says_what_is_known_and_what_it_would_be_tied_to(
        self, admin: Client, images: Connection, folder: Path
    ) -> None:
        write(folder / "git.jsonl", [repository("pay")])
        sync(
            create_connection(
                slug="git", label="Git", connector="records", config={"location": str(folder / "git.jsonl")}
            )
        )
        path = write(folder / "more.jsonl", [image(1, about=[f"{REPO}pay"])])
        given = {"connection_name": "B", "connection_namespace": "default", "location": str(path)}
        admin.post("/connections/new/records", given)
        words = text_of(admin.post("/connections/new/records/preview", follow=True))
        assert "1 in the catalog already" in words
        assert "1 tied to others" in words
        assert "tied to pay" in words


# --- one connection ---------------------------------------------------------------------------------------------


class TestOne:
    def test_the_overview_shows_numbers_that_open_their_lists(
        self, admin: Client, images: Connection
    ) -> None:
        answer = admin.get("/connections/images")
        words = text_of(answer)
        assert "40 new" in words
        assert "1 refused" in words
        run = images.runs.get()
        assert f"/connections/images/runs/{run.pk}?outcome=refused#records" in answer.content.decode()

    def test_a_run_balances_and_each_number_lists_its_records(
        self, admin: Client, images: Connection
    ) -> None:
        run = images.runs.get()
        url = f"/connections/images/runs/{run.pk}"
        page = admin.get(url)
        first = text_of(page)
        assert "All lists: refused" in first, "what was refused is what one wants to see first"
        assert "line 41" in first
        # Each number of each list, and of all of them, opens a list of that length.
        words = re.findall(r'href="(\?[^"]*#records)"[^>]*aria-label="[^"]*: (\d+)"', page.content.decode())
        assert len([one for one, _number in words if "resource" not in one]) == 3
        assert len(words) == 6
        for address, number in words:
            shown = text_of(admin.get(url + html.unescape(address).removesuffix("#records")))
            assert f"of {number} " in shown, address
        listed = text_of(admin.get(f"{url}?resource=entities&outcome="))
        assert "41" in listed
        assert "1-41 of 41" in listed
        new = admin.get(f"{url}?resource=entities&outcome=new")
        assert "1-40 of 40" in text_of(new)
        record = StoredRecord.objects.get(external_id="img-7")
        assert f"/connections/images/records/{record.pk}" in new.content.decode()
        row = run.resources.get(name="entities")
        assert row.listed == row.new + row.changed + row.unchanged + row.skipped + row.refused

    def test_its_list_is_paged(self, admin: Client, images: Connection) -> None:
        write(Path(images.config["location"]), [image(n) for n in range(70)])
        run = sync(images)
        url = f"/connections/images/runs/{run.pk}?resource=entities&outcome="
        assert "1-50 of 70" in text_of(admin.get(url))
        second = admin.get(f"{url}&page=2")
        assert "51-70 of 70" in text_of(second)
        assert "outcome=&amp;page=1" in second.content.decode()

    def test_a_run_of_another_connection_is_not_found(
        self, admin: Client, images: Connection, folder: Path
    ) -> None:
        other = create_connection(slug="b", label="B", connector="records", config={"location": str(folder)})
        assert admin.get(f"/connections/{other.slug}/runs/{images.runs.get().pk}").status_code == 404

    def test_records_are_found_and_shown_as_they_came(self, admin: Client, images: Connection) -> None:
        found = text_of(admin.get("/connections/images/records?q=image-12"))
        assert "img-12" in found
        assert "img-13" not in found
        record = StoredRecord.objects.get(external_id="img-12")
        assert "image:registry.acme.example/image-12" in text_of(
            admin.get(f"/connections/images/records/{record.pk}")
        )

    def test_syncing_pausing_and_cancelling(
        self, admin: Client, images: Connection, queue: list[int]
    ) -> None:
        assert admin.post("/connections/images/sync?next=/connections")["Location"] == "/connections"
        run = images.runs.first()
        assert run is not None
        assert queue == [run.pk]
        again = admin.post("/connections/images/sync", follow=True)
        assert "is being synced already" in text_of(again)
        admin.post("/connections/images/cancel")
        run.refresh_from_db()
        assert run.state == RunState.CANCELLED
        admin.post("/connections/images/pause")
        images.refresh_from_db()
        assert images.is_paused
        assert "Paused" in text_of(admin.get("/connections/images"))
        admin.post("/connections/images/resume")
        images.refresh_from_db()
        assert not images.is_paused

    def test_an_act_leads_back_only_to_pages_of_ours(self, admin: Client, images: Connection) -> None:
        answer = admin.post("/connections/images/pause?next=https://evil.example/")
        assert answer["Location"] == "/connections/images"

    def test_testing_it_keeps_the_outcome(self, admin: Client, images: Connection) -> None:
        admin.post("/connections/images/check")
        assert "Holds records" in text_of(admin.get("/connections/images"))

    def test_a_connector_that_is_gone_breaks_nothing(self, admin: Client, images: Connection) -> None:
        Connection.objects.update(connector="kettle")
        for url in (
            "/connections",
            "/connections/images",
            "/connections/images/runs",
            "/connections/images/delete",
        ):
            assert admin.get(url).status_code == 200
        assert "is not installed" in text_of(admin.get("/connections/images"))
        assert admin.get("/connections/images/settings").status_code == 404


class TestSettings:
    def url(self, images: Connection) -> str:
        return f"/connections/{images.slug}/settings"

    def given(self, images: Connection, **more: Any) -> dict[str, Any]:
        return {
            "connection_label": "Pictures",
            "connection_interval": "300",
            "location": images.config["location"],
            "token": "",
            "types": [""],
            "action": "save",
            **more,
        }

    def test_a_secret_stays_unless_replaced_or_forgotten(self, admin: Client, images: Connection) -> None:
        url = self.url(images)
        assert admin.post(url, self.given(images))["Location"] == url
        images.refresh_from_db()
        assert (images.label, images.interval) == ("Pictures", 300)
        assert config_of(images).token.get_secret_value() == SECRET  # type: ignore[attr-defined]
        admin.post(url, self.given(images, token="another-one"))
        assert config_of(images).token.get_secret_value() == "another-one"  # type: ignore[attr-defined]
        html = admin.get(url).content.decode()
        assert "another-one" not in html
        assert 'name="forget" value="token"' in html
        admin.post(url, {"forget": "token"})
        assert not Secret.objects.filter(owner_type=OWNER, owner_uid=str(images.uid)).exists()
        assert 'name="forget"' not in admin.get(url).content.decode()

    def test_errors_keep_what_was_typed_and_save_nothing(self, admin: Client, images: Connection) -> None:
        answer = admin.post(self.url(images), self.given(images, types=["pudding"], token="typed-secret"))
        assert answer.status_code == 422
        html = answer.content.decode()
        assert "There is no record type pudding" in html
        assert 'value="Pictures"' in html
        assert "typed-secret" not in html
        images.refresh_from_db()
        assert images.label == "Images"

    def test_an_interval_set_elsewhere_stays_a_choice(self, admin: Client, images: Connection) -> None:
        Connection.objects.update(interval=777)
        assert '<option value="777" selected>' in admin.get(self.url(images)).content.decode()

    def test_saving_and_testing(self, admin: Client, images: Connection) -> None:
        answer = admin.post(
            self.url(images), self.given(images, action="test", next=f"{self.url(images)}#checks")
        )
        assert answer["Location"] == f"{self.url(images)}#checks"
        images.refresh_from_db()
        assert images.check_result

    def test_operations_are_switched_on_where_there_are_any(self, admin: Client, images: Connection) -> None:
        assert 'name="allows_operations"' not in admin.get(self.url(images)).content.decode()
        farm = create_connection(
            slug="farm", label="Farm", connector="buildbot", config={"base_url": "https://ci.acme.example"}
        )
        assert 'name="allows_operations"' in admin.get(self.url(farm)).content.decode()
        answer = admin.post(
            self.url(farm),
            {
                "connection_label": "Farm",
                "connection_interval": "600",
                "allows_operations": "true",
                "base_url": "https://ci.acme.example",
                "days": "14",
                "default_branches": "main",
                "action": "save",
            },
        )
        assert answer.status_code == 302, text_of(answer)
        farm.refresh_from_db()
        assert farm.allows_operations

    def test_a_secret_whose_key_is_gone_can_be_entered_anew(
        self, admin: Client, images: Connection, settings: Any
    ) -> None:
        settings.PORTICO_ENCRYPTION_KEYS = ["another-key-of-more-than-thirty-two-characters"]
        answer = admin.get(self.url(images))
        assert answer.status_code == 200
        assert "PORTICO_ENCRYPTION_KEYS" in text_of(answer)


class TestGuard:
    def test_the_page_shows_what_would_go(self, admin: Client, held: ResourceRun) -> None:
        words = text_of(admin.get(f"/connections/images/guard/{held.pk}"))
        assert "Remove 35 records" in words
        assert "1-35 of 35" in words

    def test_keeping_removes_nothing(self, admin: Client, held: ResourceRun) -> None:
        answer = admin.post(f"/connections/images/guard/{held.pk}", {"decision": "keep"})
        assert answer["Location"] == f"/connections/images/runs/{held.run_id}"
        held.refresh_from_db()
        assert (held.state, held.removed) == ("complete", 0)
        assert Entity.objects.filter(deleted_at=None, kind="artifact").count() == 40
        assert "Kept by Ana Ruiz" in text_of(admin.get(f"/connections/images/runs/{held.run_id}"))
        assert "stopped before" not in text_of(admin.get("/connections"))

    def test_what_was_kept_is_told_until_it_is_decided_anew(
        self, admin: Client, images: Connection, held: ResourceRun
    ) -> None:
        url = "/connections/images"
        assert "kept by a person" not in text_of(admin.get(url))
        admin.post(f"{url}/guard/{held.pk}", {"decision": "keep"})
        words = text_of(admin.get(url))
        assert "35 records are kept by a person, though the tool lists them no more" in words
        assert "and 30 more" in words
        assert "1-35 of 35" in text_of(admin.get(f"{url}/records?kept=1"))
        assert not sync(images).resources.filter(state="held").exists()
        answer = admin.post(f"{url}/decide-anew", follow=True)
        assert "35 records are kept no more" in text_of(answer)
        assert "kept by a person" not in text_of(answer)
        assert sync(images).resources.filter(state="held").exists()

    def test_removing_can_be_taken_back(self, admin: Client, held: ResourceRun) -> None:
        admin.post(f"/connections/images/guard/{held.pk}", {"decision": "remove"})
        assert Entity.objects.filter(deleted_at=None, kind="artifact").count() == 5
        url = f"/connections/images/runs/{held.run_id}"
        removed = admin.get(f"{url}?resource=entities&outcome=removed")
        assert "1-35 of 35" in text_of(removed)
        assert "Bring back what it removed" in text_of(removed)
        assert "img-20" in text_of(admin.get("/connections/images/records?removed=1"))
        admin.post(f"{url}/restore", {"resource": held.pk})
        assert Entity.objects.filter(deleted_at=None, kind="artifact").count() == 40
        words = text_of(admin.get(url))
        assert "Removed by Ana Ruiz. Brought back by Ana Ruiz" in words
        assert "Bring back" not in words
        assert "Nothing was removed" not in words

    def test_a_decision_comes_once(self, admin: Client, held: ResourceRun) -> None:
        url = f"/connections/images/guard/{held.pk}"
        admin.post(url, {"decision": "keep"})
        answer = admin.post(url, {"decision": "remove"}, follow=True)
        assert "decided already" in text_of(answer)
        assert Entity.objects.filter(deleted_at=None, kind="artifact").count() == 40
        assert admin.get(url)["Location"].endswith(f"/runs/{held.run_id}")


class TestRules:
    @pytest.fixture
    def git(self, folder: Path) -> Connection:
        path = write(
            folder / "git.jsonl",
            [repository("ledger"), repository("old", is_archived=True), repository("notes", build_files=[])],
        )
        connection = create_connection(
            slug="git", label="Git", connector="records", config={"location": str(path)}
        )
        sync(connection)
        return connection

    def components(self) -> set[str]:
        return set(Entity.objects.filter(kind="component", deleted_at=None).values_list("name", flat=True))

    def test_the_decisions_stand_with_their_reasons(self, admin: Client, git: Connection) -> None:
        words = text_of(admin.get("/connections/git/rules"))
        assert "1 component of 3 repositories" in words
        assert "It is archived." in words
        assert "Nothing shows that it is built" in words

    def test_a_preview_shows_the_difference_and_writes_nothing(self, admin: Client, git: Connection) -> None:
        given = {
            "is_on": "true",
            "with_archived": "true",
            "needs_evidence": "true",
            "active_within_months": "12",
        }
        answer = admin.post("/connections/git/rules", {**given, "action": "preview"})
        words = text_of(answer)
        assert "What this would make" in words
        assert "1 more" in words
        assert "Would come" in words
        git.refresh_from_db()
        assert git.rules == {}
        assert len(self.components()) == 1

    def test_saving_decides_at_once_and_undo_goes_back(self, admin: Client, git: Connection) -> None:
        before = self.components()
        given = {"is_on": "true", "with_archived": "true", "active_within_months": "0", "action": "save"}
        admin.post("/connections/git/rules", given)
        assert len(self.components()) == 3
        assert "Undo last change" in text_of(admin.get("/connections/git/rules"))
        admin.post("/connections/git/rules", {"action": "undo"})
        assert self.components() == before
        assert "Undo last change" not in text_of(admin.get("/connections/git/rules"))

    @pytest.mark.parametrize(
        ("given", "field"),
        [
            ({"active_within_months": "1000"}, "active_within_months"),
            ({"only_if": "repository.path ++"}, "only_if"),
        ],
    )
    def test_a_wrong_rule_is_refused_at_its_field(
        self, admin: Client, git: Connection, given: dict[str, str], field: str
    ) -> None:
        answer = admin.post("/connections/git/rules", {"is_on": "true", "action": "save", **given})
        assert answer.status_code == 422
        assert f'id="{field}-error"' in answer.content.decode()
        git.refresh_from_db()
        assert git.rules == {}


class TestLeavingOut:
    def names(self) -> set[str]:
        return set(Entity.objects.filter(deleted_at=None).values_list("name", flat=True))

    def test_a_preview_shows_what_goes_and_saving_and_undoing_do_it(
        self, admin: Client, images: Connection
    ) -> None:
        before = self.names()
        page = "/connections/images/left-out"
        assert "Nothing is left out" in text_of(admin.get(page))
        record = images.records.order_by("pk")[0]
        given = {"patterns": [record.external_id]}
        words = text_of(admin.post(page, {**given, "action": "preview"}))
        assert "What this would leave out" in words
        assert "1 more" in words
        assert "Would go" in words
        assert self.names() == before
        admin.post(page, {**given, "action": "save"})
        assert len(self.names()) == len(before) - 1
        assert f"Left out by the rule {record.external_id}." in text_of(admin.get(page))
        assert "1 come back" in text_of(admin.post(page, {"patterns": [""], "action": "preview"}))
        admin.post(page, {"action": "undo"})
        assert self.names() == before

    def test_a_records_page_leaves_it_out(self, admin: Client, images: Connection) -> None:
        before = self.names()
        page = f"/connections/images/records/{images.records.order_by('pk')[0].pk}"
        assert "Leave out of the catalog" in text_of(admin.get(page))
        answer = admin.post(f"{page}/leave-out", follow=True)
        assert "is left out of the catalog" in text_of(answer)
        assert len(self.names()) == len(before) - 1
        words = text_of(admin.get(page))
        assert "Left out" in words
        assert "Leave out of the catalog" not in words
        assert admin.post(f"{page}/leave-out").status_code == 409

    def test_a_pattern_that_is_too_long_is_refused_at_its_field(
        self, admin: Client, images: Connection
    ) -> None:
        answer = admin.post("/connections/images/left-out", {"patterns": ["x" * 1_001], "action": "save"})
        assert answer.status_code == 422
        assert 'id="patterns-error"' in answer.content.decode()


class TestRemoving:
    def test_first_it_says_what_goes(self, admin: Client, images: Connection) -> None:
        words = text_of(admin.get("/connections/images/delete"))
        assert "40 entities go" in words
        assert "1 sync run, 40 records" in words

    @pytest.mark.parametrize("typed", ["", "Images", "image"])
    def test_the_name_has_to_be_typed(self, admin: Client, images: Connection, typed: str) -> None:
        answer = admin.post("/connections/images/delete", {"confirm": typed})
        assert answer.status_code == 422
        assert Connection.objects.exists()
        assert Claim.objects.exists()

    def test_then_it_and_all_that_it_brought_goes(self, admin: Client, images: Connection) -> None:
        with patch.object(settle_connection, "delay_on_commit") as asked:
            answer = admin.post("/connections/images/delete", {"confirm": "images"})
            again = admin.post("/connections/images/delete", {"confirm": "images"})
        assert answer["Location"] == "/connections"
        assert asked.call_count == 1
        assert "is being removed" in text_of(again)
        for page in ("/connections", "/connections/images"):
            answer = admin.get(page)
            words, html = text_of(answer), answer.content.decode()
            assert "Being removed" in words
            assert "0/40" in words
            assert 'hx-trigger="every 2s"' in html
            assert "/connections/images/sync" not in html
            assert "/connections/images/settings" not in html
        said = text_of(admin.post("/connections/images/sync", follow=True))
        assert "is being removed" in said
        settle_connection(**asked.call_args.kwargs)
        assert not Connection.objects.listed().exists()
        assert not list_entities(User.objects.get(username="ana")).exists()
        assert admin.get("/connections/images").status_code == 404

    def test_until_its_time_is_over_it_can_be_restored(self, admin: Client, images: Connection) -> None:
        admin.post("/connections/images/delete", {"confirm": "images"})
        settle_connection(connection_id=images.pk)
        page = admin.get("/connections")
        assert "Removed, and kept for a while" in text_of(page)
        assert '<div class="po-card-body"><ul class="po-list"><li' in page.content.decode()
        with patch.object(settle_connection, "delay_on_commit") as asked:
            answer = admin.post("/connections/images/undelete")
        assert answer["Location"] == "/connections/images"
        words = text_of(admin.get("/connections/images"))
        assert "Coming back" in words
        assert "0/40" in words
        settle_connection(**asked.call_args.kwargs)
        assert "Sync now" in text_of(admin.get("/connections/images"))
        assert list_entities(User.objects.get(username="ana")).count() == 40
        assert "kept for a while" not in text_of(admin.get("/connections"))

    def test_or_be_let_go_of_for_good(self, admin: Client, images: Connection) -> None:
        admin.post("/connections/images/delete", {"confirm": "images", "with_secrets": "1"})
        assert not Secret.objects.exists()
        settle_connection(connection_id=images.pk)
        with patch.object(settle_connection, "delay_on_commit") as asked:
            admin.post("/connections/images/purge")
        settle_connection(**asked.call_args.kwargs)
        assert not Connection.objects.exists()
        for act in ("undelete", "purge"):
            assert admin.post(f"/connections/images/{act}").status_code == 404

    def test_not_while_a_sync_runs(self, admin: Client, images: Connection) -> None:
        request_sync(connection=images, by="ana")
        answer = admin.post("/connections/images/delete", {"confirm": "images"})
        assert answer.status_code == 422
        assert "cancel it first" in text_of(answer)
        assert Connection.objects.exists()


class TestMuting:
    def test_first_it_says_what_vanishes(self, admin: Client, images: Connection) -> None:
        words = text_of(admin.get("/connections/images/mute"))
        assert "40 entities vanish" in words
        assert "What vanishes" in words

    def test_what_others_say_too_changes_its_winner(self, admin: Client, images: Connection) -> None:
        entity = Entity.objects.get(kind="artifact", name="image-1")
        source = Source.objects.create(type="yaml", key="yaml:x", name="x", label="A file")
        apply_claims(
            source=source,
            claims=[
                ClaimIn(
                    external_id="x",
                    kind="artifact",
                    keys=("image:registry.acme.example/image-1",),
                    document={
                        "kind": "Artifact",
                        "metadata": {"name": entity.name},
                        "spec": {"type": "other"},
                    },
                    rank=Rank.INFERRED,
                    as_of=timezone.now(),
                )
            ],
            at=timezone.now(),
            by="x",
        )
        words = text_of(admin.get("/connections/images/mute"))
        assert "39 entities vanish" in words
        assert "1 of them changes" in words
        assert "spec.type: then A file says it" in words

    def test_muted_it_rests_and_unmuted_all_is_back(self, admin: Client, images: Connection) -> None:
        with patch.object(settle_connection, "delay_on_commit") as asked:
            answer = admin.post("/connections/images/mute")
            again = admin.post("/connections/images/mute")
        assert answer["Location"] == "/connections/images"
        assert again.status_code == 409
        assert "Being muted" in text_of(admin.get("/connections"))
        settle_connection(**asked.call_args.kwargs)
        for page in ("/connections", "/connections/images"):
            words = text_of(admin.get(page))
            assert "Muted" in words
            assert "Unmute" in words
            assert "Sync now" not in words
        assert not list_entities(User.objects.get(username="ana")).exists()
        with patch.object(settle_connection, "delay_on_commit") as asked:
            admin.post("/connections/images/unmute")
        settle_connection(**asked.call_args.kwargs)
        assert list_entities(User.objects.get(username="ana")).count() == 40

    def test_only_who_may_change_it_mutes_it(self, viewer: Client, images: Connection) -> None:
        for path in ("mute", "unmute", "undelete", "purge"):
            assert viewer.post(f"/connections/images/{path}").status_code in (403, 404)
        assert viewer.get("/connections/images/mute").status_code == 403
        assert "Mute" not in text_of(viewer.get("/connections/images"))


# --- catalog files ----------------------------------------------------------------------------------------------

COMPONENT = """apiVersion: backstage.io/v1alpha1
kind: Component
metadata:
  name: {name}
spec:
  type: service
  lifecycle: production
  owner: team
"""


class TestCatalogFiles:
    @pytest.fixture
    def file(self, folder: Path) -> Path:
        path = folder / "all.yaml"
        path.write_text("---\n".join([COMPONENT.format(name="pay"), COMPONENT.format(name="not valid!")]))
        return path

    def test_a_preview_shows_numbers_and_problems_and_writes_nothing(self, admin: Client, file: Path) -> None:
        answer = admin.post("/connections/import", {"address": str(file), "action": "preview"})
        words = text_of(answer)
        assert "1 file 2 documents" in words
        assert "1 accepted" in words
        assert "1 refused" in words
        assert "metadata.name" in words
        assert not CatalogLocation.objects.exists()
        assert not Entity.objects.exists()
        assert f'value="{file}"' in answer.content.decode()

    def ask(self, admin: Client, url: str, **given: str) -> None:
        """Post, and do what a worker is asked for by that."""
        with patch.object(read_location, "delay_on_commit") as asked:
            assert admin.post(url, given).status_code == 302
        read_location(**asked.call_args.kwargs)

    def test_importing_keeps_it_as_a_place_that_is_read_again(self, admin: Client, file: Path) -> None:
        with patch.object(read_location, "delay_on_commit") as asked:
            answer = admin.post(
                "/connections/import", {"address": str(file), "action": "import"}, follow=True
            )
        assert "being read" in text_of(answer)
        assert 'hx-trigger="every 2s"' in answer.content.decode()
        assert not Entity.objects.exists(), "no page waits for it"
        read_location(**asked.call_args.kwargs)
        answer = admin.get("/connections/import")
        assert "hx-trigger" not in answer.content.decode().partition('id="main"')[2]
        assert Entity.objects.get(kind="component").name == "pay"
        words = text_of(answer)
        assert "2 documents, 1 accepted" in words
        assert "1 problem" in words
        location = CatalogLocation.objects.get()
        file.write_text(COMPONENT.format(name="pay") + "---\n" + COMPONENT.format(name="ledger"))
        self.ask(admin, f"/connections/import/{location.pk}/read")
        assert set(Entity.objects.values_list("name", flat=True)) == {"pay", "ledger"}

    def test_removing_says_first_what_goes_then_how_far_it_is(self, admin: Client, file: Path) -> None:
        self.ask(admin, "/connections/import", address=str(file), action="import")
        location = CatalogLocation.objects.get()
        url = f"/connections/import/{location.pk}/remove"
        words = text_of(admin.get(url))
        assert "1 entity goes" in words
        assert "Components 1" in words
        with patch.object(remove_location, "delay_on_commit") as asked:
            answer = admin.post(url, follow=True)
            admin.post(url)
        assert asked.call_count == 1
        assert Entity.objects.filter(deleted_at=None).exists(), "no page waits for it"
        words = text_of(answer)
        assert "being removed" in words
        assert "0/1" in words
        html = answer.content.decode()
        assert 'hx-trigger="every 2s"' in html
        assert f"/connections/import/{location.pk}/read" not in html
        remove_location(**asked.call_args.kwargs)
        assert not CatalogLocation.objects.exists()
        assert not Entity.objects.filter(deleted_at=None).exists()
        assert "No catalog files yet" in text_of(admin.get("/connections/import"))

    def test_what_could_not_be_read_yet_says_why_and_can_be_tried_again_or_removed(
        self, admin: Client, folder: Path
    ) -> None:
        (folder / "empty").mkdir()
        self.ask(admin, "/connections/import", address=str(folder / "empty"), action="import")
        location = CatalogLocation.objects.get()
        answer = admin.get("/connections/import")
        words, html = text_of(answer), answer.content.decode()
        assert "not read yet" in words
        assert (
            "Nothing of it could be read, so nothing of it is in the catalog. It is tried again every 5 min."
            in words
        )
        assert f"There is no *.yaml or *.yml file in {folder}/empty, nor in a folder below." in words
        assert "Try again" in words
        assert f'href="/connections/import/{location.pk}/remove"' in html
        with patch.object(read_location, "delay_on_commit") as asked:
            again = admin.post(f"/connections/import/{location.pk}/read", follow=True)
        assert "being read" in text_of(again)
        assert 'hx-trigger="every 2s"' in again.content.decode()
        (folder / "empty" / "a.yaml").write_text(COMPONENT.format(name="pay"))
        read_location(**asked.call_args.kwargs)
        words = text_of(admin.get("/connections/import"))
        assert "1 file, 1 document, 1 accepted" in words
        assert "Try again" not in words
        assert "Read again" in words

    @pytest.mark.parametrize("address", ["", "/etc/passwd", "http://169.254.169.254/latest/meta-data"])
    def test_what_cannot_be_read_is_said_at_the_field(
        self, admin: Client, folder: Path, address: str
    ) -> None:
        answer = admin.post("/connections/import", {"address": address, "action": "preview"})
        html = answer.content.decode()
        assert 'id="address-error"' in html or "refused" in html
        assert "root:" not in html
        assert not CatalogLocation.objects.exists()

    def test_a_file_that_went_is_said_at_its_place(self, admin: Client, file: Path) -> None:
        self.ask(admin, "/connections/import", address=str(file), action="import")
        file.unlink()
        self.ask(admin, f"/connections/import/{CatalogLocation.objects.get().pk}/read")
        assert Entity.objects.filter(deleted_at=None).exists(), "what cannot be read is not known to be gone"
        words = text_of(admin.get("/connections/import"))
        assert "all.yaml" in words
        assert "Try again" in words
        assert "What it declared before stays until all of it can be read again." in words

    def test_a_place_that_cannot_be_read_is_named_before_what_is_refused(
        self, admin: Client, folder: Path
    ) -> None:
        (folder / "a.yaml").write_text(COMPONENT.format(name="Bad Name"))
        (folder / "b.yaml").write_text(
            "apiVersion: backstage.io/v1alpha1\nkind: Location\nmetadata: {name: more}\n"
            "spec: {type: url, target: 'http://169.254.169.254/latest/catalog.yaml'}\n"
        )
        self.ask(admin, "/connections/import", address=str(folder), action="import")
        location = CatalogLocation.objects.get()
        assert location.summary["refused"], "there are other problems, and they stand before it"
        assert "169.254.169.254 is a cloud metadata address" in location.message
        assert "letters, digits" not in location.message


# --- who may ----------------------------------------------------------------------------------------------------

READING = ["", "/runs", "/runs/{run}", "/rules", "/left-out", "/guard/{resource}"]
WRITING = [
    "/pause",
    "/resume",
    "/check",
    "/settings",
    "/delete",
    "/rules",
    "/left-out",
    "/guard/{resource}",
    "/decide-anew",
    "/runs/{run}/restore",
]
SYNCING = ["/sync", "/cancel"]
CONNECTING = ["", "/records", "/records/test", "/records/preview", "/records/schedule"]


def filled(urls: list[str], held: ResourceRun) -> list[str]:
    return ["/connections/images" + url.format(run=held.run_id, resource=held.pk) for url in urls]


class TestPermission:
    def test_nobody_gets_in_without_signing_in(self, held: ResourceRun) -> None:
        for url in [
            "/connections",
            "/connections/new",
            "/connections/import",
            *filled(READING + WRITING + SYNCING, held),
        ]:
            assert Client().post(url)["Location"].startswith("/sign-in"), url

    def test_a_viewer_reads_and_changes_nothing(
        self, browse: Callable[[User], Client], vic: User, held: ResourceRun
    ) -> None:
        client = browse(vic)
        before = Connection.objects.values().get()
        for url in [
            "/connections",
            "/connections/import",
            *filled(READING, held),
        ]:
            assert client.get(url).status_code == 200, url
        assert client.get("/connections/images/records").status_code == 403, "these are a tool's own words"
        for url in [*filled(WRITING + SYNCING, held), "/connections/import", "/sample"]:
            assert client.post(url, {"confirm": "images", "action": "save"}).status_code == 403, url
        for step in CONNECTING:
            assert client.get(f"/connections/new{step}").status_code == 403, step
        for url in ("/connections/images/settings", "/connections/images/delete"):
            assert client.get(url).status_code == 403, url
        assert Connection.objects.values().get() == before
        held.refresh_from_db()
        assert held.state == "held"

    def test_an_editor_syncs_and_changes_nothing_else(
        self, browse: Callable[[User], Client], ben: User, held: ResourceRun
    ) -> None:
        client = browse(ben)
        for url in filled(SYNCING, held):
            assert client.post(url).status_code == 302, url
        for url in filled(WRITING, held):
            assert client.post(url).status_code == 403, url

    def test_beyond_ones_namespace_there_is_nothing(
        self, browse: Callable[[User], Client], cleo: User, held: ResourceRun
    ) -> None:
        client = browse(cleo)
        assert "Images" not in text_of(client.get("/connections"))
        record = StoredRecord.objects.first()
        assert record is not None
        for url in [
            *filled(READING, held),
            f"/connections/images/records/{record.pk}",
            "/connections/images/records",
        ]:
            assert client.get(url).status_code == 404, url
        for url in filled(WRITING + SYNCING, held):
            assert client.post(url).status_code == 404, url

    def test_without_the_word_by_word_permission_records_have_no_names(
        self, browse: Callable[[User], Client], no_access: User, images: Connection, roles: Any
    ) -> None:
        role = roles["viewer"]
        role.spec = {**role.spec, "verbs": ["connection.read"]}
        role.save()
        grant(role="viewer", user=no_access)
        client = browse(no_access)
        assert client.get("/connections/images/records").status_code == 403
        run = images.runs.get()
        words = text_of(client.get(f"/connections/images/runs/{run.pk}?resource=entities&outcome=new"))
        assert "img-7" in words
        assert "image-7" not in words


def test_no_page_shows_a_secret(admin: Client, held: ResourceRun) -> None:
    for url in [
        "/connections",
        "/connections/images/settings",
        "/connections/images/delete",
        *filled(READING, held),
    ]:
        assert SECRET not in admin.get(url).content.decode(), url
    record = StoredRecord.objects.first()
    assert record is not None
    assert SECRET not in admin.get(f"/connections/images/records/{record.pk}").content.decode()
    for url in ("integrations/connection/", f"integrations/connection/{Connection.objects.get().pk}/change/"):
        answer = admin.get(f"/admin/{url}")
        assert answer.status_code == 200
        assert SECRET not in answer.content.decode()


def test_django_admin_lists_the_rest_read_only(admin: Client, held: ResourceRun) -> None:
    assert {"problem", "activity", "feeditem"} <= set(
        re.findall(r"/admin/catalog/(\w+)/", admin.get("/admin/").content.decode())
    )
    models = {
        "integrations": ["syncrun", "storedrecord", "operationrun", "cataloglocation", "rulerevision"],
        "catalog": ["entity", "claim", "source", "entitykey", "tie", "kind", "relationtype", "revision"],
        "portal": ["page"],
    }
    for app, names in models.items():
        for name in names:
            answer = admin.get(f"/admin/{app}/{name}/")
            assert answer.status_code == 200, name
            assert f"/admin/{app}/{name}/add/" not in answer.content.decode(), name
            assert admin.post(f"/admin/{app}/{name}/add/").status_code == 403, name
    entity = Entity.objects.filter(kind="artifact").first()
    assert entity is not None
    assert admin.get(f"/admin/catalog/entity/{entity.pk}/change/").status_code == 200
    assert admin.get(f"/admin/integrations/syncrun/{held.run_id}/change/").status_code == 200


def test_every_list_of_connections_costs_the_same_for_many(
    admin: Client, images: Connection, folder: Path, django_assert_max_num_queries: Any
) -> None:
    for number in range(8):
        create_connection(
            slug=f"c{number}", label=f"C{number}", connector="records", config={"location": str(folder)}
        )
    admin.get("/connections")
    # 1 session, 2 user, 3 access version, 4 grants, 5 shell's problems, 6 connections of the shell, 7 the list,
    # 8 counts, 9 held, 10 locations, and what the shell asks besides
    with django_assert_max_num_queries(12):
        admin.get("/connections")
