"""The pages of settings: one's own account and tokens, who may do what, packs, the sample company, the audit log."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from access.models import ApiToken, AuditEvent, Grant, Group, Role, SignInLink, User
from access.permissions import can
from access.services import authenticate_token, create_group, create_token, grant, invite, record_audit
from catalog.models import Entity
from integrations.models import Connection
from portal.models import Page
from portal.pages import PAGES
from tests.cast import PASSWORD
from tests.catalog.saying import claim, say


@pytest.fixture(autouse=True)
def _core(core_pack: None) -> None:
    """Kinds, pages and roles."""


@pytest.fixture
def admin(browse: Callable[[User], Client], ana: User) -> Client:
    return browse(ana)


def text_of(answer: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


class TestYou:
    def test_name_and_e_mail_are_ones_own_to_change(
        self, browse: Callable[[User], Client], vic: User
    ) -> None:
        answer = browse(vic).post(
            "/settings", {"action": "profile", "name": "Vic L.", "email": "vic@acme.example"}
        )
        assert answer["Location"] == "/settings"
        vic.refresh_from_db()
        assert (vic.name, vic.email) == ("Vic L.", "vic@acme.example")

    def test_a_wrong_e_mail_is_refused_at_its_field(self, admin: Client) -> None:
        answer = admin.post("/settings", {"action": "profile", "name": "Ana", "email": "not one"})
        assert answer.status_code == 422
        assert 'id="email-error"' in answer.content.decode()

    def test_a_new_password_takes_the_present_one_and_ends_other_sessions(
        self, browse: Callable[[User], Client], vic: User
    ) -> None:
        here, elsewhere = browse(vic), browse(vic)
        new = "another sentence of four words"
        answer = here.post("/settings", {"action": "password", "old": PASSWORD, "new": new, "again": new})
        assert answer["Location"] == "/settings"
        vic.refresh_from_db()
        assert vic.check_password(new)
        assert here.get("/settings").status_code == 200
        assert elsewhere.get("/settings").status_code == 302

    @pytest.mark.parametrize(
        ("old", "new", "again", "field"),
        [
            ("wrong", "a good sentence it is", "a good sentence it is", "old"),
            (PASSWORD, "a good sentence it is", "a good sentence it was", "again"),
            (PASSWORD, "short", "short", "new"),
            (PASSWORD, "", "", "new"),
        ],
    )
    def test_a_password_that_cannot_be_changed_says_why(
        self, browse: Callable[[User], Client], vic: User, old: str, new: str, again: str, field: str
    ) -> None:
        answer = browse(vic).post("/settings", {"action": "password", "old": old, "new": new, "again": again})
        assert answer.status_code == 422
        html = answer.content.decode()
        assert f'id="{field}-error"' in html
        assert "data-focus" in html
        for typed in {old, new, again} - {""}:
            assert f'value="{typed}"' not in html
        vic.refresh_from_db()
        assert vic.check_password(PASSWORD)

    def test_the_look_is_kept_without_script(self, admin: Client) -> None:
        answer = admin.post(
            "/settings/look", {"po_theme": "dark", "po_density": "compact", "po_keys": "nonsense"}
        )
        assert answer.cookies["po_theme"].value == "dark"
        assert "po_keys" not in answer.cookies
        assert 'data-bs-theme="dark"' in admin.get("/settings").content.decode()

    def test_it_says_what_one_may_do(self, browse: Callable[[User], Client], cleo: User) -> None:
        words = text_of(browse(cleo).get("/settings"))
        assert "Viewer in the namespace elsewhere" in words


class TestTokens:
    def made(self, client: Client, **more: str) -> str:
        answer = client.post(
            "/settings/tokens",
            {"token_name": "deploy script", "lifetime": "90d", "role": "", "namespace": "", **more},
        )
        assert answer.status_code == 302, text_of(answer)
        found = re.search(r"po_[\w-]{43}", client.get("/settings/tokens").content.decode())
        assert found
        return found[0]

    def test_a_new_one_works_and_is_shown_once(self, browse: Callable[[User], Client], vic: User) -> None:
        client = browse(vic)
        token = self.made(client, role="viewer", namespace="shop")
        user = authenticate_token(token)
        assert user == vic
        row = ApiToken.objects.get()
        assert (row.name, row.scope, row.role and row.role.name) == ("deploy script", "shop", "viewer")
        assert row.expires_at is not None
        assert 89 <= (row.expires_at - timezone.now()).days <= 90
        assert token not in client.get("/settings/tokens").content.decode()
        assert token not in repr(dict(client.session))

    def test_the_page_with_it_is_not_kept_by_the_browser(self, admin: Client) -> None:
        admin.post("/settings/tokens", {"token_name": "x", "lifetime": "never"})
        assert "no-store" in admin.get("/settings/tokens")["Cache-Control"]

    def test_it_is_never_more_than_its_person_may(self, browse: Callable[[User], Client], vic: User) -> None:
        client = browse(vic)
        assert "Administrator" not in text_of(client.get("/settings/tokens"))
        answer = client.post(
            "/settings/tokens",
            {"token_name": "x", "lifetime": "90d", "role": "administrator", "namespace": ""},
        )
        assert answer.status_code == 422
        assert not ApiToken.objects.exists()

    @pytest.mark.parametrize(
        ("given", "field"),
        [
            ({"token_name": ""}, "token_name"),
            ({"lifetime": "10y"}, "lifetime"),
            ({"namespace": "Not one!"}, ""),
        ],
    )
    def test_errors(self, admin: Client, given: dict[str, str], field: str) -> None:
        answer = admin.post(
            "/settings/tokens", {"token_name": "x", "lifetime": "90d", "role": "", "namespace": "", **given}
        )
        assert answer.status_code == 422
        assert (f'href="#field-{field}"' if field else "no namespace") in answer.content.decode()

    def test_revoking_ends_ones_own_alone(
        self, browse: Callable[[User], Client], vic: User, ana: User
    ) -> None:
        mine, other = (create_token(user=user, name="n").token for user in (vic, ana))
        client = browse(vic)
        client.post(f"/settings/tokens/{mine.pk}/revoke")
        assert client.post(f"/settings/tokens/{other.pk}/revoke").status_code == 404
        mine.refresh_from_db()
        other.refresh_from_db()
        assert mine.revoked_at
        assert not other.revoked_at


class TestUsers:
    def link_on(self, client: Client, url: str) -> str:
        """The link that the page shows now, and never again."""
        answer = client.get(url)
        assert "no-store" in answer["Cache-Control"]
        found = re.search(r"/sign-in/([\w-]{40,})", answer.content.decode())
        assert found
        assert found[1] not in client.get(url).content.decode()
        return found[0]

    def test_an_invitation_with_role_and_groups_lets_one_in_once(self, admin: Client, ana: User) -> None:
        payments = create_group(name="Payments")
        grant(role="editor", group=payments)
        answer = admin.post(
            "/settings/access",
            {
                "action": "invite",
                "email": "Dora.Lee@acme.example",
                "name": "Dora Lee",
                "role": "viewer",
                "namespace": "shop",
                "groups": [payments.pk],
            },
        )
        assert answer["Location"] == "/settings/access"
        dora = User.objects.get(username="dora.lee")
        assert list(dora.grants.values_list("role__name", "scope")) == [("viewer", "shop")]
        assert can(dora, "connection.sync")
        assert not can(dora, "connection.write")
        url = self.link_on(admin, "/settings/access")
        words = text_of(admin.get("/settings/access"))
        assert "Open invitations" in words
        assert "invited by Ana Ruiz · expires in 7 d" in words
        page = Client().get(url)
        assert "Ana Ruiz invited you." in text_of(page)
        assert 'value="Dora Lee"' in page.content.decode()
        new = Client()
        given = {"name": "Dora Lee", "password": "four words of rain", "again": "four words of rain"}
        assert new.post(url, given)["Location"] == "/"
        assert new.get("/settings").status_code == 200
        assert Client().post(url, given).status_code == 410
        assert "Open invitations" not in text_of(admin.get("/settings/access"))

    def test_of_many_invitations_the_newest_are_shown(self, admin: Client) -> None:
        for n in range(51):
            invite(username=f"guest-{n}", role="editor")
        page = admin.get("/settings/access?q=guest-0").content.decode()
        listed, _box, found = page.partition("Find by name or e-mail")
        assert "The newest 50 of 51." in listed
        assert listed.count('value="withdraw"') == 50
        assert ">guest-50<" in listed
        assert ">guest-0<" not in listed
        assert listed.count("Editor") >= 50
        # Who is found is known as invited all the same.
        assert ">guest-0<" in found
        assert "Editor" in found
        assert "invited" in found

    def test_an_invitation_is_renewed_and_taken_back(self, admin: Client) -> None:
        admin.post("/settings/access", {"action": "invite", "username": "dora", "role": ""})
        first = self.link_on(admin, "/settings/access")
        invitation = SignInLink.objects.get()
        admin.post("/settings/access", {"action": "renew", "invitation": invitation.pk})
        second = self.link_on(admin, "/settings/access")
        assert Client().get(first).status_code == 410
        assert Client().get(second).status_code == 200
        # What was renewed meanwhile is another invitation.
        answer = admin.post("/settings/access", {"action": "withdraw", "invitation": invitation.pk})
        assert answer.status_code == 422
        assert "no such invitation" in text_of(answer)
        admin.post("/settings/access", {"action": "withdraw", "invitation": SignInLink.objects.get().pk})
        assert Client().get(second).status_code == 410
        assert not User.objects.filter(username="dora").exists()
        assert AuditEvent.objects.filter(verb="user.revoke-invitation", subject_label="dora").exists()

    def test_an_account_is_deactivated_in_the_list_and_activated_again(
        self, browse: Callable[[User], Client], admin: Client, vic: User
    ) -> None:
        his = browse(vic)
        admin.post("/settings/access", {"action": "deactivate", "user": vic.pk})
        assert his.get("/settings").status_code == 302
        assert "Inactive" in text_of(admin.get("/settings/access"))
        admin.post(f"/settings/access/users/{vic.pk}", {"action": "activate"})
        vic.refresh_from_db()
        assert vic.is_active

    def test_a_reset_link_for_who_has_a_password(self, admin: Client, vic: User) -> None:
        url = f"/settings/access/users/{vic.pk}"
        admin.post(url, {"action": "link"})
        reset = self.link_on(admin, url)
        words = text_of(Client().get(reset))
        assert "New password" in words
        assert "Welcome" not in words
        link = SignInLink.objects.get()
        assert link.expires_at - link.created_at == timedelta(hours=24)

    @pytest.mark.parametrize(
        ("given", "field"),
        [
            ({"username": "ana"}, "username"),
            ({"username": "no blanks"}, "username"),
            ({"username": ""}, "email"),
            ({"email": "Ana@acme.example"}, "email"),
            ({"email": "x"}, "email"),
        ],
    )
    def test_a_wrong_account_is_refused_at_its_field(
        self, admin: Client, given: dict[str, str], field: str
    ) -> None:
        answer = admin.post(
            "/settings/access",
            {"action": "invite", "username": "dora", "name": "", "email": "", "role": "", **given},
        )
        assert answer.status_code == 422
        assert f'id="{field}-error"' in answer.content.decode()
        assert User.objects.count() == 1

    def test_they_are_found_by_name(self, admin: Client, ben: User, vic: User) -> None:
        words = text_of(admin.get("/settings/access?q=okafor")).partition("Signed in")[2]
        assert "Ben Okafor" in words
        assert "Vic" not in words

    def test_roles_are_given_for_a_namespace_and_taken_back(self, admin: Client, no_access: User) -> None:
        url = f"/settings/access/users/{no_access.pk}"
        admin.post(url, {"action": "grant", "role": "editor", "scope_type": "namespace", "scope": "Shop"})
        row = Grant.objects.get(user=no_access)
        assert (row.role.name, row.scope_type, row.scope) == ("editor", "namespace", "shop")
        assert "Editor in the namespace shop" in text_of(admin.get(url))
        admin.post(url, {"action": "revoke", "grant": row.pk})
        assert not Grant.objects.filter(user=no_access).exists()

    @pytest.mark.parametrize(
        "given",
        [
            {"role": "", "scope_type": "all", "scope": ""},
            {"role": "pope", "scope_type": "all", "scope": ""},
            {"role": "viewer", "scope_type": "namespace", "scope": "Not one!"},
            {"role": "viewer", "scope_type": "query", "scope": "kind:"},
            {"role": "viewer", "scope_type": "all", "scope": "text"},
        ],
    )
    def test_a_wrong_grant_is_refused_with_a_summary(
        self, admin: Client, no_access: User, given: dict[str, str]
    ) -> None:
        answer = admin.post(f"/settings/access/users/{no_access.pk}", {"action": "grant", **given})
        assert answer.status_code == 422
        assert "data-focus" in answer.content.decode()
        assert not Grant.objects.filter(user=no_access).exists()

    def test_the_last_administrator_stays(self, admin: Client, ana: User) -> None:
        url = f"/settings/access/users/{ana.pk}"
        answer = admin.post(url, {"action": "revoke", "grant": Grant.objects.get(user=ana).pk})
        assert answer.status_code == 422
        assert "without an administrator" in text_of(answer)
        for page in (url, "/settings/access"):
            answer = admin.post(page, {"action": "deactivate", "user": ana.pk})
            assert answer.status_code == 422
            assert "without an administrator" in text_of(answer)
        ana.refresh_from_db()
        assert ana.is_active

    def test_an_administrator_says_whether_an_address_is_verified(self, admin: Client, vic: User) -> None:
        url = f"/settings/access/users/{vic.pk}"
        given = {"action": "facts", "name": "Vic", "email": "vic@corp.example", "entity": ""}
        for said in ({}, {"is_email_verified": "true"}):
            admin.post(url, {**given, **said})
            vic.refresh_from_db()
            assert (vic.email, vic.is_email_verified) == ("vic@corp.example", bool(said))
        admin.post(url, {**given, "email": "", "is_email_verified": "true"})
        vic.refresh_from_db()
        assert not vic.is_email_verified

    def test_an_account_is_tied_to_its_person(self, admin: Client, vic: User) -> None:
        say("yaml:a", claim("user:vic", {"memberOf": []}))
        url = f"/settings/access/users/{vic.pk}"
        given = {"action": "facts", "name": "Vic", "email": ""}
        answer = admin.post(url, {**given, "entity": "user:default/nobody"})
        assert answer.status_code == 422
        assert 'id="entity-error"' in answer.content.decode()
        admin.post(url, {**given, "entity": "user:default/vic"})
        vic.refresh_from_db()
        assert vic.entity_uid == Entity.objects.get(ref="user:default/vic").uid
        admin.post(url, {**given, "entity": ""})
        vic.refresh_from_db()
        assert vic.entity_uid is None

    def test_an_administrator_revokes_others_tokens(self, admin: Client, vic: User) -> None:
        token = create_token(user=vic, name="old job").token
        url = f"/settings/access/users/{vic.pk}"
        assert "old job" in text_of(admin.get(url))
        admin.post(url, {"action": "token", "token": token.pk})
        token.refresh_from_db()
        assert token.revoked_at


class TestGroups:
    def test_made_filled_granted_and_removed(self, admin: Client, no_access: User) -> None:
        answer = admin.post("/settings/access/groups", {"name": "Payments"})
        group = Group.objects.get()
        url = answer["Location"]
        assert url == f"/settings/access/groups/{group.pk}"
        admin.post(url, {"action": "add", "user": no_access.pk})
        admin.post(url, {"action": "grant", "role": "viewer", "scope_type": "all", "scope": ""})
        assert can(no_access, "entity.read")
        assert "through Payments" in text_of(admin.get(f"/settings/access/users/{no_access.pk}"))
        admin.post(url, {"action": "drop", "user": no_access.pk})
        assert not can(no_access, "entity.read")
        assert admin.post(url, {"action": "delete"})["Location"] == "/settings/access/groups"
        assert not Group.objects.exists()
        assert not Grant.objects.exclude(user__username="ana").exists()

    def test_a_name_is_taken_once(self, admin: Client) -> None:
        create_group(name="Payments")
        answer = admin.post("/settings/access/groups", {"name": "Payments"})
        assert answer.status_code == 422
        assert 'id="name-error"' in answer.content.decode()

    def test_roles_say_what_they_allow(self, admin: Client) -> None:
        words = text_of(admin.get("/settings/access/roles"))
        assert "connection.sync" in words
        assert "Start and cancel sync runs" in words


class TestPacks:
    def test_what_was_edited_is_marked_and_goes_back(self, admin: Client) -> None:
        assert "Edited" not in text_of(admin.get("/settings/packs"))
        row = Page.objects.get(name="home")
        PAGES.edit("home", {**row.spec, "title": "Our own"}, by="tests")
        answer = admin.get("/settings/packs")
        assert "1 edited" in text_of(answer)
        admin.post("/settings/packs/restore", {"kind": "Page", "name": "home"})
        row.refresh_from_db()
        assert row.spec == row.pristine
        assert AuditEvent.objects.filter(verb="pack.restore").count() == 1
        admin.post("/settings/packs/restore", {"kind": "Page", "name": "home"})
        assert AuditEvent.objects.filter(verb="pack.restore").count() == 1

    @pytest.mark.parametrize(("kind", "name"), [("Page", "none"), ("Pudding", "home"), ("", "")])
    def test_what_is_not_there_is_not_restored(self, admin: Client, kind: str, name: str) -> None:
        assert admin.post("/settings/packs/restore", {"kind": kind, "name": name}).status_code == 404


class TestSample:
    def test_one_click_loads_it_and_one_removes_every_row(
        self, admin: Client, monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Any
    ) -> None:
        settings.PORTICO_HOME = tmp_path
        sent: list[int] = []
        monkeypatch.setattr(
            "integrations.tasks.execute_run.delay_on_commit",
            lambda *, run_id: sent.append(run_id),
            raising=False,
        )
        assert "Load the sample company" in text_of(admin.get("/settings/sample"))
        admin.post("/sample")
        assert Connection.objects.filter(is_sample=True).count() == len(sent) == 5
        answer = admin.get("/settings/sample")
        assert "Remove every row of it" in text_of(answer)
        assert "data-confirm=" in answer.content.decode()
        assert admin.post("/sample", {"action": "remove"})["Location"] == "/"
        assert not Connection.objects.exists()


class TestAudit:
    def test_it_is_filtered_and_paged(self, admin: Client, ana: User, ben: User) -> None:
        for number in range(60):
            record_audit("entity.update", changes={"n": [number, number + 1]}, actor=ben)
        record_audit("entity.delete", actor=ana)
        first = admin.get("/settings/audit?actor=ben&verb=entity.update")
        assert text_of(first).count("entity.update") >= 50
        assert "entity.delete" not in text_of(first).partition("Clear filters")[2]
        following = re.search(r'href="(\?[^"]*cursor=[^"]+)"', first.content.decode())
        assert following
        second = admin.get("/settings/audit" + following[1].replace("&amp;", "&"))
        assert 10 <= text_of(second).partition("Clear filters")[2].count("entity.update") < 20
        assert "Nothing matches" in text_of(admin.get("/settings/audit?day=2001-01-01"))

    @pytest.mark.parametrize("query", ["day=nonsense", "day=2001-13-45", "cursor=broken"])
    def test_a_broken_address_breaks_nothing(self, admin: Client, query: str) -> None:
        assert admin.get(f"/settings/audit?{query}").status_code in (200, 302)


def test_about_says_version_and_health(admin: Client) -> None:
    words = text_of(admin.get("/settings/about"))
    for part in ("Portico", "PostgreSQL", "Database", "Redis", "Workers"):
        assert part in words


# --- who may ----------------------------------------------------------------------------------------------------

FOR_ADMINISTRATORS = ["access", "access/groups", "access/roles", "packs", "sample", "audit"]
WRITING = ["access", "access/groups", "access/users/{user}", "access/groups/{group}", "packs/restore"]


@pytest.mark.parametrize("who", ["vic", "ben", "cleo"])
def test_only_administrators_see_and_change_what_concerns_all(
    browse: Callable[[User], Client], ana: User, request: pytest.FixtureRequest, who: str
) -> None:
    client = browse(request.getfixturevalue(who))
    group = create_group(name="Payments")
    before = (User.objects.count(), Grant.objects.count(), Role.objects.count())
    for url in FOR_ADMINISTRATORS:
        assert client.get(f"/settings/{url}").status_code == 403, url
        assert f'href="/settings/{url}"' not in client.get("/settings").content.decode(), url
    for url in WRITING:
        given = {"action": "link", "username": "x", "name": "x", "kind": "Page"}
        answer = client.post(f"/settings/{url.format(user=ana.pk, group=group.pk)}", given)
        assert answer.status_code == 403, url
    assert client.post("/sample").status_code == 403
    assert client.get("/settings/about").status_code == 200
    assert (User.objects.count(), Grant.objects.count(), Role.objects.count()) == before


def test_nobody_gets_in_without_signing_in(db: None) -> None:
    for url in ["", "/tokens", "/look", "/about", *(f"/{url}" for url in FOR_ADMINISTRATORS)]:
        assert Client().post(f"/settings{url}")["Location"].startswith("/sign-in"), url


def test_who_may_see_users_but_not_change_them(
    browse: Callable[[User], Client], no_access: User, vic: User, roles: Any
) -> None:
    role = roles["viewer"]
    role.spec = {**role.spec, "verbs": ["user.read"]}
    role.save()
    grant(role="viewer", user=no_access)
    client = browse(no_access)
    url = f"/settings/access/users/{vic.pk}"
    answer = client.get(url)
    assert answer.status_code == 200
    main = answer.content.decode().partition("<main")[2]
    assert "Save account" not in main
    assert "Take back" not in main
    assert client.post(url, {"action": "link"}).status_code == 403
