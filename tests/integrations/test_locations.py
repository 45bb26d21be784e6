"""Catalog files imported by name: numbers, places of what is refused, what goes, what waits to be mended."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from access.models import AuditEvent
from base.safe_yaml import ParsedDocument
from catalog.models import Claim, Entity, Problem, Rank, Source
from catalog.services.edit import override_field
from integrations.models import CatalogLocation
from integrations.services.locations import (
    due_locations,
    reading,
    refresh_location,
    register_location,
    removal,
    removal_of,
    removals_left,
    remove_location,
    request_removal,
    turns,
)
from integrations.tasks import read_location, tick
from integrations.tasks import remove_location as remove_task
from tests.catalog.saying import counted_rows, document, history, relations

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]

Write = Callable[..., Path]


def component(name: str, **spec: Any) -> str:
    """A component's document as text; a spec of None leaves a field out."""
    fields = {"type": "service", "lifecycle": "production", "owner": "team", **spec}
    lines = [f"  {key}: {json.dumps(value)}" for key, value in fields.items() if value is not None]
    head = ["apiVersion: backstage.io/v1alpha1", "kind: Component", "metadata:", f"  name: {name}", "spec:"]
    return "\n".join([*head, *lines, ""])


def location(name: str, *targets: str) -> str:
    """A Location's document as text."""
    return (
        f"apiVersion: backstage.io/v1alpha1\nkind: Location\nmetadata: {{name: {name}}}\n"
        f"spec: {{targets: {json.dumps(targets)}}}\n"
    )


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file of some documents below the folder `catalog`."""

    def make(name: str, *documents: str) -> Path:
        path = tmp_path / "catalog" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("---\n".join(documents))
        return path

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "catalog"


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the documents that are parsed, in their files."""
    found: list[int] = []
    parse = ParsedDocument._parse

    def note(self: ParsedDocument) -> None:
        if not self._parsed:
            found.append(self.number)
        parse(self)

    monkeypatch.setattr(ParsedDocument, "_parse", note)
    return found


def run(*addresses: Path | str, **options: Any) -> dict[str, Any]:
    """What `import_catalog --json` prints on its last line."""
    out = io.StringIO()
    call_command("import_catalog", *map(str, addresses), json=True, stdout=out, **options)
    return outcome(out)


def run_partly(*addresses: Path | str, **options: Any) -> dict[str, Any]:
    """The same where something cannot be read, which the exit code tells."""
    out = io.StringIO()
    with pytest.raises(CommandError) as caught:
        call_command("import_catalog", *map(str, addresses), json=True, stdout=out, **options)
    found = outcome(out)
    assert caught.value.returncode == 1
    assert str(caught.value).startswith(f"{found['unread']} place")
    return found


def outcome(out: io.StringIO) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out.getvalue().splitlines()[-1])
    assert found["documents"] == found["accepted"] + found["refused"]
    return found


def numbers(found: dict[str, Any]) -> tuple[int, ...]:
    return tuple(
        found[name] for name in ("files", "documents", "accepted", "refused", "written", "unchanged")
    )


def names() -> set[str]:
    return set(Entity.objects.filter(deleted_at=None).values_list("name", flat=True))


def read_again(**more: Any) -> Any:
    """Read the one location again, as the schedule does."""
    return refresh_location(location_id=CatalogLocation.objects.get().pk, now=timezone.now(), **more)


