"""Packs from the shell, and what a pack's new version of a kind does to what is stored."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from access.models import AuditEvent, Undoable, User
from access.services.undo import CannotUndo, undo_change
from catalog.models import Kind, KindChange
from catalog.services.kind_changes import check, due
from catalog.services.render import render_dirty
from portal.models import Page, SavedView
from portal.packs import Action, apply_pack, edit_definition
from tests.catalog.saying import claim, document, say
from tests.catalog_data import forget_definitions

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]

ONE: dict[str, Any] = {
    "apiVersions": ["acme.example/v1"],
    "kind": "Gadget",
    "plural": "Gadgets",
    "schema": {"type": "object", "properties": {"level": {"type": "integer"}}},
}
STRICT: dict[str, Any] = {
    **ONE,
    "version": 2,
    "schema": {"type": "object", "required": ["tier"], "properties": {"tier": {"enum": ["gold"]}}},
    "upgrades": [
        {
            "to": 2,
            "when": "has(document.spec.level) && document.spec.level > 2",
            "fields": {"spec.tier": "'gold'", "spec.level": None},
        }
    ],
}


@pytest.fixture(autouse=True)
def _afresh() -> Any:
    yield
    forget_definitions()


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write the pack `acme` anew: specs by kind and name of the definition."""

    def written(**specs: Any) -> Path:
        folder = tmp_path / "acme"
        folder.mkdir(exist_ok=True)
        for file in folder.iterdir():
            file.unlink()
        for name, spec in specs.items():
            kind, _, called = name.partition("_")
            made = {
                "apiVersion": "portico/v1",
                "kind": kind,
                "metadata": {"name": called},
                "spec": spec,
            }
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(made))
        return folder

    return written


def pack(*arguments: Any, code: int = 0) -> str:
    said = io.StringIO()
    if code:
        with pytest.raises(CommandError) as failed:
            call_command("pack", *map(str, arguments), stdout=said)
        return str(failed.value)
    call_command("pack", *map(str, arguments), stdout=said)
    forget_definitions()
    return said.getvalue()


def work() -> None:
    """What workers do, until nothing is left."""
    for change_id in due(now=timezone.now()):
        check(change_id=change_id, now=timezone.now())
    forget_definitions()
    render_dirty(at=timezone.now())


def gadget(name: str, **spec: Any) -> Any:
    made = claim(f"gadget:{name}", spec)
    made.document["apiVersion"] = "acme.example/v1"
    return made


# --- commands ---------------------------------------------------------------------------------------------


def test_what_is_begun_is_valid_is_told_applied_and_told_no_more(tmp_path: Path) -> None:
    folder = tmp_path / "my-pack"
    pack("new", folder)
    assert "2 definitions. Nothing is wrong" in pack("validate", folder)
    told = pack("diff", folder)
    assert "+ KindDefinition mypackthing: create" in told
    assert "+ View my-pack-gold: create" in told
    assert not Kind.objects.filter(name="mypackthing").exists()
    pack("apply", folder)
    assert Kind.objects.get(name="mypackthing").pack == "my-pack"
    assert SavedView.objects.get(name="my-pack-gold").audience == "all"
    assert AuditEvent.objects.get(verb="pack.apply", subject_uid="my-pack").actor_label == "pack"
    assert pack("diff", folder) == "2 definitions. 2 leave.\n"
    assert "is there already" in pack("new", folder, code=1)


def test_the_difference_is_told_field_by_field_and_edits_are_kept_if_asked(write: Any) -> None:
    view = {"title": "Gadgets", "query": "kind:component"}
    folder = write(View_gadgets=view)
    pack("apply", folder)
    edit_definition(kind="View", name="gadgets", spec={**view, "title": "Ours"}, by="ana")
    folder = write(View_gadgets={**view, "query": "kind:api"})
    told = pack("diff", folder)
    assert "~ View gadgets: change (edited here)" in told
    assert 'spec.query: "kind:component" > "kind:api"' in told
    assert 'spec.title: "Ours" > "Gadgets"' in told
    assert "= View gadgets: keep" in pack("apply", folder, "--keep-edits")
    assert SavedView.objects.get(name="gadgets").spec["title"] == "Ours"
    pack("apply", folder)
    assert SavedView.objects.get(name="gadgets").spec == {**view, "query": "kind:api"}


