"""Files that change are read again within a moment: they alone, and what they said alone is changed by it."""
# ruff: noqa: F811 - fixtures come from another module

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from catalog.models import Claim, Entity, Problem
from integrations import watching
from integrations.models import CatalogLocation
from integrations.services import locations
from integrations.services.locations import Watch, imports, turns
from tests.integrations.test_locations import component, folder, location, names, parsed, write  # noqa: F401

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[CatalogLocation]:
    """The locations that a worker was asked to read as a whole."""
    found: list[CatalogLocation] = []
    monkeypatch.setattr(watching, "start_reading", found.append)
    return found


@pytest.fixture
def watch(folder: Path, write: Any, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """A watch over two files with three components, which has looked."""
    monkeypatch.setattr(Watch, "ASK_SECONDS", 0.0)
    monkeypatch.setattr(Watch, "LIST_SECONDS", 0.0)
    for name, documents in {"a.yaml": ("one", "two"), "b.yaml": ("three",)}.items():
        old(write(name, *map(component, documents)))
    call_command("import_catalog", str(folder))
    made = Watch()
    assert made.look() == []
    return made


def old(path: Path) -> Path:
    """Let a file have been changed long ago."""
    os.utime(path, (1_000_000_000, 1_000_000_000))
    return path


def turn(watch: Watch) -> list[set[str] | None]:
    """Look, and read again what has changed; gives the names of the changed files, None for a whole location."""
    found = watch.look()
    for changed in found:
        watching.read_again(watch, changed)
    return [None if one.paths is None else {Path(path).name for path in one.paths} for one in found]


class TestSomeFiles:
    def test_what_changed_alone_is_read_and_what_it_no_longer_says_goes(
        self,
        watch: Watch,
        write: Any,
        parsed: list[int],
        asked: list[Any],
    ) -> None:
        before = CatalogLocation.objects.values().get()
        write("a.yaml", component("one", type="library"), component("four"))
        assert turn(watch) == [{"a.yaml"}]
        assert names() == {"one", "four", "three"}
        assert Entity.objects.get(name="one").type == "library"
        assert len(parsed) == 2
        assert turn(watch) == []
        assert CatalogLocation.objects.values().get() == before
        assert asked == []

    def test_a_file_that_came_and_one_that_went(self, watch: Watch, write: Any, folder: Path) -> None:
        write("below/c.yaml", component("five"))
        (folder / "b.yaml").unlink()
        assert turn(watch) == [{"b.yaml", "c.yaml"}]
        assert names() == {"one", "two", "five"}

    def test_what_cannot_be_parsed_keeps_its_last_word_and_is_a_problem_until_it_is_mended(
        self,
        watch: Watch,
        write: Any,
    ) -> None:
        write("a.yaml", component("one"), "kind: [")
        assert turn(watch) == [{"a.yaml"}]
        assert names() == {"one", "two", "three"}
        assert Problem.objects.filter(type="refused-document", resolved_at=None).count() == 1
        write("b.yaml", component("three", type="library"))
        turn(watch)
        assert Problem.objects.filter(type="refused-document", resolved_at=None).count() == 1
        write("a.yaml", component("one"), component("two", type="website"))
        turn(watch)
        assert not Problem.objects.filter(type="refused-document", resolved_at=None).exists()

    def test_suspiciously_much_is_not_taken_away(self, watch: Watch, write: Any) -> None:
        write("many.yaml", *(component(f"many-{number}") for number in range(20)))
        turn(watch)
        assert len(names()) == 23
        write("many.yaml", component("many-0"))
        turn(watch)
        assert len(names()) == 23

    def test_another_reader_is_waited_for(
        self,
        watch: Watch,
        write: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def busy(*_address: Any, **_seconds: Any) -> Any:
            raise locations.LocationBusy("Another is at it.")

        write("a.yaml", component("one", type="library"), component("two"))
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(imports, "alone", busy)
            assert turn(watch) == [{"a.yaml"}]
        assert Entity.objects.get(name="one").type == "service"
        assert turn(watch) == [{"a.yaml"}]
        assert Entity.objects.get(name="one").type == "library"
        assert turns.alone is imports.alone

    def test_files_that_are_known_are_looked_at_more_often_than_new_ones_are_looked_for(
        self, watch: Watch, write: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Watch, "LIST_SECONDS", 60.0)
        write("c.yaml", component("new"))
        assert turn(watch) == []
        write("a.yaml", component("one", type="library"), component("two"))
        assert turn(watch) == [{"a.yaml"}]
        (folder / "b.yaml").unlink()  # then all is listed
        assert turn(watch) == [{"b.yaml", "c.yaml"}]
        assert names() == {"one", "two", "new"}


class TestTheWhole:
    def test_a_file_that_leads_to_others(self, watch: Watch, write: Any, asked: list[Any]) -> None:
        write("b.yaml", component("three"), location("more", "./far/x.yml"))
        assert turn(watch) == [{"b.yaml"}]
        assert len(asked) == 1

    def test_a_file_that_another_leads_to(
        self,
        write: Any,
        asked: list[Any],
    ) -> None:
        far = old(write("far/far.yaml", component("far")))
        start = old(write("start.yaml", location("more", "./far/far.yaml")))
        call_command("import_catalog", str(start))
        assert Claim.objects.filter(place__has_key="by").count() == 1
        watch = Watch()
        assert watch.look() == []
        far.write_text(component("far", type="library"))
        assert turn(watch) == [None]
        assert len(asked) == 1

    def test_a_folder_that_cannot_be_listed_takes_nothing_away(
        self,
        watch: Watch,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        folder.rename(folder.with_name("away"))
        assert turn(watch) == []
        assert len(names()) == 3
        folder.with_name("away").rename(folder)
        assert turn(watch) == []


def test_what_was_changed_while_nobody_looked_is_seen_at_first(watch: Watch, write: Any) -> None:
    write("b.yaml", component("three", type="library"))
    assert turn(Watch()) == [{"b.yaml"}]
    assert Entity.objects.get(name="three").type == "library"


def test_a_location_that_is_removed_is_not_looked_at(watch: Watch, write: Any) -> None:
    locations.request_removal(
        location=CatalogLocation.objects.get(), by="ana", now=CatalogLocation.objects.get().created_at
    )
    write("a.yaml", component("six"))
    assert turn(watch) == []