class TestImport:
    def test_its_numbers_are_those_of_the_files(self, write: Write, folder: Path) -> None:
        write("a.yaml", component("a"), component("b"), component("c", owner=5))
        write("deep/er/d.yml", component("d"))
        write("notes.txt", "no catalog file")
        found = run(folder)
        assert numbers(found) == (2, 4, 3, 1, 3, 0)
        assert names() == {"a", "b", "d"}
        assert numbers(run(folder)) == (2, 4, 3, 1, 0, 3)
        write("deep/er/d.yml", component("d", owner="else"))
        assert numbers(run(folder)) == (2, 4, 3, 1, 1, 2)

    def test_a_refused_document_is_named_with_file_number_line_and_path(
        self, write: Write, folder: Path
    ) -> None:
        path = write("a.yaml", component("a"), component("b", owner=5), component("c", lifecycle=None))
        found = run(folder)
        told = ("file", "document", "line", "column", "path", "ref")
        assert [tuple(problem[name] for name in told) for problem in found["problems"]] == [
            (str(path), 2, 17, 3, "spec.owner", "component:default/b"),
            (str(path), 3, 23, 1, "spec.lifecycle", "component:default/c"),
        ]
        assert all(p["message"] for p in found["problems"])
        place = Problem.objects.filter(type="refused-document").order_by("detail__place__document").first()
        assert place is not None
        where = {"file": str(path), "document": 2, "line": 17, "column": 3}
        assert place.detail == {"place": where, "path": "spec.owner", "ref": "component:default/b"}

    def test_a_placeholder_that_cannot_be_filled_is_named_with_path_and_line(
        self, write: Write, folder: Path
    ) -> None:
        write("a.yaml", component("pay"), component("web", owner={"$text": "./no.txt"}))
        found = run(folder)
        assert (found["accepted"], found["refused"]) == (1, 1)
        (problem,) = found["problems"]
        text = (folder / "a.yaml").read_text().splitlines()
        assert (problem["document"], problem["path"]) == (2, "spec.owner")
        assert "$text" in text[problem["line"] - 1]
        assert "no.txt" in problem["message"]

    def test_broken_yaml_says_its_line_and_leaves_the_documents_before_it(
        self, write: Write, folder: Path
    ) -> None:
        write("a.yaml", component("a"), "kind: [\n", component("c"))
        write("b.yaml", component("b"))
        found = run(folder)
        assert found["refused"] >= 1
        assert names() >= {"a", "b"}
        assert found["problems"][0]["document"] == 2
        assert found["problems"][0]["line"] >= 9

    def test_a_dry_run_tells_the_same_and_writes_nothing(self, write: Write, folder: Path) -> None:
        write("a.yaml", component("a"), component("b", owner=5))
        before = counted_rows()
        told = run(folder, dry_run=True)
        assert counted_rows() == before
        assert not CatalogLocation.objects.exists()
        assert not Source.objects.exists()
        assert not AuditEvent.objects.filter(verb="catalog.import").exists()
        assert numbers(told) == numbers(run(folder)) == (1, 2, 1, 1, 1, 0)

    def test_an_unchanged_import_writes_no_row_of_the_catalog(self, write: Write, folder: Path) -> None:
        write("a.yaml", *[component(f"c{n}", dependsOn=[f"component:c{n + 1}"]) for n in range(20)])
        run(folder)
        before = counted_rows()
        assert numbers(run(folder)) == (1, 20, 20, 0, 0, 20)
        assert counted_rows() == before

    def test_only_documents_whose_text_has_changed_are_parsed_again(
        self, write: Write, folder: Path, parsed: list[int]
    ) -> None:
        write("a.yaml", *(component(name) for name in "abc"))
        run(folder)
        parsed.clear()
        assert numbers(run(folder)) == (1, 3, 3, 0, 0, 3)
        assert parsed == []
        write("a.yaml", component("a"), component("b", owner="else"), component("c"))
        assert numbers(run(folder)) == (1, 3, 3, 0, 1, 2)
        assert parsed == [2]

    def test_a_text_that_is_as_it_was_before_it_broke_is_read_again(self, write: Write, folder: Path) -> None:
        write("a.yaml", component("a"), component("b"))
        run(folder)
        write("a.yaml", component("a"), component("b").replace("spec:", "spec: {"))
        run(folder)
        assert Claim.objects.exclude(stale_reason="").count() == 1
        write("a.yaml", component("a"), component("b"))
        run(folder)
        assert not Claim.objects.exclude(stale_reason="").exists()

    def test_of_what_a_file_says_twice_the_second_becomes_the_first(self, write: Write, folder: Path) -> None:
        write("a.yaml", component("a", owner="one"), component("a", owner="two"))
        run(folder)
        write("a.yaml", component("b", owner="one"), component("a", owner="two"))
        assert run(folder)["removed"] == 0
        assert document("component:default/a")["spec"]["owner"] == "two"
        assert Claim.objects.count() == 2
        assert numbers(run(folder)) == (1, 2, 2, 0, 0, 2)

    def test_another_kind_of_reading_parses_all_once_more(
        self, write: Write, folder: Path, parsed: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write("a.yaml", component("a"), component("b"))
        run(folder)
        parsed.clear()
        monkeypatch.setattr(reading, "_READ_AS", 99)
        assert numbers(run(folder)) == (1, 2, 2, 0, 0, 2)
        assert parsed == [1, 2]
        assert numbers(run(folder)) == (1, 2, 2, 0, 0, 2)
        assert parsed == [1, 2]

    def test_what_a_placeholder_points_to_is_part_of_the_text(self, write: Write, folder: Path) -> None:
        write("a.yaml", component("a", about={"$text": "./about.txt"}))
        about = write("about.txt", "one")
        run(folder)
        about.write_text("two")
        assert numbers(run(folder)) == (1, 1, 1, 0, 1, 0)
        assert document("component:default/a")["spec"]["about"] == "two"

    def test_an_entity_counts_once_however_many_pages_tell_of_it(
        self, write: Write, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(turns, "PAGE", 1)
        write("a.yaml", component("a"), component("b"))
        write("b.yaml", component("a", owner="other"))
        assert numbers(run(folder)) == (2, 3, 3, 0, 2, 0)
        assert document("component:default/a")["spec"]["owner"] == "team"
        assert Problem.objects.filter(type="shadowed", resolved_at=None).count() == 1

    def test_several_addresses_are_several_locations(self, write: Write, folder: Path) -> None:
        one, other = write("one/a.yaml", component("a")), write("two/b.yaml", component("b"))
        assert numbers(run(one, other)) == (2, 2, 2, 0, 2, 0)
        assert CatalogLocation.objects.count() == 2
        assert Source.objects.count() == 2

    def test_a_location_document_leads_to_its_targets_and_says_which_is_missing(
        self, write: Write, folder: Path
    ) -> None:
        top = write("all.yaml", component("x"), location("all", "./parts/*.yaml", "./gone.yaml"))
        write("parts/a.yaml", component("a"))
        write("parts/b.yaml", component("b"))
        found = run(top)
        assert numbers(found) == (3, 4, 4, 0, 4, 0)
        assert names() == {"all", "a", "b", "x"}
        (problem,) = found["problems"]
        assert "gone.yaml" in problem["message"]
        assert (problem["file"], problem["document"], problem["path"]) == (str(top), 2, "spec.targets[1]")
        line = top.read_text().splitlines()[problem["line"] - 1]
        assert line[problem["column"] - 1 :].startswith('"./gone.yaml"')

    def test_of_several_addresses_those_that_can_be_read_go_in(self, write: Write, folder: Path) -> None:
        write("good/a.yaml", component("a"))
        write("empty/notes.txt", "no catalog file")
        gone, empty, good = folder / "gone.yaml", folder / "empty", folder / "good"
        found = run_partly(gone, "https://", empty, good, "/etc/passwd\0")
        assert numbers(found) == (1, 1, 1, 0, 1, 0)
        assert found["unread"] == 4
        assert [problem["file"].partition("\0")[0] for problem in found["problems"]] == [
            str(gone),
            "https://",
            str(empty),
            "/etc/passwd",
        ]
        assert all(problem["message"] and not problem["document"] for problem in found["problems"])
        assert names() == {"a"}
        assert [location.address for location in CatalogLocation.objects.all()] == [
            f"file:{place}/**/*.{{yaml,yml}}" for place in (empty, good)
        ]
        run_partly(gone, dry_run=True)

    def test_what_cannot_be_read_yet_is_registered_and_tried_again_from_here_and_from_the_browser_alike(
        self, write: Write, folder: Path, settings: Any
    ) -> None:
        settings.PORTICO_FILES_ALLOW = [folder]
        write("one/notes.txt", "no catalog file")
        write("two/notes.txt", "no catalog file")
        run_partly(folder / "one")
        other = register_location(address=str(folder / "two"), by="ana", now=timezone.now())
        assert refresh_location(location_id=other.pk, now=timezone.now()) is None
        rows = list(CatalogLocation.objects.all())
        assert [(row.message.partition(", ")[0], row.read_at, row.asked_at) for row in rows] == [
            (f"There is no *.yaml or *.yml file in {folder}/{name}", None, None) for name in ("one", "two")
        ]
        for name in ("one", "two"):
            write(f"{name}/a.yaml", component(name))
        for row in due_locations(now=timezone.now() + timedelta(seconds=rows[0].interval)):
            refresh_location(location_id=row.pk, now=timezone.now())
        assert names() == {"one", "two"}
        assert not CatalogLocation.objects.exclude(message="").exists()
        assert not Problem.objects.filter(type="refused-document", resolved_at=None).exists()

    def test_a_known_location_that_cannot_be_read_keeps_its_numbers_and_says_why(
        self, write: Write, folder: Path
    ) -> None:
        path = write("a.yaml", component("a"), component("b", owner=5))
        run(folder)
        before = CatalogLocation.objects.get()
        path.unlink()
        assert run_partly(folder)["problems"][0]["file"] == str(folder)
        assert read_again() is None
        location = CatalogLocation.objects.get()
        assert location.message.startswith(f"There is no *.yaml or *.yml file in {folder}, ")
        assert (location.summary, location.read_at) == (before.summary, before.read_at)
        assert names() == {"a"}
        open_now = Problem.objects.filter(type="refused-document", resolved_at=None)
        assert sorted(open_now.values_list("severity", flat=True)) == ["fail", "warn"]
        write("a.yaml", component("a"), component("b"))
        run(folder)
        assert CatalogLocation.objects.get().message == ""
        assert not open_now.exists()

    def test_relative_paths_start_where_the_command_is_called(
        self, write: Write, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write("Käse und Brot/a b.yaml", component("a"))
        write("Käse und Brot/ö.yaml", component("b"))
        monkeypatch.chdir(folder / "Käse und Brot")
        assert numbers(run("a b.yaml")) == (1, 1, 1, 0, 1, 0)
        assert numbers(run("../Käse und Brot/ö*")) == (1, 1, 1, 0, 1, 0)
        assert numbers(run("."))[:3] == (2, 2, 2)
        assert set(CatalogLocation.objects.values_list("address", flat=True)) == {
            f"file:{folder}/Käse und Brot/{name}" for name in ("a b.yaml", "ö*", "**/*.{yaml,yml}")
        }
        monkeypatch.chdir(folder.parent)
        for location in CatalogLocation.objects.all():
            assert refresh_location(location_id=location.pk, now=timezone.now())

    def test_without_json_it_speaks_to_people(self, write: Write, folder: Path) -> None:
        write("a.yaml", component("a"), component("b", owner=5))
        out = io.StringIO()
        call_command("import_catalog", str(folder), stdout=out)
        text = out.getvalue()
        assert "a.yaml, document 2, line 17, column 3: spec.owner" in text
        assert "1 accepted, 1 refused" in text


class TestUnreadable:
    def test_a_folder_below_that_cannot_be_listed_is_told_and_keeps_what_it_declared(
        self, write: Write, folder: Path, locked: Any
    ) -> None:
        write("a.yaml", component("a"), component("gone"))
        write("private/b.yaml", component("b"), component("c", owner=5))
        run(folder)
        write("a.yaml", component("a"), component("new"))
        with locked(folder / "private"):
            for found in (run_partly(folder, dry_run=True), run_partly(folder)):
                assert numbers(found) == (1, 2, 2, 0, 1, 1)
                assert (found["unread"], found["removed"]) == (1, 0)
                (problem,) = found["problems"]
                assert problem["file"] == str(folder / "private")
                assert problem["message"] == f"{folder}/private cannot be read: Permission denied."
            assert read_again().unread == 1
        assert names() == {"a", "b", "gone", "new"}
        open_now = Problem.objects.filter(type="refused-document", resolved_at=None)
        assert sorted(open_now.values_list("detail__place__file", flat=True)) == [
            str(folder / "private"),
            str(folder / "private/b.yaml"),
        ]
        run(folder)
        assert names() == {"a", "b", "new"}

    def test_a_folder_that_no_pattern_leads_into_does_not_matter(
        self, write: Write, folder: Path, locked: Any
    ) -> None:
        write("teams/a.yaml", component("a"))
        with locked(folder / "private"):
            assert numbers(run(folder / "teams" / "*.yaml")) == (1, 1, 1, 0, 1, 0)
            assert numbers(run(folder / "t*" / "**" / "*.yaml"))[:3] == (1, 1, 1)

    def test_a_broken_repository_is_one_line_however_much_is_wanted_of_it(
        self, write: Write, folder: Path
    ) -> None:
        targets = [f"git+file://{folder}/gone.git//{name}.yaml" for name in ("a", "b", "c")]
        top = write("all.yaml", location("all", *targets, "./gone.yaml", "./lost.yaml"), component("x"))
        found = run_partly(top)
        assert (found["accepted"], found["unread"]) == (2, 3)
        messages = [problem["message"] for problem in found["problems"]]
        assert len(messages) == 3
        assert messages[0].endswith("(And 2 more that cannot be read for this reason.)")
        assert {(problem["file"], problem["document"]) for problem in found["problems"]} == {(str(top), 1)}
        assert [message for message in messages if "gone.yaml" in message or "lost.yaml" in message] == (
            messages[1:]
        )

    def test_too_much_is_taken_in_as_far_as_it_goes_and_removes_nothing(
        self, write: Write, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write("a.yaml", component("old"))
        write("z.yaml", component("z"))
        run(folder)
        write("a.yaml", component("a"), component("b"))
        for name, value, says in (
            ("reading.MAX_BYTES", 300, "more than 300 bytes"),
            ("imports.MAX_SECONDS", -60, "takes longer"),
        ):
            with monkeypatch.context() as patched:
                patched.setattr(f"integrations.services.locations.{name}", value)
                found = run_partly(folder)
            assert says in found["problems"][-1]["message"]
            assert found["removed"] == 0
        assert names() == {"old", "a", "b", "z"}
        assert run(folder)["removed"] == 1


class TestLater:
    def test_what_vanished_from_a_complete_import_goes(self, write: Write, folder: Path) -> None:
        write("a.yaml", component("a"), component("b"))
        other = write("c.yaml", component("c"))
        run(folder)
        write("a.yaml", component("a"))
        other.unlink()
        assert run(folder)["removed"] == 2
        assert names() == {"a"}

    def test_what_is_of_no_known_kind_any_more_keeps_its_last_good_word(
        self, write: Write, folder: Path
    ) -> None:
        write("pay.yaml", component("pay"), component("cart"))
        run(folder)
        write("pay.yaml", component("pay").replace("kind: Component", "kind: Komponent"), component("cart"))
        read_again(is_guarded=False)
        assert names() == {"pay", "cart"}
        assert "Komponent" in Claim.objects.get(entity__name="pay").stale_reason
        write("pay.yaml", component("pay").replace("kind: Component", "kind: System"), component("cart"))
        read_again(is_guarded=False)
        assert {entity.kind for entity in Entity.objects.filter(name="pay", deleted_at=None)} == {"system"}

    def test_what_no_longer_parses_keeps_its_last_good_word(self, write: Write, folder: Path) -> None:
        write("a.yaml", component("a", owner="good"), component("b"))
        run(folder)
        uid = Entity.objects.get(name="a").uid
        write("a.yaml", component("a", owner=5), component("b"))
        found = run(folder)
        assert (found["refused"], found["removed"]) == (1, 0)
        assert document("component:default/a")["spec"]["owner"] == "good"
        assert "document 1" in Claim.objects.get(entity__name="a").stale_reason
        write("a.yaml", "kind: [")
        run(folder)
        assert names() == {"a", "b"}
        assert Claim.objects.exclude(stale_reason="").count() == 2
        write("a.yaml", component("a", owner="good"), component("b"))
        run(folder)
        assert not Claim.objects.exclude(stale_reason="").exists()
        assert not Problem.objects.filter(type__in=["stale", "refused-document"], resolved_at=None).exists()
        assert Entity.objects.get(name="a").uid == uid

    @pytest.mark.parametrize(
        "first",
        [None, component("a", owner=5), "kind: [\n"],
        ids=["removed", "no longer valid", "no longer YAML"],
    )
    def test_of_a_name_twice_in_a_file_the_second_takes_over_from_a_first_that_is_gone_or_wrong(
        self, write: Write, folder: Path, first: str | None
    ) -> None:
        second, other = component("a", owner="second"), component("b")
        write("a.yaml", component("a", owner="first"), second, other)
        run(folder)
        assert document("component:default/a")["spec"]["owner"] == "first"
        assert Problem.objects.filter(type="shadowed", resolved_at=None).count() == 1
        uid, number = Entity.objects.get(name="a").uid, len(history("component:default/a"))
        write("a.yaml", *([first] if first else []), second, other)
        run(folder)
        assert document("component:default/a")["spec"]["owner"] == "second"
        assert [claim.stale_reason for claim in Claim.objects.filter(entity__name="a")] == [""]
        told = Problem.objects.filter(resolved_at=None).values_list("type", flat=True)
        assert [type_ for type_ in told if type_ in {"shadowed", "stale", "refused-document"}] == (
            ["refused-document"] if first else []
        )
        before = counted_rows()
        assert run(folder)["written"] == 0
        assert counted_rows() == before
        assert len(history("component:default/a")) == number + 1
        write("a.yaml", component("a", owner="first"), second, other)
        run(folder)
        assert document("component:default/a")["spec"]["owner"] == "first"
        assert Entity.objects.get(name="a").uid == uid

    def test_of_a_name_twice_in_a_file_a_wrong_second_leaves_the_first_alone(
        self, write: Write, folder: Path
    ) -> None:
        write("a.yaml", component("a", owner="first"), component("a", owner=5))
        for _again in range(2):
            found = run(folder)
            assert (found["accepted"], found["refused"]) == (1, 1)
            assert not Claim.objects.exclude(stale_reason="").exists()
        assert found["written"] == 0

    def test_an_edit_in_a_file_is_one_line_of_its_history(self, write: Write, folder: Path) -> None:
        write("a.yaml", component("a", owner="old"))
        run(folder)
        write("a.yaml", component("a", owner="new"))
        read_again()
        newest = history("component:default/a")[-1]
        assert newest.diff == [{"path": "spec.owner", "old": "old", "new": "new"}]
        assert newest.by.endswith("/catalog")

    def test_it_is_read_again_when_its_time_has_come(self, write: Write, folder: Path) -> None:
        write("a.yaml", component("a"))
        run(folder)
        location = CatalogLocation.objects.get()
        now = timezone.now()
        assert due_locations(now=now) == []
        soon = now + timedelta(seconds=location.interval)
        assert due_locations(now=soon) == [location]
        assert due_locations(now=soon) == []  # claimed
        write("a.yaml", component("a"), component("b"))
        result = refresh_location(location_id=location.pk, now=soon)
        assert result is not None
        assert result.written == 1
        assert names() == {"a", "b"}

    def test_by_itself_it_removes_not_much_at_once(self, write: Write, folder: Path) -> None:
        write("a.yaml", *[component(f"c{n}") for n in range(30)])
        run(folder)
        write("a.yaml", *[component(f"c{n}") for n in range(15)])
        result = read_again()
        assert result.removed == 0
        assert len(names()) == 30
        assert "15 of 30" in result.problems[-1].message
        assert run(folder)["removed"] == 15  # a person says so

    def test_an_empty_folder_after_a_full_one_removes_nothing_by_itself(
        self, write: Write, folder: Path
    ) -> None:
        path = write("a.yaml", component("a"))
        run(folder)
        path.unlink()
        read_again()
        assert names() == {"a"}
        folder.rmdir()
        read_again()
        assert names() == {"a"}
        assert Problem.objects.filter(type="refused-document", severity="fail", resolved_at=None).exists()

    def test_an_override_outlives_its_file(self, write: Write, folder: Path, ben: Any) -> None:
        path = write("a.yaml", component("a", owner="file"))
        run(folder)
        override_field(user=ben, entity=Entity.objects.get(name="a"), path="spec.owner", value="ours")
        path.write_text(component("b"))
        run(folder)
        assert names() == {"b"}
        path.write_text(component("a") + "---\n" + component("b"))
        run(folder)
        assert relations("component:default/a") == [("ownedBy", "group:default/ours")]
        assert Claim.objects.filter(rank=Rank.PERSON).count() == 1


class TestRemoval:
    @pytest.fixture
    def places(self, write: Write, folder: Path) -> CatalogLocation:
        """Two locations; of the one that is returned, another speaks of `shared` too."""
        write(
            "a.yaml", *[component(name) for name in "abcde"], component("bad", owner=5), component("shared")
        )
        write("own/c.yaml", component("other"), component("shared"))
        run(folder / "a.yaml", folder / "own")
        return CatalogLocation.objects.get(address__endswith="a.yaml")

    def ask(self, location: CatalogLocation) -> bool:
        return request_removal(location=location, by="ana", now=timezone.now())

    def test_it_takes_all_that_the_location_declared(self, places: CatalogLocation) -> None:
        assert (removal_of(places).kinds, removal_of(places).amended) == ({"component": 5}, 1)
        assert self.ask(places)
        assert names() >= {"a", "other"}, "it is a worker's work"
        remove_location(location_id=places.pk)
        assert names() == {"other", "shared"}
        assert not CatalogLocation.objects.filter(pk=places.pk).exists()
        assert not Source.objects.filter(key=places.source_key).exists()
        assert not Problem.objects.filter(type="refused-document", resolved_at=None).exists()
        (event,) = AuditEvent.objects.filter(verb="catalog.location-remove")
        assert event.changes == {"entities": 5, "amended": 1}
        assert history("component:default/a")[-1].by == "ana"

    def test_it_is_done_only_where_it_was_asked_for_and_noted_once(self, places: CatalogLocation) -> None:
        remove_location(location_id=places.pk)
        assert names() >= {"a", "b"}
        assert [self.ask(places), self.ask(places)] == [True, False]
        assert AuditEvent.objects.filter(verb="catalog.location-remove").count() == 1

    def test_one_that_is_killed_half_way_is_finished_by_the_tick(
        self, places: CatalogLocation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(turns, "PAGE", 2)
        self.ask(places)
        drop, pages = removal.drop_claims, []

        def killed(**given: Any) -> Any:
            pages.append(given["external_ids"])
            if len(pages) == 3:
                raise SystemExit
            return drop(**given)

        monkeypatch.setattr(removal, "drop_claims", killed)
        with pytest.raises(SystemExit):
            remove_location(location_id=places.pk)
        assert [len(page) for page in pages] == [2, 2, 2]
        row = CatalogLocation.objects.get(pk=places.pk)
        assert (row.removal_claims, removals_left([row])) == (6, {row.pk: 2})
        assert len(names() & set("abcde")) == 1
        assert refresh_location(location_id=places.pk, now=timezone.now()) is None
        asked: list[int] = []
        monkeypatch.setattr(remove_task, "delay", lambda *, location_id: asked.append(location_id))
        monkeypatch.setattr(read_location, "delay", lambda *, location_id: None)
        tick()
        assert asked == [], "another may still be at it"
        CatalogLocation.objects.update(due_at=timezone.now())
        tick()
        tick()
        assert asked == [places.pk]
        remove_task(location_id=places.pk)
        assert names() == {"other", "shared"}
        assert not CatalogLocation.objects.filter(pk=places.pk).exists()

    @pytest.mark.parametrize("way", ["command", "browser"])
    def test_who_imports_it_again_calls_it_back(
        self, places: CatalogLocation, folder: Path, settings: Any, way: str
    ) -> None:
        settings.PORTICO_FILES_ALLOW = [folder]
        self.ask(places)
        if way == "command":
            run(folder / "a.yaml")
        else:
            register_location(address=str(folder / "a.yaml"), by="ben", now=timezone.now())
        remove_location(location_id=places.pk)
        assert names() >= set("abcde")
        assert not CatalogLocation.objects.get(pk=places.pk).is_removed

    def test_a_reading_that_began_before_does_not_bring_it_back(
        self, places: CatalogLocation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read = reading.Reading.read

        def asked_meanwhile(self: Any, *args: Any, **given: Any) -> None:
            read(self, *args, **given)
            request_removal(location=places, by="ana", now=timezone.now())

        monkeypatch.setattr(reading.Reading, "read", asked_meanwhile)
        refresh_location(location_id=places.pk, now=timezone.now())
        assert CatalogLocation.objects.get(pk=places.pk).is_removed
        remove_location(location_id=places.pk)
        assert names() == {"other", "shared"}

    def test_one_of_which_nothing_could_be_read_goes_too(self, write: Write, folder: Path) -> None:
        write("notes.txt", "no catalog file")
        run_partly(folder)
        location = CatalogLocation.objects.get()
        assert removal_of(location).entities == 0
        self.ask(location)
        remove_location(location_id=location.pk)
        assert not CatalogLocation.objects.exists()
        assert not Problem.objects.filter(resolved_at=None).exists()
