"""Signing in through an identity provider in a browser, against a real one, and the page of its settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client

from access.models import AuditEvent, Group, Identity, IdentityProvider, User
from access.permissions import can
from access.services import (
    change_user,
    create_group,
    identity_provider,
    invite,
    make_sign_in_link,
    provider_secret,
    save_provider,
)
from portal.views.identity import AT_ONCE, LONGEST
from tests.integrations.openid_servers import RealProvider, run_provider
from tests.portal.test_settings_pages import text_of

pytestmark = [pytest.mark.usefixtures("fresh_cache", "core_pack"), pytest.mark.server]
SETTINGS = "/settings/access/sign-in"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealProvider]:
    with run_provider(tmp_path_factory.mktemp("provider")) as provider:
        yield provider


@pytest.fixture(autouse=True)
def _allowed(settings: Any) -> None:
    settings.PORTICO_OUTBOUND_ALLOW = ["127.0.0.1"]


@pytest.fixture
def facts(real: RealProvider) -> dict[str, Any]:
    return {
        "label": "Acme sign-in",
        "issuer": real.url,
        "client_id": "portico",
        "scopes": "openid email profile",
        "groups_claim": "groups",
        "roles": {"*": "viewer", "platform": "administrator"},
        "access_groups": {},
        "email_domains": ["acme.example"],
        "makes_accounts": True,
        "trusts_email": False,
        "is_active": True,
    }


@pytest.fixture
def provider(ana: User, facts: dict[str, Any]) -> IdentityProvider:
    save_provider(facts, secret="hush", by=ana)
    found = identity_provider()
    assert found
    return found


@pytest.fixture
def ada(real: RealProvider) -> str:
    """Somebody who has an account at the provider."""
    knows(real)
    return "ada"


def knows(real: RealProvider, **claims: Any) -> None:
    said = {"email": "ada@acme.example", "email_verified": True, "name": "Ada Park", "groups": ["dev"]}
    real.knows("ada", preferred_username="ada", **(said | claims))


def leave(client: Client, url: str = "/sign-in/provider") -> str:
    """Press the button: where the browser is sent."""
    answer = client.get(url)
    assert answer.status_code == 302, text_of(answer)
    return str(answer["Location"])


def come_back(client: Client, address: str) -> Any:
    parts = urlsplit(address)
    return client.get(f"{parts.path}?{parts.query}")


def go_through(client: Client, real: RealProvider, url: str = "/sign-in/provider") -> Any:
    return come_back(client, real.sign_in(leave(client, url), "ada"))


@pytest.mark.usefixtures("provider", "ada")
class TestSignIn:
    def test_one_who_has_an_account_there_is_in(self, real: RealProvider) -> None:
        client = Client()
        page = client.get("/sign-in?next=/problems")
        assert "Continue with Acme sign-in" in text_of(page)
        assert 'href="/sign-in/provider?next=%2Fproblems"' in page.content.decode()
        answer = go_through(client, real, "/sign-in/provider?next=/problems")
        assert answer["Location"] == "/problems"
        assert client.get("/problems").status_code == 200
        user = User.objects.get(username="ada")
        assert (user.name, user.email, user.is_email_verified) == ("Ada Park", "ada@acme.example", True)
        assert "Password" not in text_of(client.get("/settings"))

    def test_groups_there_give_a_role_and_leaving_them_lowers_it(self, real: RealProvider) -> None:
        knows(real, groups=["platform"])
        client = Client()
        go_through(client, real)
        assert client.get("/settings/access").status_code == 200
        client.post("/sign-out")
        knows(real, groups=["dev"])
        go_through(client, real)
        assert client.get("/settings/access").status_code == 403
        assert not can(User.objects.get(username="ada"), "user.write")

    def test_where_one_wanted_to_go_is_a_page_of_ours(self, real: RealProvider) -> None:
        assert go_through(Client(), real, "/sign-in/provider?next=//evil.example/")["Location"] == "/"

    def test_a_state_works_once(self, real: RealProvider) -> None:
        client = Client()
        back = real.sign_in(leave(client), "ada")
        assert come_back(client, back).status_code == 302
        client.post("/sign-out")
        answer = come_back(client, back)
        assert answer.status_code == 401
        assert "was used before" in text_of(answer)
        assert client.get("/settings").status_code == 302

    def test_a_sign_in_that_another_browser_began_is_refused(self, real: RealProvider) -> None:
        """Else somebody could be signed in as another by a link."""
        back = real.sign_in(leave(Client()), "ada")
        victim = Client()
        leave(victim)
        assert come_back(victim, back).status_code == 401
        assert victim.get("/settings").status_code == 302

    def test_the_nonce_of_another_sign_in_is_refused(self, real: RealProvider) -> None:
        """A code that was stolen elsewhere does not fit to what was begun here."""
        client = Client()
        stolen = parse_qs(urlsplit(real.sign_in(leave(Client()), "ada")).query)["code"][0]
        state = parse_qs(urlsplit(leave(client)).query)["state"][0]
        answer = client.get("/sign-in/provider/callback", {"state": state, "code": stolen})
        assert answer.status_code == 401
        assert "nonce" in text_of(answer)
        assert not Identity.objects.exists()

    def test_several_may_be_begun_in_one_browser(self, real: RealProvider) -> None:
        client = Client()
        addresses = [leave(client) for _each in range(AT_ONCE + 1)]
        assert come_back(client, real.sign_in(addresses[0], "ada")).status_code == 401
        assert come_back(client, real.sign_in(addresses[1], "ada")).status_code == 302

    def test_what_is_given_up_is_soon_forgotten_and_a_session_is_not(self, real: RealProvider) -> None:
        client = Client()
        back = real.sign_in(leave(client), "ada")
        assert client.session.get_expiry_age() == LONGEST
        come_back(client, back)
        assert client.session.get_expiry_age() > 24 * 3600

    def test_one_that_took_too_long_is_refused(
        self, real: RealProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = Client()
        monkeypatch.setattr("portal.views.identity.LONGEST", -1)
        assert go_through(client, real).status_code == 401

    def test_one_who_does_not_want_to_is_back_at_the_sign_in(self, real: RealProvider) -> None:
        client = Client()
        url = leave(client)
        state = parse_qs(urlsplit(url).query)["state"][0]
        # This provider forgets to send the state, which a provider must.
        answer = come_back(client, f"{real.refuse(url)}&state={state}")
        assert answer.status_code == 401
        assert "did not sign you in: access_denied" in text_of(answer)

    def test_what_a_stranger_writes_into_the_address_is_not_shown(self) -> None:
        client = Client()
        state = parse_qs(urlsplit(leave(client)).query)["state"][0]
        answer = client.get(
            "/sign-in/provider/callback", {"state": state, "error": "<b>call 555-0100", "code": "x"}
        )
        assert answer.status_code == 401
        assert "555" not in answer.content.decode()

    def test_an_unverified_address_does_not_bring_the_account_of_another(
        self, real: RealProvider, provider: IdentityProvider, facts: dict[str, Any], ana: User
    ) -> None:
        save_provider({**facts, "email_domains": []}, by=ana)
        knows(real, email="ana@acme.example", email_verified=False)
        client = Client()
        answer = go_through(client, real)
        assert answer.status_code == 403
        assert "not certain that it is yours" in text_of(answer)
        assert client.get("/settings").status_code == 302
        assert not ana.identities.exists()

    def test_a_domain_that_is_not_ours_is_refused(self, real: RealProvider) -> None:
        knows(real, email="ada@evil.example")
        answer = go_through(Client(), real)
        assert answer.status_code == 403
        assert "Only verified addresses of acme.example" in text_of(answer)

    def test_an_inactive_account_is_refused(self, real: RealProvider, ana: User) -> None:
        go_through(Client(), real)
        change_user(User.objects.get(username="ada"), is_active=False, by=ana)
        client = Client()
        assert go_through(client, real).status_code == 403
        assert client.get("/settings").status_code == 302

    def test_a_secret_that_is_wrong_there_says_who_can_mend_it(
        self, real: RealProvider, provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        IdentityProvider.objects.update(issuer="http://127.0.0.1:9")
        answer = Client().get("/sign-in/provider")
        assert answer.status_code == 503
        assert "127.0.0.1:9" in text_of(answer)
        assert "Continue with Acme sign-in" in text_of(answer)

    def test_nobody_comes_through_one_that_is_switched_off(
        self, real: RealProvider, facts: dict[str, Any], ana: User
    ) -> None:
        client = Client()
        back = real.sign_in(leave(client), "ada")
        save_provider({**facts, "is_active": False}, by=ana)
        assert come_back(client, back).status_code == 404
        assert Client().get("/sign-in/provider").status_code == 404
        assert "Continue with" not in text_of(Client().get("/sign-in"))

    def test_an_invitation_is_taken_through_the_provider(self, real: RealProvider, ana: User) -> None:
        group = create_group(name="Payments")
        made = invite(username="dora", name="Dora Lee", role="editor", groups=[group], by=ana)
        client = Client()
        page = client.get(f"/sign-in/{made.text}")
        assert "Continue with Acme sign-in" in text_of(page)
        answer = go_through(client, real, f"/sign-in/{made.text}/provider")
        assert answer["Location"] == "/"
        identity = Identity.objects.get()
        assert identity.user == made.user
        assert can(made.user, "connection.sync")
        assert Client().get(f"/sign-in/{made.text}").status_code == 410
        assert Client().get(f"/sign-in/{made.text}/provider").status_code == 410

    def test_a_link_that_was_used_meanwhile_lets_nobody_in(self, real: RealProvider, vic: User) -> None:
        text = make_sign_in_link(vic)
        client = Client()
        back = real.sign_in(leave(client, f"/sign-in/{text}/provider"), "ada")
        words = "four words of rain"
        Client().post(f"/sign-in/{text}", {"name": "Vic", "password": words, "again": words})
        assert come_back(client, back).status_code == 410
        assert not Identity.objects.exists()


class TestSettings:
    GIVEN = {
        "label": "Acme",
        "client_id": "portico",
        "client_secret": "hush-hush",
        "scopes": "openid email profile",
        "groups_claim": "groups",
        "roles__key": ["*", "platform"],
        "roles__value": ["viewer", "administrator"],
        "access_groups__key": ["pay"],
        "access_groups__value": ["Payments"],
        "email_domains": ["@ACME.example"],
        "makes_accounts": "true",
        "is_active": "true",
    }

    @pytest.fixture
    def admin(self, browse: Callable[[User], Client], ana: User) -> Client:
        create_group(name="Payments")
        return browse(ana)

    def test_it_is_checked_and_kept_with_its_secret_sealed(self, admin: Client, real: RealProvider) -> None:
        assert "/sign-in/provider/callback" in text_of(admin.get(SETTINGS))
        answer = admin.post(SETTINGS, {**self.GIVEN, "issuer": f"{real.url}/"})
        assert answer.status_code == 302, text_of(answer)
        found = identity_provider()
        assert found
        assert found.issuer == real.url
        assert found.roles == {"*": "viewer", "platform": "administrator"}
        assert found.access_groups == {"pay": "Payments"}
        assert (found.email_domains, found.makes_accounts, found.trusts_email) == (
            ["acme.example"],
            True,
            False,
        )
        assert provider_secret() == "hush-hush"
        html = admin.get(SETTINGS).content.decode()
        assert "hush" not in html
        assert 'value="platform"' in html
        # An empty field keeps the secret, and it can be forgotten.
        admin.post(SETTINGS, {**self.GIVEN, "issuer": real.url, "client_secret": ""})
        assert provider_secret() == "hush-hush"
        admin.post(
            SETTINGS, {**self.GIVEN, "issuer": real.url, "client_secret": "", "forget": "client_secret"}
        )
        assert provider_secret() == ""

    @pytest.mark.parametrize(
        ("given", "field"),
        [
            ({"issuer": "http://127.0.0.1:9"}, "issuer"),
            ({"issuer": "no address"}, "issuer"),
            ({"issuer": "https://[login.acme.example"}, "issuer"),
            ({"issuer": "http://login.acme.example"}, "issuer"),
            ({"roles__value": ["viewer", "pope"]}, "roles"),
            ({"access_groups__value": ["None"]}, "access_groups"),
            ({"client_id": ""}, "client_id"),
        ],
    )
    def test_what_cannot_work_is_refused_at_its_field(
        self, admin: Client, real: RealProvider, given: dict[str, Any], field: str
    ) -> None:
        answer = admin.post(SETTINGS, {**self.GIVEN, "issuer": real.url, **given})
        assert answer.status_code == 422
        assert f'id="{field}-error"' in answer.content.decode()
        assert "hush" not in answer.content.decode()
        assert identity_provider() is None

    def test_it_is_removed(self, admin: Client, provider: IdentityProvider) -> None:
        admin.post(SETTINGS, {"action": "remove"})
        assert identity_provider() is None
        assert AuditEvent.objects.filter(verb="identity-provider.delete").exists()

    def test_only_administrators_say_whom_to_believe(
        self, browse: Callable[[User], Client], ben: User, provider: IdentityProvider, roles: Any
    ) -> None:
        role = roles["editor"]
        role.spec = {**role.spec, "verbs": ["user.read", "user.write"]}
        role.save()
        client = browse(ben)
        assert client.get("/settings/access").status_code == 200
        assert SETTINGS not in client.get("/settings/access").content.decode()
        assert client.get(SETTINGS).status_code == 403
        assert client.post(SETTINGS, {"action": "remove"}).status_code == 403
        assert identity_provider()

    def test_an_account_is_disconnected(
        self, admin: Client, provider: IdentityProvider, real: RealProvider
    ) -> None:
        knows(real)
        go_through(Client(), real)
        ada = User.objects.get(username="ada")
        url = f"/settings/access/users/{ada.pk}"
        page = admin.get(url)
        assert re.search(r"Signs in through\s+ada@acme\.example", text_of(page))
        admin.post(url, {"action": "disconnect", "identity": Identity.objects.get().pk})
        assert not Identity.objects.exists()
        assert Group.objects.get().name == "Payments"
        assert not can(ada, "entity.read")
