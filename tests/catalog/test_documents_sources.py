"""From a location to documents: patterns, Location documents, placeholders, and failures that stay alone."""

from __future__ import annotations

import asyncio
import fnmatch
from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from base.errors import DomainError
from catalog.documents import (
    Content,
    Location,
    Missing,
    SourceDocument,
    Unreadable,
    read_documents,
    resolve_target,
)


class Shelf:
    """A reader over texts that it is given, by target."""

    def __init__(self, files: Mapping[str, str | bytes | DomainError]) -> None:
        self.files = files
        self.reads: list[str] = []

    async def read(self, location: Location) -> Content:
        self.reads.append(location.target)
        found = self.files.get(location.target)
        if found is None:
            raise Missing(f"There is no {location}.")
        if isinstance(found, DomainError):
            raise found
        return Content(found.encode() if isinstance(found, str) else found, location)

    async def glob(self, pattern: Location) -> list[Location]:
        matches = sorted(target for target in self.files if fnmatch.fnmatch(target, pattern.target))
        if not matches:
            raise Missing(f"No file fits {pattern}.")
        return [Location(pattern.type, target) for target in matches]

    def resolve(self, base: Location, target: str) -> Location:
        return resolve_target(base, target)


def gather(files: Mapping[str, str | bytes | DomainError], *starts: str) -> list[SourceDocument | Unreadable]:
    return gather_from(Shelf(files), *starts)


def gather_from(shelf: Shelf, *starts: str, follow: bool = True) -> list[SourceDocument | Unreadable]:
    async def run() -> list[SourceDocument | Unreadable]:
        locations = [Location.of(start) for start in starts or ("file:/c/all.yaml",)]
        return [item async for item in read_documents(locations, shelf, follow=follow)]

    return asyncio.run(run())


def documents(found: list[SourceDocument | Unreadable]) -> list[SourceDocument]:
    assert all(isinstance(item, SourceDocument) for item in found)
    return [item for item in found if isinstance(item, SourceDocument)]


def location(targets: Any, **spec: Any) -> str:
    envelope = {"apiVersion": "backstage.io/v1alpha1", "kind": "Location", "metadata": {"name": "x"}}
    return orjson.dumps({**envelope, "spec": {"targets": targets, **spec}}).decode()


def test_locations_are_followed_each_file_once() -> None:
    found = documents(
        gather({
            "/c/all.yaml": location(["./a.yaml", "sub/../b.yaml", "/d/e.yaml", "./all.yaml"]),
            "/c/a.yaml": "a: 1\n---\na: 2",
            "/c/b.yaml": location(["./a.yaml", "../d/e.yaml"]),
            "/d/e.yaml": "e: 1",
        })
    )  # fmt: skip
    assert [(item.location.target, item.parsed.number) for item in found] == [
        ("/c/all.yaml", 1), ("/c/a.yaml", 1), ("/c/a.yaml", 2), ("/c/b.yaml", 1), ("/d/e.yaml", 1)
    ]  # fmt: skip


def test_a_single_target_and_several_are_one_list() -> None:
    found = documents(
        gather({"/c/all.yaml": location(["./b.yaml"], target="./a.yaml"), "/c/a.yaml": "1", "/c/b.yaml": "2"})
    )
    assert [item.data for item in found[1:]] == [1, 2]


def test_patterns_stand_for_several_files() -> None:
    files = {
        "/c/all.yaml": location(["./*/catalog.yaml"]),
        "/c/b/catalog.yaml": "b: 1",
        "/c/a/catalog.yaml": "a: 1",
    }
    assert [item.data for item in documents(gather(files))[1:]] == [{"a": 1}, {"b": 1}]


def test_a_pattern_without_a_match_is_told_unless_it_is_optional() -> None:
    _location, missing = gather({"/c/all.yaml": location(["./*/none.yaml"])})
    assert isinstance(missing, Unreadable)
    assert missing.declared_by is not None
    assert missing.declared_by.location.target == "/c/all.yaml"
    assert len(gather({"/c/all.yaml": location(["./*/none.yaml"], presence="optional")})) == 1


