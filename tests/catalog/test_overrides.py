"""What people override comes into the catalog file: as a patch that Git applies, or as a piece of YAML."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from access.models import User
from base.safe_yaml import load, parse_documents
from base.yaml_edit import REMOVED, CannotEdit, set_values
from catalog import overrides
from catalog.documents.patches import kept_text, patch_of, path_in_repository
from catalog.services import edit
from catalog.services.merge import COMMON_UNIONS
from catalog.services.voices import claims_of
from tests.catalog.saying import claim, component, entity, say

FILE = """\
# What the payments team runs.
apiVersion: backstage.io/v1alpha1
kind: Component
metadata:
  name: pay   # as in the chart
  tags:
    - java
    - "1.10"

  # people read this
  description: |
    Takes money.

spec: {type: service, lifecycle: production}
---
apiVersion: backstage.io/v1alpha1
kind: Component
metadata: {name: ledger}
spec:
  type: 'service'
  owner: old-team
--- # and one more
apiVersion: backstage.io/v1alpha1
kind: Component
metadata:
    name: no-newline
spec:
    lifecycle: production
    dependsOn:
    -   component:pay
    -   component:ledger
    owner: old-team"""

CHANGES: list[tuple[int, dict[tuple[str, ...], Any]]] = [
    (0, {("spec", "owner"): "group:default/new"}),
    (0, {("metadata", "tags"): ["java", "1.10", "money"]}),
    (0, {("metadata", "description"): "Takes: money"}),
    (0, {("metadata", "title"): "Pay \U0001f419"}),
    (0, {("metadata", "tags"): REMOVED}),
    (0, {("metadata", "labels", "tier"): "1.10", ("spec", "lifecycle"): "no"}),
    (1, {("spec", "owner"): "new"}),
    (1, {("spec", "owner"): REMOVED}),
    (1, {("spec", "type"): "it's", ("spec", "owner"): "new", ("metadata", "title"): "Ledger"}),
    (2, {("spec", "owner"): "new"}),
    (2, {("spec", "dependsOn"): ["component:pay"]}),
    (2, {("spec", "dependsOn"): []}),
    (2, {("metadata", "name"): "other", ("spec", "dependsOn"): REMOVED}),
]


@pytest.mark.parametrize(("number", "values"), CHANGES)
def test_git_applies_the_patch_and_nothing_else_changes(
    tmp_path: Path, number: int, values: dict[tuple[str, ...], Any]
) -> None:
    before = parse_documents(FILE, name="a")
    one = before[number]
    patch = patch_of(one.text, values, file="deep/catalog-info.yaml", line=one.line)
    file = tmp_path / "deep" / "catalog-info.yaml"
    file.parent.mkdir()
    file.write_text(FILE)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "apply", "--verbose", "-"], input=patch.encode(), cwd=tmp_path, check=True)
    after = parse_documents(file.read_text(), name="a")
    assert [d.data for n, d in enumerate(after) if n != number] == [
        d.data for n, d in enumerate(before) if n != number
    ]
    data: Any = after[number].data
    for path, value in values.items():
        inner = data
        for name in path[:-1]:
            inner = inner[name]
        assert inner.get(path[-1], REMOVED) == value
    for remark in ("# What the payments team runs.", "# people read this", "# as in the chart"):
        assert remark in file.read_text()


@pytest.mark.parametrize(
    "text",
    [
        "{a: 1, b: 2}\n",  # a value of a flow mapping cannot be taken away
        "a: &x 1\nb: *x\n",
        "? a\n: 1\n",
        "a:\n",
        "- a\n",
        "a: 1\n---\na: 2\n",
    ],
)
def test_what_cannot_be_changed_alone_is_left(text: str) -> None:
    before = text
    for path, value in ((("a",), REMOVED), (("b", "c"), 1)):
        try:
            edited = set_values(text, {path: value})
        except CannotEdit:
            continue
        wanted = load(before, name="a")
        if value is REMOVED:
            wanted.pop("a", None)
        else:
            wanted.setdefault("b", {})["c"] = 1
        assert load(edited, name="a") == wanted


@pytest.mark.parametrize(
    ("file", "path"),
    [
        ("services/a/catalog-info.yaml", "services/a/catalog-info.yaml"),
        ("https://git.acme.example/acme/pay/src/branch/main/deep/info.yaml", "deep/info.yaml"),
        ("https://gitlab.example/acme/sub/pay/-/blob/main/info.yaml", "info.yaml"),
        ("https://ghe.example/acme/pay/blob/main/a/b.yaml?raw=1", "a/b.yaml"),
        ("https://files.example/some/where/info.yaml", "info.yaml"),
        ("/srv/catalog/info.yaml", "info.yaml"),
    ],
)
def test_a_patch_names_the_path_in_the_repository(file: str, path: str) -> None:
    assert path_in_repository(file) == path


def test_long_documents_are_not_kept_word_by_word() -> None:
    assert kept_text("a: 1") == "a: 1"
    assert kept_text("a" * 70_000) == ""


@pytest.mark.django_db
@pytest.mark.usefixtures("core_pack")
class TestOverrides:
    def found(self) -> tuple[list[overrides.Override], overrides.Patch | None]:
        claims = claims_of(entity("component:default/ledger"))
        said = overrides.overrides_of(claims, unions=COMMON_UNIONS)
        return said, overrides.patch_for(said, claims)

    def declare(self, owner: str, **more: Any) -> None:
        text = f"kind: Component\nspec:\n  owner: {owner}\n"
        place = {"file": "catalog-info.yaml", "line": 5, "text": text}
        say(
            "yaml:a",
            claim(
                "component:ledger",
                {"type": "service", "lifecycle": "production", "owner": owner},
                place=place,
                **more,
            ),
        )

    def test_the_patch_is_of_the_lines_of_the_file(self, ana: User) -> None:
        self.declare("old")
        edit.override_field(
            user=ana, entity=entity("component:default/ledger"), path="spec.owner", value="new"
        )
        (one,), patch = self.found()
        assert (one.name, one.value, one.agrees) == ("spec.owner", "new", False)
        assert patch is not None
        assert patch.is_diff
        assert patch.text == (
            "--- a/catalog-info.yaml\n+++ b/catalog-info.yaml\n@@ -5,3 +5,3 @@\n"
            " kind: Component\n spec:\n-  owner: old\n+  owner: new\n"
        )

    def test_once_the_file_agrees_there_is_no_patch(self, ana: User) -> None:
        self.declare("old")
        edit.override_field(
            user=ana, entity=entity("component:default/ledger"), path="spec.owner", value="new"
        )
        self.declare("new")
        (one,), patch = self.found()
        assert one.agrees
        assert patch is None

    def test_what_is_added_to_a_list_is_added_in_the_file(self, ana: User) -> None:
        self.declare("old", metadata={"tags": ["java", "money"]})
        edit.override_field(
            user=ana, entity=entity("component:default/ledger"), path="metadata.tags", value=["money", "new"]
        )
        (one,), _patch = self.found()
        assert one.wanted == ["java", "money", "new"]
        assert not one.agrees
        edit.override_field(
            user=ana, entity=entity("component:default/ledger"), path="metadata.tags", value=["java"]
        )
        assert self.found()[0][0].agrees

    def test_without_the_files_words_it_is_a_piece_of_yaml(self, ana: User) -> None:
        say("yaml:a", component("ledger"))
        edit.override_field(
            user=ana, entity=entity("component:default/ledger"), path="spec.owner", value="new"
        )
        _said, patch = self.found()
        assert patch is not None
        assert (patch.text, patch.is_diff) == ("spec:\n  owner: new\n", False)
