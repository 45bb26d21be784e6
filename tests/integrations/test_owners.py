"""A tool, a file and a person disagree on an owner: the right one wins at each point, and all of it is on record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from access.models import AuditEvent, User
from catalog.models import Entity, Problem, Revision
from catalog.queries import provenance_of
from catalog.services.edit import drop_override, override_field
from catalog.services.merge import leaves
from catalog.services.voices import claims_of
from integrations.models import Connection
from integrations.services.locations import import_paths
from tests.catalog.saying import document, relations
from tests.integrations.tool import Tool, removed, synced, thing

pytestmark = pytest.mark.django_db

REF = "repository:default/acme-r1"


def owner() -> str:
    """Who the catalog says owns it: the field, the relation and the column say the same."""
    field = str(document(REF)["spec"]["owner"])
    row = Entity.objects.get(ref=REF)
    assert [target for type_, target in relations(REF) if type_ == "ownedBy"] == [row.owner]
    assert row.owner.endswith(f"/{field.rpartition('/')[2]}")
    return field.rpartition("/")[2]


def said() -> tuple[str, list[str]]:
    """Whose word counts, and what others say."""
    found = provenance_of(claims_of(Entity.objects.get(ref=REF)))["spec.owner"]
    return found.claim.source.type, [str(item["value"]).rpartition("/")[2] for item in found.losing]


@pytest.mark.parametrize("connection_goes_first", [True, False])
def test_the_right_one_wins_each_time_and_the_history_is_complete(
    tool: Tool,
    connect: Callable[..., Connection],
    ben: User,
    ana: User,
    tmp_path: Path,
    connection_goes_first: bool,
) -> None:
    states: list[dict[str, Any]] = []

    def note() -> None:
        shown = document(REF)
        shown["metadata"] = {k: v for k, v in shown["metadata"].items() if k not in {"uid", "etag"}}
        states.append(
            {".".join(path): v for path, v in leaves({k: v for k, v in shown.items() if k != "relations"})}
        )

    def file(name: str) -> None:
        path = tmp_path / "catalog.yaml"
        path.write_text(
            "apiVersion: portico/v1\nkind: Repository\nmetadata:\n  name: acme-r1\nspec:\n  owner: "
            + name
            + "\n"
        )
        import_paths(addresses=[str(path)], by="a file", from_shell=True)
        note()

    def sync(team: str) -> None:
        tool.things = [thing(1, owners=[f"@acme/{team}"])]
        assert synced(connection).state == "synced"
        note()

    connection = connect()
    sync("tool-team")
    uid = Entity.objects.get(ref=REF).uid
    assert (owner(), said()) == ("tool-team", ("connection", []))
    file("file-team")
    assert (owner(), said()) == ("file-team", ("yaml", ["tool-team"]))
    override_field(
        user=ben, entity=Entity.objects.get(ref=REF), path="spec.owner", value="person-team", reason="agreed"
    )
    note()
    assert (owner(), said()) == ("person-team", ("person", ["file-team", "tool-team"]))

    sync("tool-team-2")
    sync("tool-team-3")
    assert (owner(), said()) == ("person-team", ("person", ["file-team", "tool-team-3"]))
    file("file-team-2")
    assert owner() == "person-team"
    # The ranks differ, so it is decided, and nobody has to be asked.
    assert not Problem.objects.filter(type="conflict", resolved_at=None).exists()

    drop_override(user=ana, entity=Entity.objects.get(ref=REF), path="spec.owner")
    note()
    assert (owner(), said()) == ("file-team-2", ("yaml", ["tool-team-3"]))

    if connection_goes_first:
        removed(connection)
        note()
        assert (owner(), said()) == ("file-team-2", ("yaml", []))
    else:
        (tmp_path / "catalog.yaml").write_text("")
        import_paths(addresses=[str(tmp_path / "catalog.yaml")], by="a file", from_shell=True)
        note()
        assert (owner(), said()) == ("tool-team-3", ("connection", []))
        removed(connection)
        assert not Entity.objects.get(ref=REF).is_alive

    rows = list(Revision.objects.filter(entity_uid=uid).order_by("number"))
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    owners = [
        (str(row["old"]).rpartition("/")[2], str(row["new"]).rpartition("/")[2])
        for revision in rows
        for row in revision.diff
        if row["path"] == "spec.owner"
    ]
    expected = [("tool-team", "file-team"), ("file-team", "person-team"), ("person-team", "file-team-2")]
    if not connection_goes_first:
        expected.append(("file-team-2", "tool-team-3"))
    assert owners == expected
    assert {row.by for row in rows} >= {"CT", ben.label, ana.label}
    assert [row.action for row in rows][-1] == ("changed" if connection_goes_first else "deleted")
    # Taken back one by one, the diffs give every state that there was.
    fields, seen = dict(states[-1]), [dict(states[-1])]
    for revision in reversed(rows[1:]):
        for row in revision.diff:
            fields.pop(row["path"], None)
            if "old" in row:
                fields[row["path"]] = row["old"]
        seen.append(dict(fields))
    assert all(state in seen for state in states)
    assert seen[-1] == states[0]
    assert {event.verb for event in AuditEvent.objects.filter(verb__startswith="entity.")} == {
        "entity.override",
        "entity.override-drop",
    }
