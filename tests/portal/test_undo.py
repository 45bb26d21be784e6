"""Every sort of change that can be undone, undone after a later sync: what is there then is what would be there had it
never been done.

So each is tried in two worlds that part just before it. In the one nobody does it; in the other it is done, everything
is synced with other contents, people go on, it is undone, and everything is synced again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from celery import Task
from django.db import connection, transaction
from django.utils import timezone

from access import permissions
from access.actors import acting_as, actor_of
from access.definitions import document_types, forget_stamps
from access.models import Undoable, User
from access.services import tie_account, undo
from base.errors import Conflict
from catalog.models import (
    Activity,
    Alias,
    Claim,
    Entity,
    Kind,
    KindChange,
    Problem,
    Redirect,
    Served,
    SourceType,
    Tie,
)
from catalog.services import kind_changes
from catalog.services.bulk_edit import set_owners
from catalog.services.bulk_fields import change_fields, check_change
from catalog.services.creating import redeclare
from catalog.services.edit import (
    change_overrides,
    decide_tie,
    drop_override,
    override_field,
    upsert_documents,
    withdraw,
)
from catalog.services.joining import merge_into, part
from catalog.services.naming import create_owner, map_name, unmap_name
from catalog.services.render import render_dirty, splice
from catalog.services.restoring import restore_revision
from integrations import sync, tasks
from integrations.models import CatalogLocation, Connection, RunState, SyncRun
from integrations.records import Document, Pipeline
from integrations.services import locations, moving, runs
from integrations.services.connections import create_connection
from portal import sample
from portal.packs import apply_pack, edit_definition
from portal.sample import history
from tests.catalog.saying import claim, say
from tests.catalog_data import forget_definitions
from tests.integrations.tool import Controlled, Tool, event, thing

pytestmark = pytest.mark.django_db

NAME, CREW, SQUAD = "group:default/lost-team", "group:default/crew", "group:default/squad"
OWNER, TITLE = "spec.owner", "metadata.title"
GADGET: dict[str, Any] = {
    "apiVersions": ["acme.example/v1"],
    "kind": "Gadget",
    "plural": "Gadgets",
    "schema": {"type": "object", "required": ["level"], "properties": {"level": {"type": "integer"}}},
}
NEW_GADGET: dict[str, Any] = {
    **GADGET,
    "schema": {"type": "object", "required": ["tier"], "properties": {"tier": {"enum": ["gold", "silver"]}}},
    "version": 2,
    "upgrades": [
        {
            "to": 2,
            "when": "has(document.spec.level)",
            "fields": {"spec.tier": "document.spec.level > 2 ? 'gold' : 'silver'", "spec.level": None},
        }
    ],
}


# --- the world --------------------------------------------------------------------------------------------


@dataclass
class World:
    """A tool, catalog files and another source, that say something else at each sync; and two people."""

    tool: Tool
    folder: Path
    ana: User
    ben: User
    commit: Any
    kept: dict[str, Any] = field(default_factory=dict)

    def do(self, *steps: Callable[[World], object]) -> None:
        """Some steps, each by somebody, with all that is to follow once it is committed."""
        for step in steps:
            with self.commit(execute=True), acting_as(actor_of(self.ana)):
                step(self)
            self.work()

    def undo(self, verb: str, *, by: User | None = None) -> Undoable:
        """Undo the latest change of a sort."""
        change = latest(verb)
        undo.undo_change(change=change, user=by or self.ana)
        return change

    def sync(self, number: int) -> None:
        """All say of all that they tell of something else than before, and of one thing more."""
        self.tool.things = [
            *(thing(n, title=f"r{n} at {number}") for n in (1, 2, 3)),
            Pipeline(
                external_id="p",
                name="p",
                title=f"at {number}",
                keys=["pipeline:ci.example/1"],
                about=["repo:h.example/acme/r1"],
            ),
            told("Component", "pay", number, type="service", lifecycle="production", owner="lost-team"),
            told("Component", f"tool-{number}", number, type="service", lifecycle="production", owner="crew"),
            told("Group", "crew", number, type="team", children=[]),
            told("Group", "squad", number, type="team", children=[]),
            told("User", "marta", number, memberOf=["crew"]),
            told("Gadget", "low", number, level=number % 2 + 1),
            told("Gadget", "high", number, level=number + 5),
        ]
        self.tool.events = [event(str(n), title=f"run {n}") for n in range(number + 1)]
        for name, components in (("all", ("one", "two", f"file-{number}")), ("more", ("four", "one"))):
            (self.folder / name).mkdir(exist_ok=True)
            spec = {"type": "service", "lifecycle": f"{name}{number}", "owner": "squad"}
            documents = [declared("Component", each, number, **spec) for each in components]
            (self.folder / name / "catalog.yaml").write_text(yaml.safe_dump_all(documents))
        spec = {"type": "service", "lifecycle": f"side{number}", "owner": "crew"}
        say("yaml:side", claim("component:side", spec, minute=number), minute=number)
        self.work()
        for one in Connection.objects.at_work():
            runs.request_sync(connection=one, by="a schedule")
        for location in CatalogLocation.objects.filter(removal_at=None):
            locations.refresh_location(location_id=location.pk, now=timezone.now(), is_guarded=False)
        self.work()

    def work(self) -> None:
        """All that workers do, until nothing is left."""
        for one in Connection.objects.all():
            moving.settle_connection(connection_id=one.pk)
        for run in SyncRun.objects.filter(state=RunState.QUEUED).order_by("id"):
            sync.execute_run(run_id=run.pk, now=timezone.now())
            if run.connection.is_sample:
                with connection.cursor() as cursor:  # as the server does by itself for what is committed
                    cursor.execute("ANALYZE")
        for location in CatalogLocation.objects.exclude(removal_at=None):
            locations.remove_location(location_id=location.pk)
        for change_id in kind_changes.due(now=timezone.now()):
            kind_changes.check(change_id=change_id, now=timezone.now())
        forget_definitions()
        render_dirty(at=timezone.now())


def declared(kind: str, name: str, number: int, **spec: Any) -> dict[str, Any]:
    version = "acme.example/v1" if kind in ("Gadget", "Widget") else "backstage.io/v1alpha1"
    metadata = {"name": name, "description": f"at {number}"}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def told(kind: str, name: str, number: int, **spec: Any) -> Document:
    return Document(
        external_id=f"a.yaml#{kind.lower()}:default/{name}",
        document=declared(kind, name, number, **spec),
        file="a.yaml",
    )


def latest(verb: str) -> Undoable:
    return Undoable.objects.filter(event__verb=verb).latest("event_id")


def entity(name: str) -> Entity:
    return Entity.objects.get(ref=name if ":" in name else f"component:default/{name}", deleted_at=None)


def things(*names: str) -> list[Entity]:
    return [entity(name) for name in names]


def state(known: dict[Any, str]) -> dict[str, Any]:
    """All that people see or said, by what it is called; what only tells when it came is left out.

    :param known: names of uids that are the same in both worlds.
    """
    alive = Entity.objects.filter(deleted_at=None)
    refs = {row.uid: row.ref for row in alive}
    served = {}
    for row in Served.objects.filter(entity__deleted_at=None).select_related("entity"):
        document = orjson.loads(splice(row.document, row.relations))
        for name in ("etag", "uid"):
            document["metadata"].pop(name, None)
        document["relations"] = sorted(document["relations"], key=repr)
        one = row.entity
        facts = (
            one.title,
            one.owner,
            one.system,
            sorted(one.tags),
            sorted(one.sources),
            one.last_run,
            one.version,
        )
        served[one.ref] = (document, facts, known.get(one.uid))
    people = Claim.objects.filter(
        source__type__in=[SourceType.PERSON, SourceType.API], entity__deleted_at=None
    )
    happened = Activity.objects.exclude(subject_uid=None)
    return {
        "catalog": served,
        "ties": sorted(
            (tie.source.ref, tie.type, tie.target.ref, tie.state, tie.key, tie.decided_by, tie.reason)
            for tie in Tie.objects.select_related("source", "target")
            if tie.source.is_alive and tie.target.is_alive
        ),
        "said by people": sorted(
            (row.source.key, row.entity.ref, repr(row.document), repr(row.place), row.is_shadowed)
            for row in people.select_related("source", "entity")
        ),
        "owners": sorted(alive.exclude(owner="").values_list("ref", "owner")),
        "names": sorted(Alias.objects.values_list("ref", "entity__ref", "decided_by", "reason")),
        "merges": sorted(Redirect.objects.values_list("ref", "winner__ref", "reason")),
        "activity": sorted(
            (row.type, row.external_id, row.connection, refs.get(row.subject_uid, "")) for row in happened
        ),
        "problems": sorted(
            Problem.objects.filter(resolved_at=None).values_list("type", "subject_label", "message")
        ),
        "connections": sorted(
            (row.slug, row.label, row.connector, repr(row.config), row.namespace, row.interval, row.is_sample)
            for row in Connection.objects.at_work()
        ),
        "files": sorted(
            (row.address, row.roots, row.interval, row.created_by, row.is_removed)
            for row in CatalogLocation.objects.all()
        ),
        "definitions": {
            (kind, row.name): (row.spec, row.pack, row.pristine)
            for kind, type_ in document_types().items()
            for row in type_.model._default_manager.all()
        },
        "accounts": sorted((user.username, refs.get(user.entity_uid, "")) for user in User.objects.all()),
    }  # fmt: skip


# --- the sorts --------------------------------------------------------------------------------------------

Step = Callable[[World], object]


@dataclass(frozen=True)
class Sort:
    """How somebody comes to a change of one sort.

    :ivar do: the change.
    :ivar before: what it needs, in both worlds.
    :ivar later: what somebody does to the same things later: the undo shows it.
    :ivar shown: by which sorts it is shown, the latest first.
    :ivar left: what is left of that afterwards, as it is done where the change never was.
    :ivar refused: what somebody does to the same things so that it cannot be undone, by some words of why.
    """

    do: Step
    before: Step | None = None
    later: Step | None = None
    shown: tuple[str, ...] = ()
    left: Step | None = None
    refused: Mapping[str, Step] = field(default_factory=dict)


def override(name: str, path: str, value: Any, *, ana: bool = False) -> Step:
    def step(world: World) -> None:
        override_field(
            user=world.ana if ana else world.ben, entity=entity(name), path=path, value=value, reason="r"
        )

    return step  # fmt: skip


def replace(name: str, path: str, value: Any) -> Step:
    """Ana drops what is overridden and says something else."""
    return lambda world: change_overrides(
        user=world.ana, entity=entity(name), values={path: value}, dropped=[path], reason="hers"
    )


def edit(name: str, path: str, value: Any) -> Step:
    return lambda world: change_overrides(
        user=world.ben, entity=entity(name), values={path: value}, reason="typed", verb="entity.edit"
    )


def owners(world: World) -> None:
    set_owners(user=world.ben, entities=things("one", "two", "side"), owner=entity(CREW), reason="ours")


def tie(state_: str, *, ana: bool = False) -> Step:
    def step(world: World) -> None:
        ends = {
            "source": entity("acme-r1"),
            "type": "hasSource",
            "target": entity("repository:default/acme-r1"),
        }
        decide_tie(user=world.ana if ana else world.ben, **ends, state=state_, reason=state_)

    return step  # fmt: skip


def declared_by_api(ref: str) -> Step:
    kind, name = ref.split(":default/")
    spec = {"type": "service", "lifecycle": "production", "owner": "crew"}
    document = declared(kind.capitalize(), name, 0, **spec, children=[])
    return lambda world: upsert_documents(user=world.ben, documents=[document])


def mapped(target: str) -> Step:
    return lambda world: map_name(user=world.ben, ref=NAME, target=entity(target), reason="renamed")


def created(world: World) -> None:
    create_owner(user=world.ben, ref=NAME, title="Lost", members=[entity("user:default/marta")])


def merged(world: World) -> None:
    loser, winner = (entity(f"repository:default/acme-r{n}") for n in (2, 3))
    merge_into(user=world.ben, loser=loser, winner=winner, reason="the same")


def upgraded(world: World) -> None:
    change = kind_changes.propose(user=world.ana, name="gadget", spec=NEW_GADGET)
    kind_changes.check(change_id=change.pk, now=timezone.now())
    change.refresh_from_db()
    kind_changes.apply_change(user=world.ana, change=change)
    forget_definitions()
    assert KindChange.objects.get(pk=change.pk).breaks == 0


def imported(name: str) -> Step:
    return lambda world: locations.import_paths(
        addresses=[str(world.folder / name)], by=world.ana.label, from_shell=True
    )


def files_removed(world: World) -> None:
    tasks.start_forgetting(CatalogLocation.objects.get(), by=world.ana.label)


def files_moved(world: World) -> None:
    location = CatalogLocation.objects.get()
    tasks.start_reading_at(location, str(world.folder / "more"), by=world.ana.label, roots=location.roots)


def removed(world: World) -> None:
    tasks.start_removal(connection=Connection.objects.get(slug="ct"), by=world.ana.label)


def another(world: World) -> None:
    """Meanwhile somebody connects the same tool under the same name, and says something of what it brought."""
    tasks.start_sync(
        connection=create_connection(slug="ct2", label="CT", connector=Controlled.slug, config={})
    )
    world.work()
    override("pay", OWNER, SQUAD)(world)


def loaded(_world: World) -> None:
    sample.load_sample()


def lived_in(world: World) -> None:
    """The sample company, in which somebody has said this and that."""
    loaded(world)
    world.work()
    override("component:sample/ledger", TITLE, "The books")(world)
    tie_account(world.ben, entity_uid=entity("user:sample/marta.lindqvist").uid)


def packed(world: World) -> None:
    folder = world.folder / "acme"
    folder.mkdir()
    brought = {
        "KindDefinition": {**GADGET, "title": "Gizmo"},
        "View": {"title": "Gadgets", "query": "kind:gadget"},
    }
    for kind, spec in brought.items():
        made = {"apiVersion": "portico/v1", "kind": kind, "metadata": {"name": "gadget"}, "spec": spec}
        (folder / f"{kind}.yaml").write_text(yaml.safe_dump(made))
    apply_pack(folder, by=world.ana.label, is_undoable=True)
    forget_definitions()


def gadget_edited(_world: World) -> None:
    spec = Kind.objects.get(name="gadget").spec
    edit_definition(kind="KindDefinition", name="gadget", spec={**spec, "description": "Ours"}, by="ana")


SORTS = {
    "entity.override": Sort(
        override("one", OWNER, CREW),
        later=replace("one", OWNER, SQUAD),
        shown=("entity.override", "entity.override-drop"),
    ),
    "entity.override-drop": Sort(
        lambda world: drop_override(user=world.ana, entity=entity("one"), path=OWNER),
        before=override("one", OWNER, CREW),
        later=override("one", OWNER, SQUAD, ana=True),
        shown=("entity.override",),
    ),
    "entity.override-undo": Sort(
        lambda world: world.undo("entity.override"),
        before=override("one", OWNER, CREW),
        later=override("one", OWNER, SQUAD, ana=True),
        shown=("entity.override",),
    ),
    "entity.edit": Sort(
        edit("one", OWNER, CREW),
        later=replace("one", OWNER, SQUAD),
        shown=("entity.override", "entity.override-drop"),
    ),
    "entity.restore": Sort(
        lambda world: restore_revision(user=world.ben, entity=entity("one"), number=1),
        before=edit("one", OWNER, CREW),
        later=override("one", OWNER, SQUAD, ana=True),
        shown=("entity.override",),
    ),
    "entity.bulk-edit": Sort(
        owners,
        before=override("one", OWNER, SQUAD),
        later=replace("two", OWNER, SQUAD),
        shown=("entity.override", "entity.override-drop"),
        left=lambda world: override_field(
            user=world.ana, entity=entity("two"), path=OWNER, value=SQUAD, reason="hers"
        ),
    ),
    "entity.bulk-edit-undo": Sort(
        lambda world: world.undo("entity.bulk-edit"),
        before=owners,
        later=override("two", OWNER, SQUAD),
        shown=("entity.override",),
    ),
    "entity.bulk-fields": Sort(
        lambda world: change_fields(
            user=world.ben,
            entities=things("one", "two", "pay"),
            change=check_change("metadata.tags", "add", ["bulk"]),
        ),
        before=override("one", "metadata.tags", ["mine"]),
        later=replace("pay", "metadata.tags", ["hers"]),
        shown=("entity.override", "entity.override-drop"),
    ),
    "tie.decide": Sort(
        tie("forbidden"), before=tie("confirmed", ana=True), later=tie("auto"), shown=("tie.decide",)
    ),
    "entity.map": Sort(
        mapped(CREW),
        refused={
            "undone already": lambda world: unmap_name(user=world.ana, ref=NAME),
            "Nobody says any more": declared_by_api(NAME),
        },
    ),
    "entity.unmap": Sort(
        lambda world: unmap_name(user=world.ben, ref=NAME),
        before=mapped(CREW),
        refused={"undone already": mapped(SQUAD), "in the catalog already": declared_by_api(NAME)},
    ),
    "entity.create": Sort(
        created, later=override(NAME, "metadata.description", "Found"), shown=("entity.override",)
    ),
    "entity.redeclare": Sort(
        lambda world: redeclare(user=world.ben, entity=entity(NAME), values={TITLE: "Found"}),
        before=created,
        later=lambda world: redeclare(user=world.ana, entity=entity(NAME), values={TITLE: "Gone"}),
        shown=("entity.redeclare",),
    ),
    "entity.withdraw": Sort(
        lambda world: withdraw(user=world.ben, entity=entity("told")),
        before=declared_by_api("component:default/told"),
        refused={"declared again since": declared_by_api("component:default/told")},
    ),
    "entity.merge": Sort(
        merged,
        later=override("repository:default/acme-r3", TITLE, "Both"),
        shown=("entity.override",),
        left=override("repository:default/acme-r3", TITLE, "Both"),
    ),
    "entity.part": Sort(
        lambda world: part(user=world.ben, redirect=Redirect.objects.get()),
        before=merged,
        later=override("repository:default/acme-r3", TITLE, "Third"),
        left=override("repository:default/acme-r3", TITLE, "Third"),
    ),
    "kind.upgrade": Sort(
        upgraded,
        later=override("gadget:default/low", TITLE, "Low"),
        shown=("entity.override",),
        left=override("gadget:default/low", TITLE, "Low"),
        refused={"changed since": gadget_edited},
    ),
    "pack.apply": Sort(packed, refused={"KindDefinition gadget was changed since": gadget_edited}),
    "catalog.import": Sort(
        imported("more"), later=override("four", OWNER, CREW), shown=("entity.override",)
    ),
    "catalog.location-remove": Sort(
        files_removed,
        later=lambda world: (imported("more")(world), override("one", OWNER, CREW)(world)),
        shown=("entity.override",),
        left=lambda world: (imported("more")(world), override("one", OWNER, CREW)(world)),
        refused={"undone already": imported("all")},
    ),
    "catalog.location-move": Sort(
        files_moved,
        later=override("one", OWNER, CREW),
        shown=("entity.override",),
        left=override("one", OWNER, CREW),
        refused={"removed since": files_removed},
    ),
    "connection.delete": Sort(removed, later=another, shown=("entity.override",), left=another),
    "connection.undelete": Sort(
        lambda world: world.undo("connection.delete"),
        before=removed,
        later=override("pay", OWNER, SQUAD),
        shown=("entity.override",),
    ),
    "sample.load": Sort(
        loaded, later=override("component:sample/ledger", TITLE, "The books"), shown=("entity.override",)
    ),
    "sample.remove": Sort(
        lambda world: sample.remove_sample(by=world.ana.label),
        before=lived_in,  # what cannot be undone once it is loaded anew: see `test_sample`
    ),
}  # fmt: skip


@pytest.fixture
def world(
    tool: Tool,
    core_pack: None,
    ana: User,
    ben: User,
    tmp_path: Path,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> Any:
    folder, settings.PORTICO_HOME = tmp_path / "files", tmp_path / "home"
    folder.mkdir()
    settings.PORTICO_FILES_ALLOW = [folder, settings.PORTICO_HOME / "sample"]
    monkeypatch.setattr(history, "DAYS", 1)
    monkeypatch.setattr(Task, "apply_async", lambda *_args, **_options: None)  # the world works by itself
    Kind.objects.create(name="gadget", spec=GADGET)
    forget_definitions()
    made = World(tool, folder, ana, ben, django_capture_on_commit_callbacks)
    create_connection(slug="ct", label="CT", connector=Controlled.slug, config={})
    made.sync(0)
    imported("all")(made)
    yield made
    forget_definitions()


@pytest.mark.parametrize("verb", sorted(undo._undos))
def test_after_a_later_sync_all_is_as_if_it_had_never_been_done(world: World, verb: str) -> None:
    sort = SORTS[verb]  # whoever adds a sort says here how it is done
    world.do(*filter(None, [sort.before]))
    world.sync(1)
    known = dict(Entity.objects.values_list("uid", "ref"))

    def beside(world: World) -> None:
        override("side", TITLE, "Beside")(world)

    with transaction.atomic():  # the world in which nobody does it
        world.do(*filter(None, [sort.left]), beside)
        world.sync(3)
        expected = state(known)
        transaction.set_rollback(True)
    _forget()

    world.do(sort.do)
    change = latest(verb)
    assert state(known) != expected
    world.sync(2)
    for why, step in sort.refused.items():
        with transaction.atomic():
            world.do(step)
            assert why in undo.preview_undo(change=latest_of(change), user=world.ana).refused
            with pytest.raises(Conflict):
                undo.undo_change(change=change, user=world.ana)
            transaction.set_rollback(True)
        _forget()
    world.do(*filter(None, [sort.later]), beside)
    change = undo.get_change(world.ana, change.pk)
    assert not change.is_undone
    preview = undo.preview_undo(change=change, user=world.ana)
    assert (preview.refused, [one.event.verb for one in preview.later]) == ("", list(sort.shown))
    assert preview.steps
    assert preview.of_later or not sort.shown
    world.do(lambda world: undo.undo_change(change=change, user=world.ana))
    world.sync(3)
    found = state(known)
    for name, rows in expected.items():
        assert found[name] == rows, name
    assert latest_of(change).undone_by == world.ana.label


def latest_of(change: Undoable) -> Undoable:
    return Undoable.objects.select_related("event").get(pk=change.pk)


def _forget() -> None:
    """What this process made of rows that were rolled back."""
    permissions.cache.clear()
    forget_stamps()
    forget_definitions()
