import pytest

from access.models import Role
from access.permissions import can
from access.roles import ROLES
from access.services import LastAdministrator
from base.errors import InvalidInput


def test_the_shipped_roles(roles):
    assert set(roles) == {"viewer", "editor", "administrator"}
    assert roles["viewer"].verbs < roles["editor"].verbs
    assert roles["administrator"].verbs == {"*"}
    assert roles["viewer"].title == "Viewer"


def test_an_unknown_verb_is_refused_with_its_place_and_the_nearest_one(db):
    with pytest.raises(InvalidInput) as caught:
        ROLES.apply("x", {"verbs": ["entity.read", "entity.wirte"]}, pack="p", by="t")
    assert [error.path for error in caught.value.errors] == ["spec.verbs[1]"]
    assert "entity.write" in caught.value.message
    assert not Role.objects.exists()


@pytest.mark.parametrize(
    "spec",
    [
        None,
        [],
        {},
        {"verbs": []},
        {"verbs": "*"},
        {"verbs": ["*"], "x": 1},
        {"verbs": [1]},
        {"verbs": ["*"], "title": 3},
    ],
)
def test_a_broken_role_is_refused(spec):
    with pytest.raises(InvalidInput):
        ROLES.validate("x", spec)


def test_applying_twice_changes_nothing(roles):
    before = Role.objects.get(name="viewer")
    assert ROLES.apply("viewer", before.spec, pack="core", by="again") is None
    after = Role.objects.get(name="viewer")
    assert (after.revision, after.updated_at) == (before.revision, before.updated_at)


def test_a_later_pack_replaces_an_edit_unless_edits_are_kept(roles):
    shipped = roles["viewer"].spec
    edited = {**shipped, "description": "Ours"}
    newer = {**shipped, "description": "Newer"}
    ROLES.edit("viewer", edited, by="ana")
    assert Role.objects.get(name="viewer").is_edited
    assert ROLES.apply("viewer", newer, pack="core", by="start", keep_edits=True) is None
    kept = Role.objects.get(name="viewer")
    assert (kept.spec, kept.pristine) == (edited, newer)
    change = ROLES.apply("viewer", newer, pack="core", by="ben")
    assert (change.before, change.after) == (edited, newer)
    served = Role.objects.get(name="viewer")
    assert (served.spec, served.is_edited, served.updated_by, served.revision) == (newer, False, "ben", 3)


def test_a_changed_role_holds_at_once(vic):
    assert not can(vic, "page.write")
    spec = Role.objects.get(name="viewer").spec
    ROLES.edit("viewer", {**spec, "verbs": [*spec["verbs"], "page.write"]}, by="ana")
    assert can(vic, "page.write")


def test_a_role_change_cannot_lock_everybody_out(ana):
    with pytest.raises(LastAdministrator):
        ROLES.edit("administrator", {"verbs": ["entity.read"]}, by="ana")
    assert can(ana, "user.write")


def test_export_is_what_is_served(roles):
    assert dict(ROLES.export(pack="core")) == {name: role.spec for name, role in roles.items()}
    assert list(ROLES.export(pack="other")) == []