def test_what_cannot_be_read_is_told_with_where_it_is_asked_for() -> None:
    found = gather({
        "/c/all.yaml": location(["./good.yaml", "./gone.yaml", "./*/none.yaml"], target="./folder/"),
        "/c/good.yaml": location(["./gone.yaml", "./lost.yaml"]),
    })  # fmt: skip
    assert [
        (item.location.target, item.declared_by and item.declared_by.location.target, item.path)
        for item in found
        if isinstance(item, Unreadable)
    ] == [
        ("/c/folder", "/c/all.yaml", "spec.target"),
        ("/c/*/none.yaml", "/c/all.yaml", "spec.targets[2]"),
        ("/c/gone.yaml", "/c/all.yaml", "spec.targets[1]"),
        ("/c/lost.yaml", "/c/good.yaml", "spec.targets[1]"),
    ]


def test_a_missing_target_is_told_unless_it_is_optional() -> None:
    _location, missing = gather({"/c/all.yaml": location(["./none.yaml"])})
    assert isinstance(missing, Unreadable)
    assert isinstance(missing.error, Missing)
    assert len(gather({"/c/all.yaml": location(["./none.yaml"], presence="optional")})) == 1


def test_one_unreadable_file_does_not_stop_the_others() -> None:
    found = gather({
        "/c/all.yaml": location(["./broken.yaml", "./down.yaml", "./good.yaml"]),
        "/c/broken.yaml": "a: [",
        "/c/down.yaml": DomainError("The host is down."),
        "/c/good.yaml": "a: 1",
    })  # fmt: skip
    errors = [str(item.error) for item in found if item.error]
    assert len(errors) == 2
    assert any("/c/broken.yaml, document 1, line" in error for error in errors)
    assert "The host is down." in errors
    assert found[-1].data == {"a": 1}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("start", "spec", "says"),
    [
        ("url:https://a.example/all.yaml", {"type": "file"}, "may point to url"),
        ("file:/c/all.yaml", {"type": "s3"}, "not to s3"),
        ("file:/c/all.yaml", {"targets": ["./folder/"]}, "is a folder"),
    ],
)
def test_targets_that_are_not_read(start: str, spec: dict[str, Any], says: str) -> None:
    targets = spec.pop("targets", ["/etc/hostname"])
    shelf = Shelf({Location.of(start).target: location(targets, **spec), "/etc/hostname": "secret"})
    _location, refused = gather_from(shelf, start)
    assert isinstance(refused, Unreadable)
    assert says in refused.error.message
    assert shelf.reads == [Location.of(start).target]


def test_a_file_may_point_to_addresses() -> None:
    files = {
        "/c/all.yaml": location(["https://a.example/x/catalog.yaml"], type="url"),
        "https://a.example/x/catalog.yaml": location(["./more.yaml", "/top.yaml"]),
        "https://a.example/x/more.yaml": "m: 1",
        "https://a.example/top.yaml": "t: 1",
    }
    assert [item.data for item in documents(gather(files))[2:]] == [{"m": 1}, {"t": 1}]


def test_locations_need_not_be_followed() -> None:
    shelf = Shelf({"/c/all.yaml": location(["./a.yaml"]), "/c/a.yaml": "a: 1"})
    assert len(gather_from(shelf, "file:/c/all.yaml", follow=False)) == 1


@pytest.mark.parametrize("spec", ["5", "{targets: 5}", "{targets: [5, null, '']}", "{}", "null"])
def test_a_location_that_is_not_valid_leads_nowhere(spec: str) -> None:
    text = f"apiVersion: backstage.io/v1alpha1\nkind: Location\nmetadata: {{name: x}}\nspec: {spec}\n"
    assert len(documents(gather({"/c/all.yaml": text}))) == 1


def test_other_documents_are_not_parsed_before_they_are_asked_for() -> None:
    (found,) = documents(gather({"/c/all.yaml": "kind: Component\n"}))
    assert not found.parsed._parsed


API = """\
kind: API
spec:
  definition:
    $text: ./openapi.yaml
  list:
    - $json: https://a.example/x.json
    - {$yaml: ./y.yaml}
  schema:
    $ref: "#/x"
    inner: {$text: ./never.yaml}
  two: {$text: ./never.yaml, other: 1}
  other: {$openapi: ./never.yaml}
"""