def test_what_is_wrong_is_told_with_its_place_and_nothing_is_applied(write: Any) -> None:
    folder = write(View_good={"title": "Good"}, View_bad={"title": "Bad", "query": "kind:("})
    for way in ("validate", "diff", "apply"):
        said = pack(way, folder, code=1)
        assert "View_bad.yaml, document 1/spec/query" in said
    assert not SavedView.objects.exists()
    assert "is no folder" in pack("apply", folder / "gone", code=1)


def test_what_a_pack_holds_no_more_stays_until_it_is_pruned(write: Any) -> None:
    pack("apply", write(View_one={"title": "One"}, View_two={"title": "Two"}))
    folder = write(View_one={"title": "One"})
    assert "--prune deletes it: two" in pack("diff", folder)
    pack("apply", folder)
    assert SavedView.objects.count() == 2
    assert "- View two: delete" in pack("diff", folder, "--prune")
    pack("apply", folder, "--prune")
    assert [row.name for row in SavedView.objects.all()] == ["one"]


def test_nor_is_pruned_what_people_edited_if_that_is_kept(write: Any) -> None:
    pack("apply", write(View_one={"title": "One"}, View_two={"title": "Two"}))
    edit_definition(kind="View", name="two", spec={"title": "Ours"}, by="ana")
    folder = write(View_one={"title": "One"})
    assert "= View two: keep (edited here)" in pack("diff", folder, "--prune", "--keep-edits")
    pack("apply", folder, "--prune", "--keep-edits")
    assert SavedView.objects.get(name="two").spec["title"] == "Ours"
    assert "- View two: delete (edited here)" in pack("apply", folder, "--prune")
    assert not SavedView.objects.filter(name="two").exists()


def test_an_applied_pack_is_taken_back_as_one(write: Any, ana: User, client: Client) -> None:
    pack("apply", write(KindDefinition_gadget=ONE, View_gone={"title": "Gone"}, View_same={"title": "Same"}))
    edit_definition(kind="View", name="same", spec={"title": "Edited"}, by="ana")
    folder = write(
        KindDefinition_gadget={**ONE, "title": "Gizmo"},
        View_same={"title": "Same"},
        View_new={"title": "New"},
    )
    pack("apply", folder, "--prune")
    undoable = Undoable.objects.latest("event_id")
    client.force_login(ana)
    shown = client.get(f"/settings/changes/{undoable.pk}").content.decode()
    assert "Applied the pack acme" in shown
    assert "1 definition is deleted." in shown
    assert "3 definitions are as they were before." in shown
    undo_change(change=undoable, user=ana)
    forget_definitions()
    views = {row.name: row.spec["title"] for row in SavedView.objects.all()}
    assert views == {"gone": "Gone", "same": "Edited"}
    assert SavedView.objects.get(name="same").is_edited
    row = Kind.objects.get(name="gadget")
    assert (row.spec, row.pristine, row.pack) == (ONE, ONE, "acme")
    # What was changed since is not taken back over.
    pack("apply", folder)
    edit_definition(kind="View", name="new", spec={"title": "Ours"}, by="ana")
    with pytest.raises(CannotUndo, match="View new was changed since"):
        undo_change(change=Undoable.objects.latest("event_id"), user=ana)


def test_what_was_composed_here_is_written_out_and_comes_back_the_same(tmp_path: Path, write: Any) -> None:
    assert "Nothing was composed" in pack("export", tmp_path / "none", code=1)
    pack("apply", write(KindDefinition_gadget=ONE, View_all={"title": "All"}))
    edit_definition(kind="View", name="mine", spec={"title": "Ünser", "query": "kind:gadget"}, by="ana")
    home = Page.objects.filter(pack="core", spec__slot="home").get()
    edited = {**home.spec, "title": "Acme"}
    edit_definition(kind="Page", name=home.name, spec=edited, by="ana")
    out = tmp_path / "out"
    assert "2 definitions. Written." in pack("export", out)
    assert {str(file.relative_to(out)) for file in out.rglob("*.yaml")} == {
        f"pages/{home.name}.yaml",
        "views/mine.yaml",
    }
    assert "2 definitions. 2 leave." in pack("diff", out)
    assert "new or an empty folder" in pack("export", out, code=1)
    pack("export", tmp_path / "acme-2", "--pack", "acme")
    assert "2 definitions. 2 leave." in pack("diff", tmp_path / "acme-2")
    pack("export", tmp_path / "whole", "--all")
    assert "change" not in pack("diff", tmp_path / "whole")
    assert "no definition of the pack" in pack("export", tmp_path / "x", "--pack", "gone", code=1)


