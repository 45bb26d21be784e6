"""Signing programs in by `Authorization: Bearer TOKEN`."""

from __future__ import annotations

from django.utils.translation import gettext as _
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from access.models import ApiToken, User
from access.services import TokenNotValid, authenticate_token


class TokenAuthentication(BaseAuthentication):
    """The person that an API token acts for; a request with another scheme or none passes on."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        """:raises TokenNotValid: if there is a token, but it signs nobody in."""
        scheme, _blank, text = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        if not text.strip():
            raise TokenNotValid(_("The header must be `Authorization: Bearer TOKEN`, but no token came."))
        user = authenticate_token(text.strip())
        assert user.token is not None
        return user, user.token

    def authenticate_header(self, request: Request) -> str:
        """What a request without credentials is told."""
        return 'Bearer realm="Portico"'


class TokenScheme(OpenApiAuthenticationExtension):
    """How the API's description names it."""

    target_class = TokenAuthentication
    name = "token"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        """A bearer token."""
        return {"type": "http", "scheme": "bearer"}
