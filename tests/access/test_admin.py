import pytest

from access.models import AuditEvent, Grant, Group, User
from access.permissions import can
from access.services import create_token

pytestmark = pytest.mark.urls("tests.access.urls")


PAGES = [
    "",
    "access/user/",
    "access/group/",
    "access/grant/",
    "access/role/",
    "access/apitoken/",
    "access/auditevent/",
]


def test_only_administrators_get_in(browse, ana, ben, vic, no_access):
    new = create_token(user=ana, name="ci")
    for page in PAGES:
        answer = browse(ana).get(f"/admin/{page}")
        assert answer.status_code == 200, page
        assert new.token.digest not in answer.content.decode()
        for user in (ben, vic, no_access):
            assert browse(user).get(f"/admin/{page}").status_code == 302, page


def test_what_is_done_there_is_recorded_and_holds_at_once(browse, ana, vic, roles):
    client = browse(ana)
    sent = {"user": vic.pk, "role": roles["editor"].pk, "scope_type": "namespace", "scope": " Payments "}
    assert client.post("/admin/access/grant/add/", sent).status_code == 302
    made = Grant.objects.get(user=vic, role__name="editor")
    assert made.scope == "payments"
    assert can(vic, "entity.write")
    event = AuditEvent.objects.get(verb="grant.create", subject_uid=str(made.pk))
    assert (event.actor_label, bool(event.request_id)) == ("ana", True)
    assert client.post(f"/admin/access/grant/{made.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not can(vic, "entity.write")
    assert AuditEvent.objects.filter(verb="grant.delete", subject_uid=str(made.pk)).exists()


def test_a_wrong_scope_is_shown_at_its_field(browse, ana, vic, roles):
    sent = {"user": vic.pk, "role": roles["editor"].pk, "scope_type": "namespace", "scope": "no such thing"}
    answer = browse(ana).post("/admin/access/grant/add/", sent)
    assert answer.status_code == 200
    assert "is no namespace" in answer.content.decode()


def test_the_last_administrator_stays(browse, ana):
    client = browse(ana)
    sent = {"name": "Ana Ruiz", "email": "ana@acme.example"}  # an unticked box is not sent
    answer = client.post(f"/admin/access/user/{ana.pk}/change/", sent, follow=True)
    assert "without an administrator" in answer.content.decode()
    answer = client.post(f"/admin/access/grant/{ana.grants.get().pk}/delete/", {"post": "yes"}, follow=True)
    assert "without an administrator" in answer.content.decode()
    assert User.objects.get(username="ana").is_active
    assert can(ana, "user.write")


def test_members_of_a_group_are_recorded(browse, ana, vic):
    client = browse(ana)
    client.post("/admin/access/group/add/", {"name": "builders", "members": [vic.pk]})
    assert list(Group.objects.get().members.all()) == [vic]
    assert AuditEvent.objects.get(verb="group.create").changes["members"] == [None, ["vic"]]


def test_a_new_account_has_no_password_and_the_log_no_buttons(browse, ana):
    client = browse(ana)
    client.post("/admin/access/user/add/", {"username": "dora", "is_active": "on"})
    assert not User.objects.get(username="dora").has_usable_password()
    event = AuditEvent.objects.first()
    for page in (f"auditevent/{event.pk}/delete/", "auditevent/add/", f"user/{ana.pk}/delete/", "role/add/"):
        assert client.post(f"/admin/access/{page}", {"post": "yes"}).status_code == 403


def test_tokens_are_revoked(browse, ana):
    token = create_token(user=ana, name="ci").token
    sent = {"action": "revoke", "_selected_action": [token.pk]}
    browse(ana).post("/admin/access/apitoken/", sent)
    token.refresh_from_db()
    assert token.revoked_at is not None
    assert AuditEvent.objects.get(verb="token.revoke").actor_label == "ana"
