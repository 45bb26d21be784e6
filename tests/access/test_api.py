import pytest
from django.test import Client

from access.models import ApiToken, AuditEvent, Grant, Group, Identity, User
from access.roles import ROLES
from access.services import (
    LinkNotValid,
    create_group,
    create_token,
    find_sign_in_link,
    grant,
    revoke_token,
)
from tests.cast import PASSWORD
from tests.routes import WRITING, routes

pytestmark = pytest.mark.urls("tests.access.urls")

API = "/api/v1"


@pytest.fixture
def call(client, as_token):
    """Send JSON as the person by a new token."""

    def send(method, path, user, data=None, if_match="", **token):
        body = {} if data is None else {"data": data, "content_type": "application/json"}
        headers = as_token(user, **token) | ({"If-Match": if_match} if if_match else {})
        return getattr(client, method)(f"{API}{path}", headers=headers, **body)

    return send


def signed_in(user, **options):
    client = Client(**options)
    assert client.login(username=user.username, password=PASSWORD)
    return client


class TestSigningIn:
    def test_a_bearer_token_signs_in(self, call, vic):
        answer = call("get", "/me/", vic)
        assert answer.status_code == 200
        assert answer.json()["username"] == "vic"
        assert "entity.read" in answer.json()["verbs"]
        assert "token.write" not in answer.json()["verbs"]
        assert answer.headers["X-Request-ID"]

    @pytest.mark.parametrize(
        ("header", "sentence"),
        [
            ("Bearer", "no token came"),
            ("Bearer abc", "46 characters"),
            ("bearer po_" + "a" * 43, "not known"),
        ],
    )
    def test_a_wrong_token_is_401_and_says_why(self, client, db, header, sentence):
        answer = client.get(f"{API}/me/", headers={"Authorization": header})
        assert answer.status_code == 401
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
        assert answer.json()["code"] == "token-not-valid"
        assert sentence in answer.json()["detail"]

    @pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic YTpi"}])
    def test_nobody_is_401_with_the_way_in(self, client, db, headers):
        answer = client.get(f"{API}/tokens/", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="Portico"'
        assert answer.headers["Content-Type"] == "application/problem+json"

    def test_a_wrong_token_beats_a_good_session(self, vic):
        answer = signed_in(vic).get(f"{API}/me/", headers={"Authorization": "Bearer po_x"})
        assert answer.status_code == 401

    def test_a_revoked_token_ends_at_once(self, client, vic):
        new = create_token(user=vic, name="x")
        headers = {"Authorization": f"Bearer {new.text}"}
        assert client.get(f"{API}/me/", headers=headers).status_code == 200
        revoke_token(new.token)
        assert client.get(f"{API}/me/", headers=headers).status_code == 401

    def test_a_session_writes_only_with_the_csrf_token(self, vic):
        client = signed_in(vic, enforce_csrf_checks=True)
        assert client.get(f"{API}/me/").status_code == 200
        sent = {"data": {"name": "ci"}, "content_type": "application/json"}
        assert client.post(f"{API}/tokens/", **sent).status_code == 403
        assert not ApiToken.objects.exists()


def test_every_writing_route_refuses_viewers(call, ana, vic):
    """As a viewer, and as an administrator with a viewer's token; new routes are met by themselves."""
    group = create_group(name="g")
    held = grant(role="viewer", group=group)
    own = create_token(user=vic, name="own").token
    known = {"username": "ana"}
    keys = {"groups": group.pk, "grants": held.pk, "tokens": own.pk}
    writes = 0
    for route in routes(API.lstrip("/")):
        path = route.url(known | {"pk": keys.get(route.pattern.split("/")[2], 1)}).removeprefix(API)
        for method in set(route.methods) & set(WRITING):
            writes += 1
            for user, token in ((vic, {}), (ana, {"role": "viewer"})):
                if route.pattern == "api/v1/me/" and user == vic:
                    continue  # which everybody may change who is no token that is held to less
                answer = call(method, path, user, {}, **token)
                assert answer.status_code == 403, (method, path, answer.content)
                assert answer.json()["code"] == "forbidden"
    assert writes >= 17
    assert User.objects.count() == 2


class TestTokens:
    def test_making_listing_and_revoking_ones_own(self, vic, ana):
        create_token(user=ana, name="not vic's")
        client = signed_in(vic)
        answer = client.post(
            f"{API}/tokens/", {"name": "ci", "role": "viewer"}, content_type="application/json"
        )
        assert answer.status_code == 201, answer.content
        made = answer.json()
        assert (
            client.get(f"{API}/me/", headers={"Authorization": f"Bearer {made['token']}"}).status_code == 200
        )
        listed = client.get(f"{API}/tokens/").json()
        assert [(row["name"], row["role"]) for row in listed["results"]] == [("ci", "viewer")]
        assert (listed["total"], listed["next"], listed["previous"]) == (1, None, None)
        assert made["token"] not in str(listed)
        assert "digest" not in str(listed)
        assert client.delete(f"{API}/tokens/{made['id']}/").status_code == 204
        assert client.get(f"{API}/tokens/").json()["total"] == 0

    def test_more_than_one_may_is_refused(self, vic):
        answer = signed_in(vic).post(
            f"{API}/tokens/", {"name": "ci", "role": "administrator"}, content_type="application/json"
        )
        assert answer.status_code == 403
        assert not ApiToken.objects.exists()

    def test_anothers_token_is_not_there(self, vic, ana):
        token = create_token(user=ana, name="x").token
        assert signed_in(vic).delete(f"{API}/tokens/{token.pk}/").status_code == 404
        token.refresh_from_db()
        assert token.revoked_at is None

    def test_somebody_limited_to_a_namespace_has_tokens_too(self, cleo):
        client = signed_in(cleo)
        answer = client.post(f"{API}/tokens/", {"name": "ci"}, content_type="application/json")
        assert answer.status_code == 201
        assert client.delete(f"{API}/tokens/{answer.json()['id']}/").status_code == 204


class TestPeople:
    def test_an_administrator_makes_and_changes_accounts(self, call, ana):
        answer = call("post", "/users/", ana, {"username": "Dora", "name": "Dora Diaz"})
        assert (answer.status_code, answer.json()["username"]) == (201, "dora")
        assert call("post", "/users/", ana, {"username": "dora"}).status_code == 422
        answer = call("patch", "/users/dora/", ana, {"is_active": False})
        assert answer.json()["is_active"] is False
        assert call("get", "/users/dora/", ana).json()["name"] == "Dora Diaz"
        assert [row["username"] for row in call("get", "/users/?q=diaz", ana).json()["results"]] == ["dora"]
        event = AuditEvent.objects.get(verb="user.update")
        assert (event.actor_type, event.changes) == ("token", {"is_active": [True, False]})
        assert event.request_id
        assert event.ip == "127.0.0.1"

    def test_others_do_not_see_accounts(self, call, ana, vic, ben, no_access):
        for user in (vic, ben, no_access):
            assert call("get", "/users/", user).status_code == 403
            assert call("get", "/users/ana/", user).status_code == 403

    def test_the_last_administrator_stays(self, call, ana):
        answer = call("patch", "/users/ana/", ana, {"is_active": False})
        assert (answer.status_code, answer.json()["code"]) == (409, "last-administrator")

    def test_groups_and_grants(self, call, ana, ben):
        group = call("post", "/groups/", ana, {"name": "builders", "members": ["ben"]})
        assert (group.status_code, group.json()["members"]) == (201, ["ben"])
        made = call("post", "/grants/", ana, {"group": "builders", "role": "administrator"})
        assert made.status_code == 201, made.content
        assert call("get", "/users/", ben).status_code == 200
        path = f"/groups/{group.json()['id']}/"
        assert call("patch", path, ana, {"members": []}).json()["members"] == []
        assert call("get", "/users/", ben).status_code == 403
        assert call("delete", f"/grants/{made.json()['id']}/", ana).status_code == 204
        assert call("delete", path, ana).status_code == 204
        assert not Group.objects.exists()

    @pytest.mark.parametrize(
        "data",
        [
            {"role": "viewer"},
            {"user": "nobody", "role": "viewer"},
            {"user": "vic", "role": "viewer", "scope_type": "namespace"},
            {"user": "vic", "role": "viewer", "scope_type": "galaxy", "scope": "x"},
        ],
    )
    def test_a_grant_that_makes_no_sense_is_422(self, call, ana, vic, data):
        before = Grant.objects.count()
        assert call("post", "/grants/", ana, data).status_code == 422
        assert Grant.objects.count() == before

    def test_roles_are_there_for_all_who_read(self, call, cleo):
        listed = call("get", "/roles/", cleo).json()
        assert [row["name"] for row in listed["results"]] == ["administrator", "editor", "viewer"]
        assert call("get", "/roles/viewer/", cleo).json()["verbs"][0] == "connection.read"


class TestComing:
    def test_somebody_is_invited_sent_another_link_and_taken_back(self, call, client, ana):
        create_group(name="builders")
        asked = {"email": "dora@acme.example", "role": "viewer", "groups": ["builders"]}
        made = call("post", "/invitations/", ana, asked)
        assert made.status_code == 201, made.content
        new = made.json()
        assert (new["username"], new["purpose"], new["invited_by"]) == ("dora", "invite", "Ana Ruiz")
        first = new["url"].rpartition("/sign-in/")[2].strip("/")
        assert Group.objects.get(members=find_sign_in_link(first).user).name == "builders"
        assert call("post", "/invitations/", ana, asked).status_code == 422
        listed = call("get", "/invitations/", ana)
        assert [row["username"] for row in listed.json()["results"]] == ["dora"]
        assert first not in listed.content.decode()
        again = call("post", f"/invitations/{new['id']}/renew/", ana).json()
        assert again["purpose"] == "invite"
        with pytest.raises(LinkNotValid):
            find_sign_in_link(first)
        assert call("post", f"/invitations/{new['id']}/renew/", ana).status_code == 404
        assert call("delete", f"/invitations/{again['id']}/", ana).status_code == 204
        assert not User.objects.filter(username="dora").exists()

    def test_a_link_for_a_new_password(self, call, ana, vic):
        made = call("post", "/users/vic/sign-in-link/", ana)
        assert (made.status_code, made.json()["purpose"]) == (201, "reset")
        assert find_sign_in_link(made.json()["url"].rpartition("/sign-in/")[2].strip("/")).user == vic
        assert call("post", "/users/nobody/sign-in-link/", ana).status_code == 404

    def test_a_token_hands_nobody_more_than_it_may_itself(self, call, ana):
        """Nor its own person, whose link would be a way around what it is held to."""
        ROLES.apply("porter", {"title": "Porter", "verbs": ["user.read", "user.write"]}, pack="", by="tests")
        for path in ("/users/ana/sign-in-link/", "/invitations/"):
            asked = {"email": "eve@acme.example", "role": "administrator"}
            answer = call("post", path, ana, asked, role="porter")
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), path
        assert (
            call("patch", "/users/ana/", ana, {"email": "eve@acme.example"}, role="porter").status_code == 403
        )
        assert (
            call("post", "/invitations/", ana, {"email": "eve@acme.example"}, role="porter").status_code
            == 201
        )

    def test_somebodys_tokens_and_identities_end(self, call, ana, vic):
        token = create_token(user=vic, name="old").token
        known = Identity.objects.create(user=vic, issuer="https://login.acme.example", subject="7")
        listed = call("get", "/users/vic/tokens/", ana).json()["results"]
        assert [row["name"] for row in listed] == ["old"]
        assert call("delete", f"/users/ana/tokens/{token.pk}/", ana).status_code == 404
        assert call("delete", f"/users/vic/tokens/{token.pk}/", ana).status_code == 204
        token.refresh_from_db()
        assert token.revoked_at is not None
        listed = call("get", "/users/vic/identities/", ana).json()["results"]
        assert [row["subject"] for row in listed] == ["7"]
        assert call("delete", f"/users/vic/identities/{known.pk}/", ana).status_code == 204
        assert not Identity.objects.exists()
        for path in ("/users/vic/tokens/", "/users/vic/identities/", "/invitations/"):
            assert call("get", path, vic).status_code == 403
        for path in ("/users/vic/tokens/x/", "/users/vic/identities/x/", "/invitations/x/", "/tokens/x/"):
            assert signed_in(ana).delete(f"{API}{path}").status_code == 404


