"""The conversation with an OpenID Connect provider: authorization code flow with PKCE, state and nonce.

What it says of a person is believed only if it stands in an ID token that it signed, for us, just now, in
answer to this very sign-in. All requests go through the guarded client.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from django.core.cache import cache
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import KeySet
from redis.exceptions import RedisError

from access.models import IdentityProvider, User
from access.services import Person, save_provider
from base.errors import DomainError, FieldError, InvalidInput
from base.paths import value_at
from integrations.errors import Misconfigured, SourceError
from integrations.http import Answer, HttpClient, HttpLimits
from integrations.services.network import outbound_policy

# A person waits for it.
LIMITS = HttpLimits(connect=5, read=10, total=20, patience=2, attempts=2, body=1024 * 1024)
LEEWAY = 60  # seconds by which two clocks may differ
KEPT = 600  # seconds for which what a provider publishes is not asked again
# Signatures with a key that the provider alone has. Never `none`, never one with a shared secret.
ALGORITHMS = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519",
]  # fmt: skip
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
T = TypeVar("T")


class SignInFailed(DomainError):
    """A sign-in through the provider did not come to its end; the sentence says why and what to do."""

    code = "sign-in-failed"
    status = 401
    title = gettext_lazy("Sign-in failed")


@dataclass(frozen=True)
class Begun:
    """A sign-in that was begun: what has to be known when the person comes back.

    :ivar url: where to send them.
    :ivar state: comes back with them, and proves that they left from here.
    :ivar nonce: comes back inside the ID token.
    :ivar verifier: proves to the provider that it is us who began.
    """

    url: str
    state: str
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)


def begin_sign_in(provider: IdentityProvider, *, redirect_uri: str) -> Begun:
    """Begin a sign-in.

    :raises SourceError: if the provider cannot be asked where it signs people in.
    """
    known = _run(lambda http: _discover(http, provider.issuer))
    state, nonce, verifier = (secrets.token_urlsafe(32) for _each in range(3))
    query = {
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": redirect_uri,
        "scope": provider.scopes,
        "state": state,
        "nonce": nonce,
        "code_challenge": challenge_of(verifier),
        "code_challenge_method": "S256",
    }
    endpoint = known["authorization_endpoint"]
    url = f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(query)}"
    return Begun(url, state, nonce, verifier)


def finish_sign_in(
    provider: IdentityProvider,
    *,
    secret: str,
    code: str,
    nonce: str,
    verifier: str,
    redirect_uri: str,
    now: datetime | None = None,
) -> Person:
    """Turn the code that somebody came back with into who they are.

    :raises SignInFailed: if the provider does not take the code, or its ID token does not hold.
    :raises SourceError: if the provider cannot be asked.
    """

    async def ask(http: HttpClient) -> Person:
        known = await _discover(http, provider.issuer)
        answer = await _exchange(
            http,
            known,
            provider,
            secret,
            {"code": code, "redirect_uri": redirect_uri, "code_verifier": verifier},
        )
        keys = await http.json(known["jwks_uri"])
        claims = verified_claims(
            str(answer.get("id_token") or ""),
            keys=keys,
            issuer=known["issuer"],
            client_id=provider.client_id,
            nonce=nonce,
            now=now or timezone.now(),
        )
        wanted = ["email", "name", *([provider.groups_claim] if provider.groups_claim else [])]
        if known.get("userinfo_endpoint") and any(claim_of(claims, name) is None for name in wanted):
            header = HttpClient.bearer(str(answer.get("access_token") or ""))
            more = await http.json(known["userinfo_endpoint"], headers=header)
            # What it says of another person must not be mixed in.
            if isinstance(more, dict) and more.get("sub") == claims["sub"]:
                claims = more | claims
        return _person(claims, provider)

    return _run(ask)


def check_provider(issuer: str) -> None:
    """Ask a provider whether it is one.

    :raises SourceError: if it does not answer, or is none under this address.
    """
    _run(lambda http: _discover(http, issuer, is_fresh=True))


def connect_provider(facts: Mapping[str, Any], *, secret: str | None, by: User, expected: str = "") -> None:
    """Say through which provider people sign in, once it has answered.

    :param facts: the fields of `IdentityProvider`.
    :raises InvalidInput: if it does not answer, or is none under this address.
    :raises: as `save_provider` does.
    """
    issuer = facts["issuer"].rstrip("/")
    domains = [domain.strip().lower().lstrip("@") for domain in facts["email_domains"]]
    try:
        check_provider(issuer)
    except DomainError as error:
        raise InvalidInput(error.message, errors=[FieldError("issuer", error.message)]) from error
    save_provider(
        {**facts, "issuer": issuer, "email_domains": domains}, secret=secret, by=by, expected=expected
    )


def challenge_of(verifier: str) -> str:
    """What the provider is told of a verifier before it sees it (RFC 7636, S256)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def verified_claims(
    token: str, *, keys: Any, issuer: str, client_id: str, nonce: str, now: datetime
) -> dict[str, Any]:
    """The claims of an ID token that holds.

    :param keys: the provider's JWKS.
    :raises SignInFailed: if the signature, issuer, audience, nonce or one of the times is wrong.
    """
    registry = jwt.JWTClaimsRegistry(
        now=int(now.timestamp()),
        leeway=LEEWAY,
        iss={"essential": True, "value": issuer},
        aud={"essential": True, "value": client_id},
        sub={"essential": True},
        exp={"essential": True},
        iat={"essential": True},
        nonce={"essential": True, "value": nonce},
    )
    try:
        claims = jwt.decode(token, KeySet.import_key_set(keys), algorithms=ALGORITHMS).claims
        registry.validate(claims)
    except ExpiredTokenError:
        raise SignInFailed(
            _("The sign-in has expired. Start again; if it happens again, compare the clocks.")
        )
    # Also what is no token or no key set at all, which the library does not foresee.
    except (JoseError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SignInFailed(
            _("What the provider said of you does not hold (%(why)s). Start again; if it happens again, tell an "
              "administrator.") % {"why": str(error)[:200] or type(error).__name__}
        ) from error  # fmt: skip
    # A token for several parties says who asked for it.
    is_shared = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if (is_shared or "azp" in claims) and claims.get("azp") != client_id:
        raise SignInFailed(_("The provider's answer was made for another program. Start again."))
    return claims


def claim_of(claims: dict[str, Any], name: str) -> Any:
    """A claim by its name, or by the way to it: `realm_access.roles`."""
    if name in claims:
        return claims[name]
    return value_at(claims, name.split("."))


def _person(claims: dict[str, Any], provider: IdentityProvider) -> Person:
    def text(name: str) -> str:
        value = claims.get(name)
        return value.strip() if isinstance(value, str) else ""

    name = provider.groups_claim
    groups = claim_of(claims, name) if name else None
    elsewhere = claims.get("_claim_names")  # how a provider says that they are too many for a token
    verified = claims.get("email_verified")
    if isinstance(verified, str):  # some write it as text
        verified = {"true": True, "false": False}.get(verified.lower())
    return Person(
        issuer=provider.issuer,
        subject=claims["sub"],
        email=text("email"),
        is_email_verified=verified if isinstance(verified, bool) else None,
        name=text("name"),
        username=text("preferred_username"),
        groups=None
        if groups is None and isinstance(elsewhere, dict) and name in elsewhere
        else frozenset(
            one for one in ([groups] if isinstance(groups, str) else groups or []) if isinstance(one, str)
        ),
    )


async def _discover(http: HttpClient, issuer: str, *, is_fresh: bool = False) -> dict[str, Any]:
    """What a provider publishes of itself, checked."""
    issuer = issuer.rstrip("/")
    key = f"openid:{hashlib.sha256(issuer.encode()).hexdigest()}"
    if not is_fresh and (kept := _kept(key)):
        return kept
    parts = _split(issuer)
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        raise Misconfigured(
            _("An issuer begins with https://: else others could read and change who signs in.")
        )
    answer = await http.get(f"{issuer}/.well-known/openid-configuration")
    known = answer.row("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri")
    if str(known["issuer"]).rstrip("/") != issuer:
        raise Misconfigured(
            _("%(asked)s says that its issuer is %(said)s. Enter that one.")
            % {"asked": issuer, "said": str(known["issuer"])[:300]}
        )
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"):
        scheme = _split(str(known.get(name) or issuer)).scheme
        if scheme != "https" and scheme != parts.scheme:
            raise Misconfigured(
                _("%(issuer)s has an address that does not begin with https:// (%(name)s).")
                % {"issuer": issuer, "name": name}
            )
    _keep(key, known)
    return known


def _split(address: str) -> SplitResult:
    try:
        return urlsplit(address)
    except ValueError as error:
        raise Misconfigured(
            _("%(url)s is not a web address: %(why)s.") % {"url": address[:300], "why": error}
        ) from None


def _kept(key: str) -> dict[str, Any] | None:
    try:
        return cache.get(key)
    except RedisError:  # it only saves a request
        return None


def _keep(key: str, known: dict[str, Any]) -> None:
    try:
        cache.set(key, known, timeout=KEPT)
    except RedisError:
        return


async def _exchange(
    http: HttpClient, known: dict[str, Any], provider: IdentityProvider, secret: str, given: dict[str, str]
) -> dict[str, Any]:
    """The tokens that a code stands for."""
    form = {"grant_type": "authorization_code", "client_id": provider.client_id, **given}
    headers = {"Accept": "application/json"}
    methods = known.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
    if secret and "client_secret_basic" in methods:
        # Both are encoded as in a form before they are joined (RFC 6749, 2.3.1).
        headers |= HttpClient.basic(quote(provider.client_id, safe=""), quote(secret, safe=""))
    elif secret:
        form["client_secret"] = secret
    answer = await http.post(known["token_endpoint"], data=form, headers=headers, accept=(200, 400, 401))
    if answer.status == 200:
        return answer.row("id_token")
    error = _error_of(answer)
    if error in {"invalid_client", "unauthorized_client"} or (answer.status == 401 and not error):
        raise SignInFailed(
            _("%(provider)s does not accept the client id or secret of this portal. An administrator can correct "
              "them in the settings under Access.") % {"provider": provider.label}
        )  # fmt: skip
    raise SignInFailed(
        _(
            "%(provider)s did not accept the sign-in (%(error)s): it took too long or was used before. Start again."
        )
        % {"provider": provider.label, "error": error or answer.status}
    )


def _error_of(answer: Answer) -> str:
    try:
        said = answer.json()
    except SourceError:
        return ""
    error = said.get("error") if isinstance(said, dict) else ""
    return error[:60] if isinstance(error, str) and error.replace("_", "").isalnum() else ""


def _run(ask: Callable[[HttpClient], Coroutine[Any, Any, T]]) -> T:
    policy = outbound_policy()

    async def run() -> T:
        async with HttpClient(policy=policy, limits=LIMITS) as http:
            return await ask(http)

    return asyncio.run(run())
