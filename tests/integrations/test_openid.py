"""The conversation with an identity provider, against one that holds us to the letter and lies on demand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from joserfc.jwk import OctKey, RSAKey

from access.models import IdentityProvider
from access.services import Person
from integrations.errors import Misconfigured, SourceError
from integrations.openid import SignInFailed, begin_sign_in, check_provider, finish_sign_in
from tests.integrations.openid_servers import CLIENT_ID, SECRET, StrictProvider, run_strict_provider

BACK = "https://portal.example/sign-in/provider/callback"

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("fresh_cache")]


@pytest.fixture(autouse=True)
def _allowed(settings: Any) -> None:
    settings.PORTICO_OUTBOUND_ALLOW = ["127.0.0.1"]


@pytest.fixture
def strict() -> Iterator[StrictProvider]:
    with run_strict_provider() as provider:
        yield provider


@pytest.fixture
def provider(strict: StrictProvider) -> IdentityProvider:
    return IdentityProvider(label="Acme", issuer=strict.url, client_id=CLIENT_ID)


def come(strict: StrictProvider, provider: IdentityProvider, **given: Any) -> Person:
    begun = begin_sign_in(provider, redirect_uri=BACK)
    code, state = strict.sign_in(begun.url)
    assert state == begun.state
    known = {
        "secret": SECRET,
        "code": code,
        "nonce": begun.nonce,
        "verifier": begun.verifier,
        "redirect_uri": BACK,
    }
    return finish_sign_in(provider, **known | given)


def test_who_comes_is_who_the_provider_says(strict: StrictProvider, provider: IdentityProvider) -> None:
    strict.says = {
        "email": "ada@acme.example",
        "email_verified": True,
        "name": "Ada",
        "preferred_username": "ada",
        "groups": ["platform", "all"],
    }
    assert come(strict, provider) == Person(
        issuer=strict.url,
        subject="ada",
        email="ada@acme.example",
        is_email_verified=True,
        name="Ada",
        username="ada",
        groups=frozenset({"platform", "all"}),
    )
    assert "/userinfo" not in strict.asked  # nothing was missing


def test_each_sign_in_has_secrets_of_its_own(provider: IdentityProvider) -> None:
    begun = [begin_sign_in(provider, redirect_uri=BACK) for _each in range(2)]
    assert len({secret for one in begun for secret in (one.state, one.nonce, one.verifier)}) == 6
    assert not any(one.verifier in one.url or one.verifier in repr(one) for one in begun)


@pytest.mark.parametrize(
    ("says", "why"),
    [
        ({"nonce": "another sign-in's"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"aud": "another program"}, "aud"),
        ({"aud": ["another program", "a third"]}, "aud"),
        ({"aud": None}, "aud"),
        ({"aud": [CLIENT_ID, "another program"]}, "another program"),
        ({"aud": [CLIENT_ID, "another program"], "azp": "another program"}, "another program"),
        ({"azp": "another program"}, "another program"),
        ({"iss": "https://evil.example"}, "iss"),
        ({"iss": None}, "iss"),
        ({"exp": 1_000_000_000}, "expired"),
        ({"exp": None}, "exp"),
        ({"exp": "never"}, "exp"),
        ({"iat": 9_000_000_000}, "future"),
        ({"nbf": 9_000_000_000}, "not yet"),
        ({"sub": None}, "sub"),
        ({"sub": ""}, "sub"),
    ],
)
def test_a_token_that_does_not_hold_is_refused(
    strict: StrictProvider, provider: IdentityProvider, says: dict[str, Any], why: str
) -> None:
    strict.says = says
    with pytest.raises(SignInFailed) as caught:
        come(strict, provider)
    assert why in caught.value.message


def test_our_client_among_others_is_enough_if_it_asked(
    strict: StrictProvider, provider: IdentityProvider
) -> None:
    strict.says = {"aud": [CLIENT_ID, "an API"], "azp": CLIENT_ID}
    assert come(strict, provider).subject == "ada"


def test_a_token_is_good_for_its_time_and_a_minute_for_the_clocks(
    strict: StrictProvider, provider: IdentityProvider
) -> None:
    now = timezone.now()
    come(strict, provider, now=now + timedelta(seconds=300 + 50))
    come(strict, provider, now=now - timedelta(seconds=50))
    for wrong in (timedelta(seconds=300 + 61), -timedelta(seconds=70)):
        with pytest.raises(SignInFailed):
            come(strict, provider, now=now + wrong)


def test_only_a_key_that_the_provider_publishes_signs(
    strict: StrictProvider, provider: IdentityProvider
) -> None:
    strict.signs_with = RSAKey.generate_key(2048, {"kid": "one"})
    with pytest.raises(SignInFailed):
        come(strict, provider)
    # A key under another name than any that is published.
    strict.signs_with, strict.header = None, {"kid": "two"}
    with pytest.raises(SignInFailed, match="two"):
        come(strict, provider)
    # A signature with a secret that others know too, and none at all.
    for algorithm in ("HS256", "none"):
        strict.signs_with, strict.header = OctKey.import_key(SECRET), {"alg": algorithm}
        with pytest.raises(SignInFailed, match="Algorithm"):
            come(strict, provider)
    strict.signs_with, strict.header = None, {}
    come(strict, provider)


def test_a_key_that_was_changed_there_is_known_at_once(
    strict: StrictProvider, provider: IdentityProvider
) -> None:
    come(strict, provider)
    strict.key = RSAKey.generate_key(2048, {"kid": "two", "use": "sig"})
    strict.header = {"kid": "two"}
    assert come(strict, provider).subject == "ada"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"verifier": "of another sign-in"}, "Start again"),
        ({"code": "made up"}, "Start again"),
        ({"redirect_uri": "https://evil.example/"}, "Start again"),
        ({"secret": "wrong"}, "client id or secret"),
        ({"nonce": "of another sign-in"}, "nonce"),
    ],
)
def test_what_was_not_begun_here_is_refused(
    strict: StrictProvider, provider: IdentityProvider, given: dict[str, str], words: str
) -> None:
    with pytest.raises(SignInFailed, match=words):
        come(strict, provider, **given)


def test_a_code_works_once(strict: StrictProvider, provider: IdentityProvider) -> None:
    begun = begin_sign_in(provider, redirect_uri=BACK)
    code, _state = strict.sign_in(begun.url)
    known = {"secret": SECRET, "nonce": begun.nonce, "verifier": begun.verifier, "redirect_uri": BACK}
    finish_sign_in(provider, code=code, **known)
    with pytest.raises(SignInFailed, match="used before"):
        finish_sign_in(provider, code=code, **known)


class TestWhatElseItSays:
    def test_claims_that_the_token_lacks_come_from_userinfo(
        self, strict: StrictProvider, provider: IdentityProvider
    ) -> None:
        strict.says = {"name": "Ada"}
        strict.info = {"name": "Somebody", "email": "ada@acme.example", "groups": ["platform"]}
        found = come(strict, provider)
        assert (found.name, found.email, found.groups) == ("Ada", "ada@acme.example", {"platform"})

    def test_userinfo_of_another_person_is_not_mixed_in(
        self, strict: StrictProvider, provider: IdentityProvider
    ) -> None:
        strict.info = {"sub": "eve", "email": "eve@acme.example", "email_verified": True}
        assert come(strict, provider).email == ""

    @pytest.mark.parametrize(
        ("claim", "says", "groups"),
        [
            ("groups", {"groups": ["a", "b", 3, None]}, {"a", "b"}),
            ("groups", {"groups": "a"}, {"a"}),
            ("groups", {}, set()),
            ("groups", {"groups": []}, set()),
            ("realm_access.roles", {"realm_access": {"roles": ["a"]}}, {"a"}),
            ("https://acme.example/groups", {"https://acme.example/groups": ["a"]}, {"a"}),
            ("", {"groups": ["a"]}, set()),
            # Too many for a token: it says where to ask, which is not that there are none.
            ("groups", {"_claim_names": {"groups": "src1"}}, None),
        ],
    )
    def test_groups(
        self,
        strict: StrictProvider,
        provider: IdentityProvider,
        claim: str,
        says: dict[str, Any],
        groups: set[str] | None,
    ) -> None:
        provider.groups_claim, strict.says = claim, says
        assert come(strict, provider).groups == groups

    @pytest.mark.parametrize(
        ("said", "verified"),
        [(True, True), (False, False), ("true", True), ("false", False), (None, None), (1, None)],
    )
    def test_whether_the_address_is_verified(
        self, strict: StrictProvider, provider: IdentityProvider, said: Any, verified: bool | None
    ) -> None:
        strict.says = {"email": "ada@acme.example", "email_verified": said}
        assert come(strict, provider).is_email_verified is verified


class TestDiscovery:
    def test_an_issuer_is_asked_rarely(self, strict: StrictProvider, provider: IdentityProvider) -> None:
        for _each in range(3):
            begin_sign_in(provider, redirect_uri=BACK)
        assert strict.asked == ["/.well-known/openid-configuration"]
        check_provider(provider.issuer)
        assert len(strict.asked) == 2

    @pytest.mark.parametrize(
        ("published", "words"),
        [
            ({"issuer": "https://other.example"}, "https://other.example"),
            ({"token_endpoint": "ftp://127.0.0.1/token"}, "token_endpoint"),
        ],
    )
    def test_what_is_no_provider_under_this_address_is_refused(
        self, strict: StrictProvider, provider: IdentityProvider, published: dict[str, str], words: str
    ) -> None:
        strict.published = published
        with pytest.raises(Misconfigured, match=words):
            check_provider(provider.issuer)

    def test_without_tls_there_is_no_sign_in(self) -> None:
        with pytest.raises(Misconfigured, match="https://"):
            check_provider("http://login.acme.example")

    def test_the_guard_holds_for_providers_too(self, strict: StrictProvider, settings: Any) -> None:
        settings.PORTICO_OUTBOUND_ALLOW = []
        with pytest.raises(SourceError, match="PORTICO_OUTBOUND_ALLOW"):
            check_provider(strict.url)

    def test_a_slash_at_the_end_makes_no_difference(
        self, strict: StrictProvider, provider: IdentityProvider
    ) -> None:
        strict.published = {"issuer": f"{strict.url}/"}
        strict.says = {"iss": f"{strict.url}/"}
        assert replace(come(strict, provider), groups=None).issuer == strict.url
