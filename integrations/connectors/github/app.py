"""Signing in as a GitHub App: a token for an hour, asked for with a key."""

from __future__ import annotations

import re
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import cast

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from integrations.contract import HttpClient
from integrations.contract import gettext as _

EARLY = timedelta(minutes=5)


def read_key(text: str) -> rsa.RSAPrivateKey:
    """The key of a PEM text, whose line breaks may have been lost on the way through a form.

    :raises ValueError: with a sentence, if it is none.
    """
    found = re.search(r"-----BEGIN ([A-Z ]+)-----(.*?)-----END", text, re.DOTALL)
    if found:
        lines = re.findall(".{1,64}", re.sub(r"\s|\\n", "", found[2]))
        text = "\n".join([f"-----BEGIN {found[1]}-----", *lines, f"-----END {found[1]}-----"])
    try:
        key = serialization.load_pem_private_key(text.encode(), password=None)
        is_right = isinstance(key, rsa.RSAPrivateKey)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        is_right = False
    if not is_right:
        raise ValueError(_("This is no private key of an App: give the whole .pem file that GitHub made."))
    return cast("rsa.RSAPrivateKey", key)


def signed_token(app: str, key: rsa.RSAPrivateKey, now: float) -> str:
    """The JSON Web Token by which an App says who it is."""
    claims = {"iat": int(now) - 60, "exp": int(now) + 540, "iss": app}  # GitHub's clock may be behind ours
    signed = b".".join(_base64(orjson.dumps(part)) for part in ({"alg": "RS256", "typ": "JWT"}, claims))
    return b".".join([signed, _base64(key.sign(signed, padding.PKCS1v15(), hashes.SHA256()))]).decode()


def _base64(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


class App:
    """An App where it is installed.

    :param api: a client at the address of the API, without credentials.
    """

    def __init__(self, api: HttpClient, app: str, key: str, installation: int) -> None:
        self.api, self.app, self.key, self.installation = api, app, read_key(key), installation
        self.token, self.until = "", datetime.now(UTC)

    def itself(self) -> dict[str, str]:
        """The header by which the App itself signs in."""
        return self.api.bearer(signed_token(self.app, self.key, time.time()))

    async def sign_in(self, url: str, challenge: str) -> Mapping[str, str]:
        """The header of the installation, with a token that holds for some minutes yet."""
        if challenge or datetime.now(UTC) > self.until - EARLY:
            path = f"app/installations/{self.installation}/access_tokens"
            said = (await self.api.post(path, headers=self.itself(), accept=(201,))).row(
                "token", "expires_at"
            )
            self.token, self.until = said["token"], datetime.fromisoformat(said["expires_at"])
        return self.api.bearer(self.token)
