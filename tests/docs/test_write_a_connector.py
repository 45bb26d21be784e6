"""The example of "Write a connector" is run as it stands in the page."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.utils import timezone

import integrations.connectors
from access.actors import acting_as, system
from catalog.models import Activity, Entity, Tie
from integrations import records, registry, sync
from integrations.contract import Category
from integrations.models import OperationRun, RunState, StoredRecord
from integrations.services import connections, operations, runs
from tests.docs.pages import ROOT, block, first_cells, page, section
from tests.integrations.conftest import make_answer, server  # noqa: F401 - fixtures

PAGE = "write-a-connector.md"
TESTS = [
    node.name for node in ast.parse(block(PAGE, "test_bellows.py")).body if isinstance(node, ast.FunctionDef)
]


@pytest.fixture
def bellows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The page's connector, as a package among our own connectors."""
    folder = tmp_path / "connectors" / "bellows"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "connector.py").write_text(block(PAGE, "connector.py"), encoding="utf-8")
    monkeypatch.setattr(
        integrations.connectors, "__path__", [*integrations.connectors.__path__, str(folder.parent)]
    )
    importlib.invalidate_caches()
    yield importlib.import_module("integrations.connectors.bellows.connector")
    for name in ("integrations.connectors.bellows.connector", "integrations.connectors.bellows"):
        sys.modules.pop(name, None)
    vars(integrations.connectors).pop("bellows", None)


@pytest.mark.parametrize("name", TESTS)
def test_the_tests_of_the_page_pass(
    name: str,
    bellows: ModuleType,
    tmp_path: Path,
    server: Any,  # noqa: F811
    make_answer: Callable[..., bytes],  # noqa: F811
) -> None:
    path = tmp_path / "test_bellows.py"
    path.write_text(block(PAGE, "test_bellows.py"), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("bellows_tests", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    getattr(module, name)(server, make_answer)


@pytest.mark.django_db
def test_a_sync_brings_what_the_page_says(
    bellows: ModuleType,
    core_pack: None,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    server: Any,  # noqa: F811
    make_answer: Callable[..., bytes],  # noqa: F811
) -> None:
    settings.PORTICO_OUTBOUND_ALLOW = ["127.0.0.1"]
    known = {**registry.connectors(), "bellows": bellows.Bellows}
    monkeypatch.setattr(registry, "connectors", lambda: known)
    example: dict[str, Any] = {}
    exec(block(PAGE, "test_bellows.py").partition("def test_")[0], example)  # the page's own job and run
    server.on("/api/jobs", make_answer(json={"jobs": [example["JOB"]], "total": 1, "next": None}))
    server.on("/api/runs", make_answer(json={"runs": [example["RUN"]]}))
    server.on("/api/jobs/pay/start", make_answer(json={"run": 2190}))
    with acting_as(system("tests")):
        connection = connections.create_connection(
            slug="bellows",
            label="Bellows",
            connector="bellows",
            config={"base_url": server.url, "token": "t"},
        )
        repository = StoredRecord.objects.create(
            connection=connection,
            resource="repositories",
            type="repository",
            external_id="pay",
            digest=b"",
            data={
                "name": "pay",
                "path": "acme/pay",
                "keys": ["repo:git.acme.example/acme/pay"],
                "external_id": "pay",
            },
            as_of=timezone.now(),
            touched_at=timezone.now(),
        )
        runs.remap(connection=connection, rows=[repository], by="tests", now=timezone.now())
        run = runs.request_sync(connection=connection)
        sync.execute_run(run_id=run.pk, now=timezone.now())
        run.refresh_from_db()
        assert (run.state, run.message) == (RunState.SYNCED, "")
        job = Entity.objects.get(kind="pipeline")
        tie = (
            Tie.objects.get(source=job)
            if Tie.objects.filter(source=job).exists()
            else Tie.objects.get(target=job)
        )
        assert {tie.source.kind, tie.target.kind} == {"repository", "pipeline"}
        assert Activity.objects.get(type="run").subject_uid == job.uid
        assert {request.headers["authorization"] for request in server.requests} == {"Bearer t"}

        connections.update_connection(connection=connection, allows_operations=True)
        connection.refresh_from_db()
        operation = operations.request_operation(
            connection=connection,
            operation="start",
            target=StoredRecord.objects.get(resource="jobs"),
            params={"branch": "hotfix"},
            by="ana",
        )
        operations.execute_operation(operation_id=operation.pk)
        operation.refresh_from_db()
    assert (operation.state, operation.message) == (OperationRun.State.DONE, "Bellows has queued run 2190.")
    assert server.asked("/api/jobs/pay/start")[0].body == b'{"branch":"hotfix"}'


def test_every_record_type_and_its_required_fields_are_listed() -> None:
    table = section(PAGE, "Records").partition("\n- ")[0]
    listed = first_cells(table)
    assert sorted(listed) == sorted(model.__name__ for model in records.RECORD_TYPES.values())
    for line in table.splitlines():
        for name in first_cells(line):
            model = getattr(records, name)
            needed = {n for n, f in model.model_fields.items() if f.is_required()} - {"external_id"}
            said = line.rpartition(" | ")[2]
            assert all(f"`{field}`" in said for field in needed), (name, needed)
            assert ("activity" in line) == (model.makes == "activity")


def test_every_status_is_listed() -> None:
    table = section(PAGE, "Records").partition("| record | `status` |")[2].partition("\n\n")[0]
    rows = table.splitlines()[2:]
    assert rows
    for line in rows:
        names, words = line.strip("| ").split(" | ")
        for name in first_cells(line):
            status = records.RECORD_TYPES[name.lower()].model_fields["status"].annotation
            assert words.replace("`", "").split() == [str(word) for word in status], names  # type: ignore[union-attr]


def test_every_category_is_listed() -> None:
    text = section(PAGE, "What it is")
    assert all(f"`{category.name}`" in text for category in Category)


def test_the_figures_of_the_first_connector_hold() -> None:
    folder = ROOT / "tests" / "docs" / "kettle"
    lines = {path.name: len(path.read_text().splitlines()) for path in folder.glob("*.py")}
    text = page(PAGE)
    assert f"## A first connector: {lines['connector.py']} lines" in text
    assert f"its test {lines['test_kettle.py']}." in text
    assert f"whole and has {round(block(PAGE, 'connector.py').count(chr(10)), -1)} lines" in text


def test_every_error_of_the_contract_is_listed() -> None:
    listed = first_cells(section(PAGE, "Errors"))
    assert listed == ["AuthFailed", "Misconfigured", "NotThere", "SourceUnavailable", "BadPayload"]