class TestOneself:
    def test_ones_own_name_and_address(self, call, vic, ana):
        answer = call("patch", "/me/", vic, {"name": "Vic L.", "email": "vic@corp.example"})
        assert (answer.status_code, answer.json()["name"]) == (200, "Vic L.")
        assert answer.json()["is_email_verified"] is False  # nobody else said so
        assert call("patch", "/me/", ana, {"name": "Eve"}, role="viewer").status_code == 403
        elsewhere = {"scope_type": "namespace", "scope": "elsewhere"}
        assert call("patch", "/me/", ana, {"name": "Eve"}, **elsewhere).status_code == 403


def test_who_has_not_seen_a_change_of_somebody_else_changes_nothing(call, ana, ben, vic):
    group = create_group(name="builders")
    for path, first, second in (
        ("/users/vic/", {"name": "Vic A"}, {"name": "Vic B"}),
        (f"/groups/{group.pk}/", {"members": ["ben"]}, {"members": ["vic"]}),
    ):
        seen = call("get", path, ana)
        tag = seen.headers["ETag"]
        assert call("patch", path, ana, first, if_match=tag).status_code == 200
        late = call("patch", path, ana, second, if_match=tag)
        assert (late.status_code, late.json()["code"]) == (412, "precondition-failed")
        now = call("get", path, ana)
        assert {**seen.json(), **first} == now.json()
        changed = call("patch", path, ana, second, if_match=now.headers["ETag"])
        assert (changed.status_code, {**now.json(), **second}) == (200, changed.json())


