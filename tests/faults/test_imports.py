"""Imports beside other writers, and of places that are slow: no lock is held while one waits, and none is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction
from django.utils import timezone

from catalog.documents import Location
from catalog.models import Claim, Entity, Source
from catalog.services import ingest
from integrations.models import CatalogLocation
from integrations.services import locations
from integrations.services.locations import (
    import_paths,
    imports,
    refresh_location,
    remove_location,
    request_removal,
    turns,
    writing,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("core_pack")]


def component(name: str, words: str = "") -> str:
    return (
        "apiVersion: backstage.io/v1alpha1\nkind: Component\n"
        f"metadata: {{name: {name}, description: '{words}'}}\n"
        "spec: {type: service, lifecycle: production, owner: team}\n"
    )


class Slow:
    """A web server with one catalog file, which waits with its answer as long as a test wants.

    :ivar asked: set when somebody has asked; `may_answer` lets the answers go.
    """

    def __init__(self) -> None:
        self.text = ""
        self.asked, self.may_answer = threading.Event(), threading.Event()
        self.may_answer.set()
        self.seen: list[Any] = []
        self.look: Callable[[], Any] = lambda: None
        slow = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = slow.text.encode()
                slow.asked.set()
                slow.seen.append(slow.look())
                slow.may_answer.wait(60)
                self.send_response(200)
                self.send_header("Content-Type", "application/yaml")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/all.yaml"


@pytest.fixture
def slow(settings: Any) -> Iterator[Slow]:
    settings.PORTICO_OUTBOUND_ALLOW = ["127.0.0.1"]
    made = Slow()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.may_answer.set()
    made.server.shutdown()
    thread.join()
    made.server.server_close()


class Running:
    """Something that goes on in a thread with a database connection of its own."""

    def __init__(self, do: Callable[[], Any]) -> None:
        self.result: Any = None
        self.error: BaseException | None = None

        def run() -> None:
            try:
                self.result = do()
            except BaseException as error:  # noqa: BLE001 - raised again by `end`
                self.error = error
            finally:
                connection.close()

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def end(self) -> Any:
        self._thread.join(60)
        assert not self._thread.is_alive(), "it waits for ever"
        if self.error:
            raise self.error
        return self.result


def parameters() -> dict[str, Any]:
    known = connection.get_connection_params()
    return {name: known[name] for name in ("dbname", "user", "host") if known.get(name)}


def test_nothing_is_locked_while_a_file_is_awaited(slow: Slow) -> None:
    slow.text = component("pay")
    import_paths(addresses=[slow.url], by="ana")

    def locks() -> tuple[int, int]:
        with psycopg.connect(**parameters()) as other:
            row = other.execute(
                "SELECT count(*) FILTER (WHERE locktype <> 'advisory' AND pid <> pg_backend_pid()),"
                " count(*) FILTER (WHERE locktype = 'advisory')"
                " FROM pg_locks WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            ).fetchone()
        assert row is not None
        return row[0], row[1]

    slow.look = locks
    import_paths(addresses=[slow.url], by="ana")
    refresh_location(location_id=CatalogLocation.objects.get().pk, now=timezone.now())
    assert slow.seen[1:] == [(0, 1), (0, 1)], "but for the one that says who is reading"


def test_a_preview_waits_for_nobody_and_ends_in_time(slow: Slow) -> None:
    slow.text = component("pay")
    slow.may_answer.clear()
    with turns.alone(Location.of(f"url:{slow.url}").text, seconds=0):  # somebody is importing it
        told = import_paths(addresses=[slow.url], by="ana", dry_run=True, seconds=1)
    assert "longer than 1 s" in told.problems[0].message
    assert (told.unread, told.files) == (1, 0)


def test_of_two_imports_of_one_location_the_later_has_the_last_word(slow: Slow) -> None:
    slow.text = component("pay", "first") + "---\n" + component("gone")
    slow.may_answer.clear()
    first = Running(lambda: import_paths(addresses=[slow.url], by="ana"))
    assert slow.asked.wait(10)
    slow.text = component("pay", "second") + "---\n" + component("new")
    second = Running(lambda: import_paths(addresses=[slow.url], by="ben"))
    slow.may_answer.set()
    assert first.end().accepted == second.end().accepted == 2
    assert Entity.objects.get(name="pay").description == "second"
    assert set(Entity.objects.filter(deleted_at=None).values_list("name", flat=True)) == {"pay", "new"}
    assert CatalogLocation.objects.count() == Source.objects.count() == 1
    assert Claim.objects.count() == 2


def test_a_location_that_is_being_read_is_left_to_who_reads_it(
    slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow.text = component("pay")
    import_paths(addresses=[slow.url], by="ana")
    location = CatalogLocation.objects.get()
    slow.asked.clear()
    slow.may_answer.clear()
    reading = Running(lambda: refresh_location(location_id=location.pk, now=timezone.now()))
    assert slow.asked.wait(10)
    assert refresh_location(location_id=location.pk, now=timezone.now()) is None
    monkeypatch.setattr(imports, "WAIT", 0.1)
    told = import_paths(addresses=[slow.url], by="ana")
    assert "being read right now" in told.problems[0].message
    request_removal(location=location, by="ana", now=timezone.now())
    remove_location(location_id=location.pk)
    assert CatalogLocation.objects.get().is_removed, "it waits until that is over"
    assert Claim.objects.exists()
    slow.may_answer.set()
    reading.end()
    remove_location(location_id=location.pk)
    assert not CatalogLocation.objects.exists()
    assert not Claim.objects.exists()


def test_a_killed_import_leaves_a_location_that_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("---\n".join(component(f"c{number}") for number in range(6)))
    monkeypatch.setattr(turns, "PAGE", 2)
    apply = writing.apply_claims
    pages: list[int] = []

    def apply_two(**given: Any) -> Any:
        pages.append(1)
        if len(pages) > 2:
            raise KeyboardInterrupt
        return apply(**given)

    monkeypatch.setattr(writing, "apply_claims", apply_two)
    with pytest.raises(KeyboardInterrupt):
        import_paths(addresses=[str(path)], by="ana", from_shell=True)
    assert Claim.objects.count() == 4, "each page stands by itself"
    monkeypatch.setattr(writing, "apply_claims", apply)
    (due,) = locations.due_locations(now=timezone.now())
    result = refresh_location(location_id=due.pk, now=timezone.now())
    assert result is not None
    assert (result.written, result.unchanged) == (2, 4)


def test_a_deadlock_with_another_writer_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    names = ["a", "b"]
    path.write_text("---\n".join(component(name) for name in names))
    import_paths(addresses=[str(path)], by="ana", from_shell=True)
    first, last = Entity.objects.order_by("uid").values_list("pk", flat=True)
    path.write_text("---\n".join(component(name, "new") for name in names))
    holds, may_go_on = threading.Event(), threading.Event()

    def quarrel() -> None:
        """Hold the row that the import locks last, and ask for the first when the import has it."""
        with transaction.atomic():
            list(Entity.objects.select_for_update().filter(pk=last))
            holds.set()
            assert may_go_on.wait(30)
            list(Entity.objects.select_for_update().filter(pk=first))

    other = Running(quarrel)
    assert holds.wait(10)
    locking = ingest._Page.lock
    tries: list[int] = []

    def lock(self: Any, entity_ids: set[int]) -> None:
        tries.append(1)
        threading.Timer(0.3, may_go_on.set).start()
        locking(self, entity_ids)

    ingest._Page.lock = lock  # type: ignore[method-assign]
    try:
        summary = import_paths(addresses=[str(path)], by="ana", from_shell=True)
    finally:
        ingest._Page.lock = locking  # type: ignore[method-assign]
    other.end()
    assert summary.written == 2
    assert len(tries) > 1, "one of the two had to begin again, and that was the import"
    assert set(Entity.objects.values_list("description", flat=True)) == {"new"}
