"""The records connector on real files and a real server."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from integrations.connectors.records import connector as module
from integrations.connectors.records.connector import Records
from integrations.contract import (
    AuthFailed,
    BadPayload,
    Misconfigured,
    NotThere,
    Refused,
    SourceError,
    SourceUnavailable,
)
from integrations.records import RECORD_TYPES, ActivityRecord, EntityRecord, Record, Step
from tests.integrations.reading import QUICK, read, use

README = Path(module.__file__).with_name("README.md").read_text("utf-8")
REPOSITORY = {"type": "repository", "external_id": "pay", "name": "pay", "path": "acme/pay"}
RUN = {
    "type": "run",
    "external_id": "run-1",
    "status": "passed",
    "started_at": "@-2h",
    "finished_at": "@-1h59m",
}


@pytest.fixture(autouse=True)
def open_to_the_test(settings: Any, tmp_path: Path) -> None:
    """The test's folder may be read."""
    settings.PORTICO_FILES_ALLOW = [tmp_path]
    settings.PORTICO_HOME = tmp_path / "home"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of lines: objects as JSON, texts as they are."""

    def write(*lines: Any, name: str = "records.jsonl", end: str = "\n") -> Path:
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path.write_text("\n".join(texts) + end, encoding="utf-8")
        return path

    return write


def at(location: Any, **more: Any) -> dict[str, Any]:
    return {"location": str(location), **more}


def read_until_error(
    config: dict[str, Any], resource: str, **limits: float
) -> tuple[list[Any], SourceError | None]:
    """All that a resource yields, and what it ends with."""
    items: list[Any] = []

    async def go(connector: Records) -> SourceError | None:
        try:
            async for item in getattr(connector, resource)():
                items.append(item)
        except SourceError as error:
            return error
        return None

    return items, use(Records, config, go, limits=replace(QUICK, **limits))


# --- what is read -------------------------------------------------------------------------------------------


def test_each_family_is_a_list_of_its_own(write: Callable[..., Path]) -> None:
    path = write(RUN, "", REPOSITORY, {**RUN, "external_id": "run-2"})
    assert [record.external_id for record in read(Records, at(path), "entities").records] == ["pay"]
    assert list(read(Records, at(path), "activity").by_id()) == ["run-1", "run-2"]
    (repository,) = read(Records, at(f"file://{path}"), "entities").records
    assert (repository.type, repository.path) == ("repository", "acme/pay")


def test_a_folder_means_all_its_files(write: Callable[..., Path]) -> None:
    write(REPOSITORY, name="b.jsonl")
    write({**REPOSITORY, "external_id": "web"}, name="more/a.ndjson")
    write({**REPOSITORY, "external_id": "not"}, name="notes.json")
    folder = write("", name="empty.jsonl").parent
    found = read(Records, at(folder), "entities")
    assert [record.external_id for record in found.records] == ["pay", "web"]


def test_only_the_types_that_are_asked_for(write: Callable[..., Path]) -> None:
    path = write(RUN, REPOSITORY, {"type": "team", "external_id": "t", "name": "payments"})
    assert [r.type for r in read(Records, at(path, types=["team", "run"]), "entities").records] == ["team"]
    assert [r.type for r in read(Records, at(path, types=["team", "run"]), "activity").records] == ["run"]
    with pytest.raises(ValidationError, match="There is no record type runs"):
        Records.Config.model_validate(at(path, types=["runs"]))


def test_one_of_every_type_is_read(write: Callable[..., Path]) -> None:
    values = {
        "document": {"kind": "Component"}, "file": "catalog-info.yaml", "name": "x", "artifact_type": "image",
        "sha": "f" * 40, "committed_at": "@-1d", "opened_at": "@-1d", "started_at": "@-1d", "checked_at": "@-1d",
        "version": "1.0", "environment": "production",
    }  # fmt: skip
    statuses = {"change": "open", "alert": "firing", "incident": "firing", "issue": "open", "check": "passes"}
    lines = []
    for type_, model in RECORD_TYPES.items():
        known = {**values, "status": statuses.get(type_, "queued")}
        required = [name for name, is_needed in fields_of(model).items() if is_needed and name in known]
        lines.append({"type": type_, "external_id": type_} | {name: known[name] for name in required})
    path = write(*lines)
    found = {*read(Records, at(path), "entities").by_id(), *read(Records, at(path), "activity").by_id()}
    assert found == set(RECORD_TYPES)


@pytest.mark.parametrize(
    ("text", "delta"),
    [
        ("@-3d2h", timedelta(days=-3, hours=-2)),
        ("@-1w", timedelta(weeks=-1)),
        ("@+90m", timedelta(minutes=90)),
        ("@-1h30m15s", timedelta(hours=-1, minutes=-30, seconds=-15)),
        ("@-0s", timedelta()),
    ],
)
def test_relative_times_count_from_when_the_file_was_written(
    write: Callable[..., Path], text: str, delta: timedelta
) -> None:
    step = {"name": "build", "status": "passed", "started_at": text}
    path = write({**RUN, "started_at": text, "as_of": text, "title": "@-3d", "steps": [step]})
    written = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    os.utime(path, (written.timestamp(), written.timestamp()))
    (run,) = read(Records, at(path), "activity").records
    assert run.started_at == run.as_of == run.steps[0].started_at == written + delta
    assert run.title == "@-3d", "only times are times"


@pytest.mark.parametrize(
    "text", ["@-", "@", "@3d", "@-3", "@-3x", "@-2h3d", "@-999999w", "yesterday", "2026-01-02T03:04"]
)
def test_times_that_are_none_are_refused(write: Callable[..., Path], text: str) -> None:
    found = read(Records, at(write({**RUN, "started_at": text})), "activity")
    assert [(item.external_id, item.place) for item in found.refused] == [("run-1", "records.jsonl, line 1")]
    assert found.refused[0].reason.startswith("started_at: ")


def test_what_is_a_time_is_told_by_its_name() -> None:
    """Relative times are read in fields that are named like times, so those must be the fields that are times."""
    for model in [*RECORD_TYPES.values(), Step]:
        for name, field in model.model_fields.items():
            is_time = "AwareDatetime" in str(field.annotation)
            assert is_time == (name == "as_of" or name.endswith("_at")), f"{model.__name__}.{name}"


# --- what is wrong ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({**REPOSITORY, "colour": "red"}, "colour: Extra inputs are not permitted"),
        ({**REPOSITORY, "of": "red", "written_at": "@-1d"}, "of: Extra inputs are not permitted"),
        ({**REPOSITORY, "name": ""}, "name: "),
        ({**REPOSITORY, "keys": ["no key"]}, "keys.0: "),
        ({**REPOSITORY, "languages": {"Go": "much"}}, "languages.Go: "),
        ({**REPOSITORY, "type": "repo"}, "There is no record type “repo”; there are: document, "),
        ({**REPOSITORY, "type": None}, "There is no record type null"),
        ({**REPOSITORY, "type": ["run"]}, "There is no record type "),
    ],
)
def test_a_wrong_record_is_refused_by_its_id_and_line(
    write: Callable[..., Path], wrong: dict[str, Any], reason: str
) -> None:
    path = write({**REPOSITORY, "external_id": "web"}, "", wrong, RUN)
    found = read(Records, at(path), "entities")
    assert [record.external_id for record in found.records] == ["web"]
    (refused,) = found.refused
    assert (refused.external_id, refused.place) == ("pay", "records.jsonl, line 3")
    assert refused.reason.startswith(reason)
    assert read(Records, at(path), "activity").refused == [], "one wrong line is told once"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ('{"type": "repository", "external', "This is not JSON"),
        ('["repository"]', "no object"),
        ('{"type": "repository", "name": "pay"}', "The external_id is missing"),
        ('{"type": "repository", "external_id": 7}', "The external_id is missing"),
        ('{"external_id": "a", "raw": {"a": "\\u0000"}}', "NUL"),
        ('{"external_id": "a", "raw": {"a": NaN}}', "This is not JSON"),
        ('{"external_id": "a", "raw": ' + '{"a":' * 70 + "1" + "}" * 71, "nested more than"),
    ],
)
def test_a_line_that_cannot_be_told_from_others_makes_the_list_incomplete(
    write: Callable[..., Path], wrong: str, reason: str
) -> None:
    path = write(REPOSITORY, wrong, {**REPOSITORY, "external_id": "web"}, RUN)
    items, error = read_until_error(at(path), "entities")
    assert [item.external_id for item in items] == ["pay", "records.jsonl#2", "web"]
    assert isinstance(items[1], Refused)
    assert items[1].place == "records.jsonl, line 2"
    assert reason in items[1].reason
    assert isinstance(error, BadPayload)
    assert error.message.startswith("1 line is no record, so nothing is removed: records.jsonl, line 2: ")
    items, error = read_until_error(at(path), "activity")
    assert [item.external_id for item in items] == ["run-1"]
    assert isinstance(error, BadPayload)


def test_an_id_that_comes_twice_is_refused_the_second_time(write: Callable[..., Path]) -> None:
    write(REPOSITORY, {**REPOSITORY, "path": "acme/other"}, name="a.jsonl")
    path = write({**REPOSITORY, "type": "team"}, name="b.jsonl")
    found = read(Records, at(path.parent), "entities")
    assert [record.path for record in found.records] == ["acme/pay"]
    assert [item.place for item in found.refused] == ["a.jsonl, line 2", "b.jsonl, line 1"]
    assert all("a.jsonl, line 1" in item.reason for item in found.refused)


@pytest.mark.parametrize(
    "lines",
    [
        ["<!DOCTYPE html>", *["<p>Sign in</p>"] * 500],
        ["[", *[json.dumps(REPOSITORY) + ","] * 3, "]"],
        ["type,external_id", "repository,pay"],
        ["<html><body>Sign in</body></html>"],
    ],
)
def test_a_file_of_another_kind_is_an_error(write: Callable[..., Path], lines: list[str]) -> None:
    items, error = read_until_error(at(write(*lines)), "entities")
    assert items == []
    assert isinstance(error, BadPayload)
    assert "one JSON object a line" in error.message
    assert ("line 1 is no record" in error.message) == (len(lines) == 1)


def test_too_many_wrong_lines_end_the_reading(write: Callable[..., Path]) -> None:
    path = write(REPOSITORY, *["nonsense"] * 3_000)
    _items, error = read_until_error(at(path), "entities")
    assert isinstance(error, BadPayload)
    assert "line 2 begins 1000 lines" in error.message


@pytest.mark.parametrize("resource", ["entities", "activity"])
@pytest.mark.parametrize(("name", "error"), [("gone.jsonl", NotThere), ("empty", Misconfigured)])
def test_a_location_without_records_is_an_error(
    tmp_path: Path, resource: str, name: str, error: type[Exception]
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(error):
        read(Records, at(tmp_path / name), resource)


@pytest.mark.parametrize("location", ["/etc/passwd", "records.jsonl", "ftp://acme.example/x"])
def test_a_location_that_may_not_be_read_is_an_error(location: str) -> None:
    with pytest.raises(Misconfigured):
        read(Records, at(location), "entities")


def test_an_empty_file_is_an_empty_list(write: Callable[..., Path]) -> None:
    found = read(Records, at(write("", end="")), "entities")
    assert (found.records, found.refused) == ([], [])


# --- over HTTP ----------------------------------------------------------------------------------------------


def lines_of(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def test_a_web_address_is_read_with_a_token(server: Any, make_answer: Callable[..., bytes]) -> None:
    server.on("/export", make_answer(lines_of(REPOSITORY, RUN)))
    before = datetime.now(UTC)
    config = at(f"{server.url}/export?key=s3cret", token="t0ken")
    (run,) = read(Records, config, "activity").records
    assert before - timedelta(hours=2) <= run.started_at <= datetime.now(UTC) - timedelta(hours=2)
    assert server.requests[0].headers["authorization"] == "Bearer t0ken"
    bad = read_until_error(config | {"location": f"{server.url}/bad?key=s3cret"}, "entities")
    assert "s3cret" not in str(bad[1])


@pytest.mark.parametrize("length", [None, 10_000])
def test_an_answer_that_is_cut_is_an_error_and_no_short_list(
    server: Any, make_answer: Callable[..., bytes], length: int | None
) -> None:
    text = lines_of(REPOSITORY, {**REPOSITORY, "external_id": "web"}, RUN)
    cut = make_answer(text[:-20], length=length, headers={"connection": "close"})
    server.on("/export", cut)
    for resource in ("entities", "activity"):
        items, error = read_until_error(at(f"{server.url}/export"), resource, read=0.5)
        assert isinstance(error, BadPayload if length is None else SourceUnavailable)
        assert {item.external_id for item in items if isinstance(item, Record)} <= {"pay", "web"}


def test_the_servers_refusal_is_told(server: Any, make_answer: Callable[..., bytes]) -> None:
    server.on("/export", make_answer("no", status=401))
    with pytest.raises(AuthFailed):
        read(Records, at(f"{server.url}/export"), "entities")


# --- the check ----------------------------------------------------------------------------------------------


def test_the_check_says_what_was_found(write: Callable[..., Path]) -> None:
    path = write(
        REPOSITORY, RUN, {**RUN, "external_id": "run-2"}, {**RUN, "external_id": "run-3", "status": "well"}
    )
    health = use(Records, at(path), lambda records: records.check())
    assert [(check.label, check.ok) for check in health.checks] == [
        (f"Reached {path}", True),
        ("Holds records", True),
        ("1 of the first lines are wrong", False),
    ]
    assert health.checks[1].detail == "2 run, 1 repository"
    assert health.checks[2].detail.startswith("records.jsonl, line 4: status: ")


def test_the_check_of_what_cannot_be_read_fails(write: Callable[..., Path], tmp_path: Path) -> None:
    for location in (tmp_path / "gone", write("<html>"), write("", name="blank.jsonl")):
        health = use(Records, at(location), lambda records: records.check())
        assert not health.ok
        assert all(check.detail for check in health.checks if not check.ok)


# --- the guide ----------------------------------------------------------------------------------------------


def fields_in_readme(heading: str) -> dict[str, bool]:
    """The fields of a section, and whether each is required."""
    section = re.search(rf"^### {re.escape(heading)}\n(.*?)(?=^###? |\Z)", README, re.DOTALL | re.MULTILINE)
    assert section, f"The README has no section {heading}."
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", section[1], re.MULTILINE)
    return {name: "**required**" in rest for name, rest in rows}


def fields_of(model: type[Record]) -> dict[str, bool]:
    return {name: field.is_required() for name, field in model.model_fields.items()}


def test_the_readme_names_every_field_of_every_type() -> None:
    common = fields_in_readme("Every record")
    assert common == fields_of(Record)
    entity = common | fields_in_readme("Every entity")
    assert entity == fields_of(EntityRecord)
    activity = common | fields_in_readme("Every activity")
    assert activity == fields_of(ActivityRecord)
    for type_, model in RECORD_TYPES.items():
        base = (
            entity
            if issubclass(model, EntityRecord)
            else activity
            if issubclass(model, ActivityRecord)
            else common
        )
        assert base | fields_in_readme(f"`{type_}`") == fields_of(model), type_


def test_the_readmes_example_is_read(write: Callable[..., Path]) -> None:
    (example,) = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    path = write(*example.splitlines())
    assert [record.type for record in read(Records, at(path), "entities").records] == ["artifact"]
    assert [record.type for record in read(Records, at(path), "activity").records] == ["run"]