class TestAudit:
    def test_it_is_listed_newest_first_in_pages_and_filtered(self, call, ana):
        first = call("get", "/audit/?limit=2", ana).json()
        assert len(first["results"]) == 2
        assert first["results"][0]["at"] >= first["results"][1]["at"]
        assert first["next"].startswith("http://testserver/api/v1/audit/?cursor=")
        grants = call("get", "/audit/?verb=grant&subject_type=grant", ana).json()
        assert {row["verb"] for row in grants["results"]} == {"grant.create"}
        assert call("get", "/audit/?actor=nobody", ana).json()["total"] == 0
        assert call("get", "/audit/?since=yesterday", ana).status_code == 422

    def test_it_is_for_those_who_may(self, call, ben):
        assert call("get", "/audit/", ben).status_code == 403


def test_a_method_that_is_not_there_is_405(call, ana):
    assert call("delete", "/users/", ana).status_code == 405


def test_no_answer_holds_a_secret(call, ana):
    new = create_token(user=ana, name="x")
    for path in ("/me/", "/users/", "/users/ana/", "/tokens/", "/audit/", "/grants/", "/groups/", "/roles/"):
        text = call("get", path, ana).content.decode()
        for secret in (new.text, new.token.digest, ana.password, "argon2", "md5$"):
            assert secret not in text, path
