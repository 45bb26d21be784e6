"""Signing in as a GitHub App: a token for an hour, asked for with a key."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import ClassVar

from cryptography.exceptions import UnsupportedAlgorithm
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from integrations.contract import HttpClient
from integrations.contract import gettext as _

EARLY = timedelta(minutes=5)


def read_key(text: str) -> RSAKey:
    """The key of a PEM text, whose line breaks may have been lost on the way through a form.

    :raises ValueError: with a sentence, if it is none.
    """
    found = re.search(r"-----BEGIN ([A-Z ]+)-----(.*?)-----END", text, re.DOTALL)
    if found:
        lines = re.findall(".{1,64}", re.sub(r"\s|\\n", "", found[2]))
        text = "\n".join([f"-----BEGIN {found[1]}-----", *lines, f"-----END {found[1]}-----"])
    try:
        key = RSAKey.import_key(text)
        if key.is_private:
            return key
    except (ValueError, TypeError, UnsupportedAlgorithm, JoseError):
        pass
    raise ValueError(_("This is no private key of an App: give the whole .pem file that GitHub made."))


class App:
    """An App where it is installed.

    Its tokens are kept by this process, under what they were asked for with: GitHub confirms an answer by its ETag only
    to the token that was given it.

    :param api: a client at the address of the API, without credentials.
    """

    tokens: ClassVar[dict[str, tuple[str, datetime]]] = {}

    def __init__(self, api: HttpClient, app: str, key: str, installation: int) -> None:
        self.api, self.app, self.key, self.installation = api, app, read_key(key), installation
        self.asked = sha256(f"{api.address}\0{app}\0{installation}\0{key}".encode()).hexdigest()

    def itself(self) -> dict[str, str]:
        """The header by which the App itself signs in."""
        now = int(time.time())
        claims = {"iat": now - 60, "exp": now + 540, "iss": self.app}  # GitHub's clock may be behind ours
        return self.api.bearer(jwt.encode({"alg": "RS256"}, claims, self.key))

    async def sign_in(self, url: str, challenge: str) -> Mapping[str, str]:
        """The header of the installation, with a token that holds for some minutes yet."""
        now = datetime.now(UTC)
        token, until = self.tokens.get(self.asked, ("", now))
        if challenge or now > until - EARLY:
            path = f"app/installations/{self.installation}/access_tokens"
            answer = await self.api.post(path, headers=self.itself(), accept=(201,))
            token, until = (
                answer.value("token", of=str),
                datetime.fromisoformat(answer.value("expires_at", of=str)),
            )
            for old in [name for name, (_token, end) in self.tokens.items() if end < now]:
                del self.tokens[old]
            self.tokens[self.asked] = token, until
        return self.api.bearer(token)