def test_placeholders_are_filled_anywhere() -> None:
    shelf = Shelf({
        "/c/all.yaml": API,
        "/c/openapi.yaml": "openapi: 3.0.0\n# as it is\n",
        "https://a.example/x.json": '{"a": [1]}',
        "/c/y.yaml": "b: {$text: ./never.yaml}",
    })  # fmt: skip
    (found,) = documents(gather_from(shelf))
    assert found.error is None
    assert found.data["spec"] == {
        "definition": "openapi: 3.0.0\n# as it is\n",
        "list": [{"a": [1]}, {"b": {"$text": "./never.yaml"}}],
        "schema": {"$ref": "#/x", "inner": {"$text": "./never.yaml"}},
        "two": {"$text": "./never.yaml", "other": 1},
        "other": {"$openapi": "./never.yaml"},
    }


def test_a_target_that_is_used_twice_is_read_once() -> None:
    shelf = Shelf({"/c/all.yaml": "a: {$text: ./x}\nb: {$text: ./x}", "/c/x": "text"})
    (found,) = documents(gather_from(shelf))
    assert found.data == {"a": "text", "b": "text"}
    assert shelf.reads.count("/c/x") == 1


@pytest.mark.parametrize(
    ("text", "content", "says"),
    [
        ("a: {b: {$text: ./x}}", None, "a.b: .*There is no file:/c/x"),
        ("a: [{$json: ./x}]", "{", r"a\[0\]: .*\./x"),
        ("a: {$yaml: ./x}", "b: [", "x, document 1, line"),
        ("a: {$yaml: ./x}", "b: 1\n---\nc: 1", "one document"),
        ("a: {$yaml: ./x}", "# nothing", "empty"),
        ("a: {$text: 5}", "", "needs a path"),
        ("a: {$text: ./x}", "x" * 3_000_000, "at most"),
        ("a: {$json: ./x}", "[" * 100 + "]" * 100, "levels deep"),
        ("a: {$text: ./x}", "x\0y", "NUL"),
    ],
)
def test_a_placeholder_that_cannot_be_filled_is_told_with_its_place(
    text: str, content: str | None, says: str
) -> None:
    files: dict[str, str] = {"/c/all.yaml": text}
    if content is not None:
        files["/c/x"] = content
    (found,) = documents(gather(files))
    assert found.data is None
    assert found.error is not None
    with pytest.raises(DomainError, match=says):
        raise found.error


def test_the_digest_follows_what_placeholders_read() -> None:
    def digest(text: str, content: str) -> bytes:
        return documents(gather({"/c/all.yaml": text, "/c/x": content}))[0].digest

    text = "a: {$text: ./x}"
    assert digest(text, "one") == digest(text, "one")
    assert digest(text, "one") != digest(text, "two")
    assert digest("a: 1", "one") == digest("a: 1", "two")


def test_a_placeholders_document_still_knows_its_places() -> None:
    (found,) = documents(gather({"/c/all.yaml": "# x\na:\n  b: {$text: ./x}\n", "/c/x": "t"}))
    assert found.place_of("a.b") == (3, 3)


@pytest.mark.parametrize(
    ("base", "target", "expected"),
    [
        ("file:/c/a.yaml", "./b.yaml", "file:/c/b.yaml"),
        ("file:/c/a.yaml", "../b.yaml", "file:/b.yaml"),
        ("file:/c/a.yaml", "/x/../b.yaml", "file:/b.yaml"),
        ("file:/c/a.yaml", "https://a.example/b", "url:https://a.example/b"),
        ("url:https://a.example/c/a.yaml?ref=x", "./b.yaml", "url:https://a.example/c/b.yaml"),
        ("url:https://a.example/c/a.yaml", "https://b.example/x", "url:https://b.example/x"),
    ],
)
def test_targets_are_resolved_from_the_file(base: str, target: str, expected: str) -> None:
    assert resolve_target(Location.of(base), target).text == expected


@pytest.mark.parametrize("text", ["", "file", "file:", ":x"])
def test_what_is_no_location(text: str) -> None:
    with pytest.raises(DomainError):
        Location.of(text)


@pytest.mark.parametrize(
    ("text", "is_pattern"),
    [
        ("file:/c/*.yaml", True),
        ("file:/c/a?.yaml", True),
        ("file:/c/{a,b}.yaml", True),
        ("file:/c/a.yaml", False),
        ("url:https://a.example/x/*/c.yaml", True),
        ("url:https://a.example/x?y=*", False),
    ],
)
def test_which_targets_are_patterns(text: str, is_pattern: bool) -> None:
    assert Location.of(text).is_pattern is is_pattern
