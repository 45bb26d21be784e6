"""Many writers at once: none waits for another in a circle, none loses what another wrote."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from access.models import User
from catalog.models import Claim, DirtyEntity, Entity, Source, Tie
from catalog.services.edit import StaleEntity, decide_tie, etag_of, override_field
from catalog.services.render import render_dirty
from integrations.models import CatalogLocation
from integrations.services.locations import import_paths, refresh_location, turns
from tests.faults.conftest import Portal
from tests.faults.upstream import Upstream

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("impatient", "paged")]

COUNT = 40


def _put(path: Path, text: str) -> None:
    """Replace a file in one go, as editors do: nobody reads half of it."""
    new = path.with_suffix(f".{threading.get_ident()}")
    new.write_text(text)
    new.replace(path)


def _write(folder: Path, words: str) -> None:
    """Catalog files that name each other, in a folder; some declare what the tool declares too."""
    for number in (7, 1, 5, 3):
        _put(
            folder / f"a{7 - number}.yaml",
            "apiVersion: backstage.io/v1alpha1\nkind: Component\n"
            f"metadata: {{name: comp-svc00{number}, description: {words}}}\n"
            "spec: {type: service, lifecycle: production, owner: team-svc000}\n",
        )
    for number in range(COUNT):
        _put(
            folder / f"c{number:02}.yaml",
            "apiVersion: backstage.io/v1alpha1\nkind: Component\n"
            f"metadata: {{name: file-{number}, description: {words}}}\n"
            f"spec: {{type: service, lifecycle: production, owner: team-svc00{number % 9}, "
            f"dependsOn: ['component:file-{(number + 7) % COUNT}', 'component:comp-svc001']}}\n",
        )


class Together:
    """Runs things at once, each in a thread, and tells what went wrong."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def also(self, do: Callable[[], object], *, times: int = 1) -> None:
        def run() -> None:
            try:
                for _ in range(times):
                    do()
            except BaseException as error:  # noqa: BLE001 - raised again by `end`
                self.errors.append(error)
            finally:
                connection.close()

        self._threads.append(threading.Thread(target=run))

    def end(self) -> None:
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive(), "somebody waits for ever"
        for error in self.errors:
            raise error


@pytest.fixture
def folder(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "catalog"
    made.mkdir()
    settings.PORTICO_FILES_ALLOW = [made]
    monkeypatch.setattr(turns, "PAGE", 7)
    _write(made, "first")
    return made


def test_imports_syncs_edits_and_rendering_at_once(
    portal: Portal, upstream: Upstream, ana: User, folder: Path, settings: Any
) -> None:
    settings.PORTICO_OUTBOUND_ALLOW = [f"127.0.0.1:{upstream.port}"]
    paged = portal.connect("paged", "paged", base_url=upstream.url)
    lines = portal.connect("lines", "records", location=upstream.lines_url)
    portal.sync_well(paged)
    import_paths(addresses=[str(folder)], by="ana")
    entity = Entity.objects.get(ref="component:default/comp-svc001")
    repository = Entity.objects.get(ref="repository:default/acme-svc003")
    said: list[str] = []

    def edit() -> None:
        words = f"words {len(said)}"
        override_field(user=ana, entity=entity, path="metadata.description", value=words)
        said.append(words)

    def tie() -> None:
        decide_tie(
            user=ana, source=entity, type="hasSource", target=repository, state="confirmed", reason="I know"
        )

    def change_files() -> None:
        _write(folder, f"again {len(said)}")
        import_paths(addresses=[str(folder)], by="ben")

    def change_tool() -> None:
        for number in range(9):
            upstream.world.entities[f"repo-svc{number:03}"]["description"] = f"new {len(said)} {number}"
        for number in (1, 3, 5, 7):
            upstream.world.entities[f"doc-svc{number:03}"]["document"]["metadata"]["title"] = (
                f"new {len(said)}"
            )
        portal.sync(paged)

    together = Together()
    together.also(change_files, times=2)
    together.also(lambda: import_paths(addresses=[str(folder)], by="cleo"), times=3)
    together.also(change_tool, times=3)
    together.also(lambda: portal.sync(lines), times=2)
    together.also(edit, times=6)
    together.also(tie, times=4)
    together.also(lambda: render_dirty(at=timezone.now()), times=10)
    together.end()
    render_dirty(at=timezone.now())

    assert not DirtyEntity.objects.exists()
    files = Source.objects.get(key__startswith="yaml:")
    assert Claim.objects.filter(source=files).count() == COUNT + 4
    assert Entity.objects.filter(name__startswith="file-", deleted_at=None).count() == COUNT
    assert CatalogLocation.objects.count() == 1
    entity.refresh_from_db()
    assert entity.description == said[-1]
    assert Tie.objects.get(source=entity, target=repository).state == "confirmed"
    portal.sync_well(paged)
    portal.sync_well(lines)
    facts = portal.facts()
    render_dirty(at=timezone.now())
    assert portal.facts() == facts
    assert sum("component:default/file-0 " in fact for fact in facts) > 0


def test_who_edits_what_has_changed_since_is_told(
    portal: Portal, upstream: Upstream, ana: User, settings: Any
) -> None:
    settings.PORTICO_OUTBOUND_ALLOW = [f"127.0.0.1:{upstream.port}"]
    paged = portal.connect("paged", "paged", base_url=upstream.url)
    portal.sync_well(paged)
    entity = Entity.objects.get(ref="group:default/team-svc000")
    seen = etag_of(entity)
    upstream.world.entities["team-svc000"]["title"] = "Changed by the tool"
    portal.sync_well(paged)
    with pytest.raises(StaleEntity):
        override_field(user=ana, entity=entity, path="metadata.title", value="Mine", expected=seen)


def test_two_readings_of_one_location_at_once(portal: Portal, folder: Path) -> None:
    import_paths(addresses=[str(folder)], by="ana")
    location = CatalogLocation.objects.get()
    _write(folder, "second")
    results: list[Any] = []
    together = Together()
    for _ in range(3):
        together.also(
            lambda: results.append(refresh_location(location_id=location.pk, now=timezone.now())), times=2
        )
    together.end()
    assert any(result is not None and result.written for result in results)
    assert Entity.objects.filter(description="second", deleted_at=None).count() == COUNT + 4
