"""New versions of kinds: how old documents become new, what is checked before, and how it is taken back."""

from __future__ import annotations

import copy
import time
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from access.models import AuditEvent, Undoable, User
from access.services.undo import CannotUndo, preview_undo, undo_change
from base.errors import Conflict, Forbidden, InvalidInput
from catalog.documents.envelope import DocumentInvalid, validate_document
from catalog.documents.kinds import KindDef
from catalog.kinds import current_kinds
from catalog.models import Claim, Entity, Kind, KindChange, Problem, Rank
from catalog.queries import provenance_of
from catalog.services import kind_changes
from catalog.services.edit import upsert_documents
from catalog.services.render import render_dirty
from catalog.services.voices import claims_of
from catalog.tasks import check_kind_changes
from tests.catalog.saying import START, claim, document, entity, history, say, source
from tests.catalog_data import forget_definitions

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]

ONE: dict[str, Any] = {
    "apiVersions": ["acme.example/v1"],
    "kind": "Gadget",
    "plural": "Gadgets",
    "schema": {
        "type": "object",
        "required": ["level"],
        "properties": {"level": {"type": "integer"}, "note": {"type": "string"}},
    },
}
TWO: dict[str, Any] = {
    **ONE,
    "apiVersions": ["acme.example/v2", "acme.example/v1"],
    "schema": {
        "type": "object",
        "required": ["tier"],
        "properties": {"tier": {"enum": ["gold", "silver"]}, "note": {"type": "string"}},
    },
    "version": 2,
    "upgrades": [
        {
            "to": 2,
            "from": ["acme.example/v1"],
            "apiVersion": "acme.example/v2",
            "fields": {"spec.tier": "document.spec.level > 2 ? 'gold' : 'silver'", "spec.level": None},
        }
    ],
}


@pytest.fixture(autouse=True)
def gadgets() -> Any:
    Kind.objects.create(name="gadget", spec=copy.deepcopy(ONE))
    forget_definitions()
    yield
    forget_definitions()


def gadget(name: str, *, version: str = "acme.example/v1", **spec: Any) -> Any:
    made = claim(f"gadget:{name}", spec)
    made.document["apiVersion"] = version
    return made


def checked(user: User, spec: dict[str, Any]) -> KindChange:
    change = kind_changes.propose(user=user, name="gadget", spec=copy.deepcopy(spec))
    assert change.pk in kind_changes.due(now=timezone.now())
    kind_changes.check(change_id=change.pk, now=timezone.now())
    change.refresh_from_db()
    return change


def apply(user: User, change: KindChange, **options: Any) -> None:
    kind_changes.apply_change(user=user, change=change, **options)
    forget_definitions()