# --- a new version of a kind ------------------------------------------------------------------------------


def test_a_new_version_that_breaks_nothing_goes_on_by_itself(write: Any, ana: User) -> None:
    apply_pack(write(KindDefinition_gadget=ONE), by="Start", keep_edits=True)
    forget_definitions()
    say("yaml:a", gadget("a", level=3), gadget("b", level=4))
    folder = write(KindDefinition_gadget=STRICT)
    (step,) = apply_pack(folder, by="Start", keep_edits=True)
    assert step.action == Action.CHECK
    forget_definitions()
    assert Kind.objects.get(name="gadget").spec == ONE
    assert document("gadget:default/a")["spec"] == {"level": 3}
    work()
    row = Kind.objects.get(name="gadget")
    assert (row.spec, row.pristine, row.is_edited) == (STRICT, STRICT, False)
    assert document("gadget:default/a")["spec"] == {"tier": "gold"}
    change = KindChange.objects.get()
    assert (change.pack, change.breaks, change.made_by) == ("acme", 0, "Start")
    assert [step.action for step in apply_pack(folder, by="Start", keep_edits=True)] == ["leave"]
    # It can be undone, and the next start lets it be so.
    undo_change(change=Undoable.objects.get(event__verb="kind.upgrade"), user=ana)
    forget_definitions()
    assert [step.action for step in apply_pack(folder, by="Start", keep_edits=True)] == ["keep"]
    work()
    assert document("gadget:default/a")["spec"] == {"level": 3}


def test_a_new_version_that_breaks_something_waits_and_says_what(
    write: Any, ana: User, client: Client
) -> None:
    apply_pack(write(KindDefinition_gadget=ONE), by="Start")
    forget_definitions()
    say("yaml:a", gadget("a", level=3), gadget("b", level=1))
    folder = write(KindDefinition_gadget=STRICT)
    apply_pack(folder, by="Start", keep_edits=True)
    work()
    change = KindChange.objects.get()
    assert (change.state, change.breaks) == ("checked", 1)
    assert change.report[0]["refs"] == ["gadget:default/b"]
    assert Kind.objects.get(name="gadget").spec == ONE
    client.force_login(ana)
    page = client.get("/settings/kinds").content.decode()
    assert "of the pack acme: 1 entity would break" in page
    assert f"/settings/kind-changes/{change.pk}" in page
    # The next start looks again, and makes no second one of it.
    apply_pack(folder, by="Start", keep_edits=True)
    work()
    assert KindChange.objects.get().state == "checked"
    # Once it is mended, a check applies it.
    say("yaml:a", gadget("b", level=5), minute=1)
    client.post(f"/settings/kind-changes/{change.pk}", {"action": "check"})
    work()
    assert KindChange.objects.get().state == "applying"
    assert document("gadget:default/b")["spec"] == {"tier": "gold"}


def test_what_somebody_let_be_rests_until_it_is_brought_by_hand(write: Any, ana: User) -> None:
    apply_pack(write(KindDefinition_gadget=ONE), by="Start")
    forget_definitions()
    say("yaml:a", gadget("b", level=1))
    folder = write(KindDefinition_gadget=STRICT)
    apply_pack(folder, by="Start", keep_edits=True)
    KindChange.objects.update(state="cancelled")
    apply_pack(folder, by="Start", keep_edits=True)
    assert [change.state for change in KindChange.objects.all()] == ["cancelled"]
    assert "? KindDefinition gadget: check" in pack("apply", folder)
    assert KindChange.objects.filter(state="checking").count() == 1
    # What a newer pack brings takes the place of what waits.
    apply_pack(write(KindDefinition_gadget={**STRICT, "version": 3}), by="Start", keep_edits=True)
    assert sorted(KindChange.objects.values_list("state", "spec__version")) == [
        ("cancelled", 2),
        ("cancelled", 2),
        ("checking", 3),
    ]


def test_looks_and_kinds_without_entities_do_not_wait(write: Any) -> None:
    apply_pack(write(KindDefinition_gadget=ONE), by="Start")
    forget_definitions()
    assert [step.action for step in apply_pack(write(KindDefinition_gadget=STRICT), by="Start")] == ["change"]
    forget_definitions()
    say("yaml:a", gadget("a", level=3))
    looks = {**STRICT, "title": "Gizmo", "icon": "bolt"}
    assert [step.action for step in apply_pack(write(KindDefinition_gadget=looks), by="Start")] == ["change"]
    assert not KindChange.objects.exists()