def spec_of(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = document(f"gadget:default/{name}")["spec"]
    return spec


def test_an_upgrade_leaves_what_it_is_not_for_and_what_it_cannot_work_out() -> None:
    kind = KindDef.of("gadget", TWO)
    old = {"apiVersion": "acme.example/v1", "spec": {"level": 3, "note": "x"}}
    errors: list[Any] = []
    assert kind.upgraded(old, errors=errors) == {
        "apiVersion": "acme.example/v2",
        "spec": {"note": "x", "tier": "gold"},
    }
    assert old["spec"] == {"level": 3, "note": "x"}
    new = {"apiVersion": "acme.example/v2", "spec": {"tier": "silver"}}
    assert kind.upgraded(new, errors=errors) is new
    assert errors == []
    kind.upgraded({"apiVersion": "acme.example/v1", "spec": {}}, errors=errors)
    assert [(error.path, "level" in error.message) for error in errors] == [("spec.tier", True)]


def test_upgrades_follow_one_another_and_may_ask_what_a_document_says() -> None:
    steps = [
        {"to": 3, "when": "has(document.spec.tier)", "fields": {"spec.rank": "document.spec.tier + '!'"}},
        {"to": 2, "when": "has(document.spec.level)", "fields": {"spec.tier": "string(document.spec.level)"}},
    ]
    kind = KindDef.of("gadget", {**ONE, "version": 3, "upgrades": steps})
    assert kind.upgraded({"spec": {"level": 1}})["spec"] == {"level": 1, "tier": "1", "rank": "1!"}


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"upgrades": [{"to": 2, "fields": {"spec.a": "1"}}]}, "spec.upgrades[0]"),
        ({"upgrades": [{"to": 3, "when": "true", "fields": {"spec.a": "1"}}]}, "spec.upgrades[0].to"),
        ({"upgrades": [{"to": 2, "when": "true &&", "fields": {"spec.a": "1"}}]}, "spec.upgrades[0].when"),
        (
            {"upgrades": [{"to": 2, "when": "true", "fields": {"spec.a": "x +"}}]},
            "spec.upgrades[0].fields.spec.a",
        ),
        ({"upgrades": [{"to": 2, "when": "true", "fields": {}}]}, "spec.upgrades[0].fields"),
        ({"version": 0}, "spec.version"),
    ],
)
def test_a_wrong_upgrade_is_refused_with_its_place(change: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        KindDef.of("gadget", {**TWO, **change})
    assert path in [error.path for error in refused.value.errors]


def test_what_would_break_is_known_before_and_nothing_is_changed_by_the_check(ana: User) -> None:
    say("yaml:a", gadget("a", level=1), gadget("b", level=5), gadget("c"), gadget("d", level=1, note=7))
    strict = {**TWO, "schema": {**TWO["schema"], "properties": {"tier": {"enum": ["gold"]}}}}
    change = checked(ana, strict)
    assert (change.state, change.total, change.done, change.breaks) == ("checked", 4, 4, 3)
    # Of two silver is no more; one has no level to work it out from, and so has none.
    assert [(row["path"], row["count"], row["refs"]) for row in change.report] == [
        ("spec.tier", 2, ["gadget:default/a", "gadget:default/d"]),
        ("spec.tier", 1, ["gadget:default/c"]),
        ("spec.tier", 1, ["gadget:default/c"]),
    ]
    assert spec_of("a") == {"level": 1}
    assert current_kinds().by_name("gadget").definition.version == 1
    with pytest.raises(Conflict, match="break 3"):
        kind_changes.apply_change(user=ana, change=change)


def test_the_old_version_serves_until_each_entity_is_brought_to_the_new_one(ana: User) -> None:
    say("yaml:a", *(gadget(f"g{n}", level=n) for n in range(6)))
    change = checked(ana, TWO)
    assert change.breaks == 0
    apply(ana, change)
    assert spec_of("g5") == {"level": 5}
    change.refresh_from_db()
    assert (change.state, kind_changes.progress_of(change).done) == ("applying", 0)
    render_dirty(at=timezone.now())
    change = kind_changes.progress_of(KindChange.objects.get())
    assert (change.state, change.done, change.total) == ("applied", 6, 6)
    assert [spec_of(f"g{n}")["tier"] for n in range(6)] == ["silver"] * 3 + ["gold"] * 3
    assert document("gadget:default/g5")["apiVersion"] == "acme.example/v2"
    assert history("gadget:default/g5")[-1].diff == [
        {"path": "apiVersion", "old": "acme.example/v1", "new": "acme.example/v2"},
        {"path": "spec.level", "old": 5},
        {"path": "spec.tier", "new": "gold"},
    ]
    assert not Problem.objects.filter(type="incomplete", resolved_at=None).exists()
    # What the source said stays, so the same file again changes nothing.
    assert Claim.objects.get(external_id="gadget:g5").document["spec"] == {"level": 5}
    assert say("yaml:a", gadget("g5", level=5), minute=9).written == set()
    found = provenance_of(claims_of(entity("gadget:default/g5")))
    assert found["spec.tier"].claim.source.key == "yaml:a"


def test_old_and_new_documents_come_in_side_by_side(ana: User) -> None:
    apply(ana, checked(ana, TWO))
    kinds = current_kinds().set
    old = gadget("a", level=9).document | {"kind": "Gadget"}
    assert validate_document(old, kinds).data["spec"] == {"level": 9}
    with pytest.raises(DocumentInvalid, match="level"):
        validate_document({**old, "spec": {}}, kinds)
    with pytest.raises(DocumentInvalid, match="tier"):
        validate_document({**old, "apiVersion": "acme.example/v2"}, kinds)
    new = {**old, "apiVersion": "acme.example/v2", "spec": {"tier": "silver"}}
    upserted = upsert_documents(user=ana, documents=[old, {**new, "metadata": {"name": "b"}}])
    assert [one.outcome for one in upserted] == ["new", "new"]
    assert (spec_of("a"), spec_of("b")) == ({"tier": "gold"}, {"tier": "silver"})


def test_a_persons_word_on_an_old_field_is_brought_along(ana: User) -> None:
    say("yaml:a", gadget("a", level=1))
    say("person:1", claim("gadget:a", {"level": 7}, id="w", rank=Rank.PERSON))
    Claim.objects.filter(source=source("person:1")).update(
        document={"apiVersion": "acme.example/v1", "spec": {"level": 7}}
    )
    apply(ana, checked(ana, TWO))
    render_dirty(at=timezone.now())
    assert spec_of("a") == {"tier": "gold"}


def test_undo_brings_every_entity_back_to_what_it_was(ana: User) -> None:
    say("yaml:a", gadget("a", level=1), gadget("b", level=5))
    before = [document(f"gadget:default/{name}") for name in "ab"]
    apply(ana, checked(ana, TWO))
    render_dirty(at=timezone.now())
    undoable = Undoable.objects.get(event__verb="kind.upgrade")
    assert "version 1" in preview_undo(change=undoable, user=ana).steps[0]
    undo_change(change=undoable, user=ana)
    forget_definitions()
    render_dirty(at=timezone.now())
    after = [document(f"gadget:default/{name}") for name in "ab"]
    for one in (*before, *after):
        del one["metadata"]["etag"]
    assert after == before
    assert KindChange.objects.get().state == "undone"
    assert Kind.objects.get(name="gadget").spec == ONE
    with pytest.raises(CannotUndo):
        undo_change(change=undoable, user=ana)


def test_what_was_changed_since_is_neither_applied_over_nor_undone(ana: User) -> None:
    change = checked(ana, TWO)
    Kind.objects.filter(name="gadget").update(spec={**ONE, "description": "Ours"})
    with pytest.raises(Conflict, match="changed since"):
        kind_changes.apply_change(user=ana, change=change)
    Kind.objects.filter(name="gadget").update(spec=ONE)
    apply(ana, change)
    Kind.objects.filter(name="gadget").update(spec={**TWO, "description": "Ours"})
    refused = preview_undo(change=Undoable.objects.get(event__verb="kind.upgrade"), user=ana).refused
    assert "changed since" in refused


def test_who_may_what(ana: User, ben: User) -> None:
    with pytest.raises(Forbidden):
        kind_changes.propose(user=ben, name="gadget", spec=TWO)
    change = checked(ana, TWO)
    with pytest.raises(Forbidden):
        kind_changes.apply_change(user=ben, change=change)
    kind_changes.cancel(user=ana, change=change)
    with pytest.raises(Conflict):
        kind_changes.apply_change(user=ana, change=change)
    with pytest.raises(InvalidInput, match="keeps its name"):
        kind_changes.propose(user=ana, name="gadget", spec={**TWO, "kind": "Widget"})
    apply(ana, checked(ana, TWO))
    with pytest.raises(InvalidInput, match="go back"):
        kind_changes.propose(user=ana, name="gadget", spec=ONE)
    assert AuditEvent.objects.filter(verb="kind.upgrade").count() == 1


def test_a_check_that_was_lost_is_taken_up_again(ana: User) -> None:
    now = timezone.now()
    change = kind_changes.propose(user=ana, name="gadget", spec=TWO)
    KindChange.objects.update(held_until=now + timedelta(seconds=30))
    assert list(kind_changes.due(now=now)) == []
    kind_changes.check(change_id=change.pk, now=now)
    assert KindChange.objects.get().state == "checking"
    later = now + timedelta(minutes=1)
    assert list(kind_changes.due(now=later)) == [change.pk]
    kind_changes.check(change_id=change.pk, now=later)
    assert KindChange.objects.get().state == "checked"


def test_what_cannot_be_checked_has_failed_and_keeps_nothing_else_from_it(
    ana: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = kind_changes.propose(user=ana, name="gadget", spec=TWO)
    Kind.objects.update_or_create(name="gadget", defaults={"spec": {**ONE, "title": "Thing"}})
    forget_definitions()
    broken, good = (kind_changes.propose(user=ana, name="gadget", spec=TWO) for _n in range(2))
    say("yaml:a", gadget("g", level=1))
    found = kind_changes._broken

    def fails(*args: Any) -> Any:
        monkeypatch.setattr(kind_changes, "_broken", found)
        raise RuntimeError

    monkeypatch.setattr(kind_changes, "_broken", fails)
    check_kind_changes()
    states = dict(KindChange.objects.values_list("pk", "state"))
    assert states == {gone.pk: "failed", broken.pk: "failed", good.pk: "checked"}
    assert "Propose it again" in KindChange.objects.get(pk=gone.pk).error
    assert KindChange.objects.get(pk=broken.pk).error.startswith("An internal error")


@pytest.mark.full
def test_ten_thousand_entities_follow_while_all_of_them_are_served(ana: User) -> None:
    many = 10_000
    for start in range(0, many, 1_000):
        say("yaml:a", *(gadget(f"g{n}", level=n % 5) for n in range(start, start + 1_000)), render=False)
    render_dirty(at=START)
    began = time.perf_counter()
    change = checked(ana, TWO)
    assert (change.total, change.breaks) == (many, 0)
    assert time.perf_counter() - began < 60
    apply(ana, change)
    served = Entity.objects.filter(kind="gadget", deleted_at=None)
    seen = []
    while (now := kind_changes.progress_of(KindChange.objects.get())).state == "applying":
        seen.append(now.done)
        assert served.count() == many
        assert spec_of("g9997") in ({"level": 2}, {"tier": "silver"})
        # Meanwhile a document comes in as it was written before.
        say("yaml:a", gadget(f"g{len(seen)}", level=4, note=str(len(seen))), minute=len(seen), render=False)
        render_dirty(at=timezone.now(), limit=2_000)
    assert seen[0] == 0
    assert seen == sorted(seen)
    assert len(seen) >= 5
    assert [spec_of(f"g{n}")["tier"] for n in (9_998, 9_999)] == ["gold", "gold"]
    undo_change(change=Undoable.objects.get(event__verb="kind.upgrade"), user=ana)
    forget_definitions()
    render_dirty(at=timezone.now())
    assert spec_of("g9999") == {"level": 4}
