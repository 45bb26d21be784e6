"""How one connection reaches its tool, where that is not the way that everything else goes."""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime
from typing import ClassVar, Self
from urllib.parse import quote, urlsplit

from cryptography import x509
from django.utils import formats
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from integrations.outbound import Route

_BLOCK = re.compile(
    r"-----BEGIN (?P<of>[A-Z0-9 ]+)-----(?P<body>.*?)(?P<end>-----END (?P=of)-----|(?=-----BEGIN )|\Z)",
    re.DOTALL,
)
_CERTIFICATES = {"CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"}


class Network(BaseModel):
    """Certificates and a proxy for this connection alone; empty for the way that all others go."""

    SECRET: ClassVar[str] = "proxy_password"  # noqa: S105 - the name of a field

    # Without a title of its own, that of the field which holds it is left out of the schema.
    model_config = ConfigDict(
        title="NetworkOfConnection",
        extra="forbid",
        str_strip_whitespace=True,
        json_schema_extra={"seldom": True},
    )

    ca_bundle: str = Field(
        "",
        max_length=500_000,
        title=gettext_noop("Certificate authorities"),
        description=gettext_noop(
            "Certificates in PEM form that are trusted besides the usual ones: your authority's, or a server's own."
        ),
        json_schema_extra={"format": "textarea", "placeholder": "-----BEGIN CERTIFICATE-----"},
    )
    proxy: str = Field(
        "",
        max_length=500,
        title=gettext_noop("Proxy"),
        description=gettext_noop(
            "Such as http://proxy.acme.example:3128. All that this connection asks over http and https goes through "
            "it; empty for the proxy of the server's own settings, if they have one."
        ),
    )
    proxy_user: str = Field(
        "", max_length=200, title=gettext_noop("Proxy user"), description=gettext_noop("If it asks for one.")
    )
    proxy_password: SecretStr | None = Field(
        None, title=gettext_noop("Proxy password"), description=gettext_noop("Of this user.")
    )

    @field_validator("ca_bundle")
    @classmethod
    def _of_certificates(cls, text: str) -> str:
        return certificates_in(text) if text else ""

    @field_validator("proxy")
    @classmethod
    def _an_address(cls, text: str) -> str:
        if not text:
            return ""
        url = text if "://" in text else f"http://{text}"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ValueError(
                _("“%(text)s” is no address; expected http://host:port.") % {"text": text}
            ) from None
        if parts.scheme not in ("http", "https"):
            raise ValueError(
                _("A proxy is reached over http:// or https://, and %(scheme)s:// is neither.")
                % {"scheme": parts.scheme}
            )
        if "@" in parts.netloc:
            raise ValueError(
                _("The address may not hold a user or a password; they have fields of their own.")
            )
        if not parts.hostname or not re.fullmatch(r"[A-Za-z0-9._:-]+", parts.hostname):
            raise ValueError(_("The address names no host; expected http://host:port."))
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError(_("The address of a proxy ends with its port; expected http://host:port."))
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return f"{parts.scheme}://{host}" + (f":{port}" if port else "")

    @model_validator(mode="after")
    def _of_one_proxy(self) -> Self:
        if self.proxy_user and not self.proxy:
            raise ValueError(_("There is a user for a proxy, and no proxy. Give its address."))
        if self.proxy_password and not self.proxy_user:
            raise ValueError(_("There is a password for the proxy, and no user. Give both, or neither."))
        return self

    def route(self) -> Route:
        """The same for the clients; the proxy's credentials stand in its address."""
        proxy = self.proxy
        if self.proxy_user:
            password = self.proxy_password.get_secret_value() if self.proxy_password else ""
            scheme, _slashes, place = proxy.partition("://")
            proxy = f"{scheme}://{quote(self.proxy_user, safe='')}:{quote(password, safe='')}@{place}"
        return Route(authorities=self.ca_bundle, proxy=proxy)


def certificates_in(text: str) -> str:
    """The certificates of a pasted text, one after the other, and nothing else.

    :raises ValueError: that names which of them cannot be used, and why.
    """
    blocks = list(_BLOCK.finditer(text))
    if any("PRIVATE KEY" in block["of"] for block in blocks):
        raise ValueError(_("This holds a private key, which nobody may see. Paste the certificates alone."))
    if not blocks:
        if re.fullmatch(r"\S*[/\\]\S+", text):
            raise ValueError(_("This is the name of a file. Paste what stands in it."))
        raise ValueError(
            _("There is no certificate in this. It begins with -----BEGIN CERTIFICATE----- and ends with "
              "-----END CERTIFICATE-----.")
        )  # fmt: skip
    found, expired = [], []
    for number, block in enumerate(blocks, 1):
        if block["of"] not in _CERTIFICATES:
            raise ValueError(
                _("Part %(number)d is a %(what)s, not a certificate. Take it out.")
                % {"number": number, "what": block["of"].lower()}
            )
        if not block["end"]:
            raise ValueError(
                _("Certificate %(number)d is cut off: the line -----END CERTIFICATE----- is missing.")
                % {"number": number}
            )
        pem = f"-----BEGIN CERTIFICATE-----\n{block['body'].strip()}\n-----END CERTIFICATE-----\n"
        try:
            certificate = x509.load_pem_x509_certificate(pem.encode())
            ssl.PEM_cert_to_DER_cert(pem)
        except ValueError:
            raise ValueError(
                _("Certificate %(number)d cannot be read; it was damaged on the way. Copy it anew.")
                % {"number": number}
            ) from None
        if certificate.not_valid_after_utc < datetime.now(UTC):
            expired.append((number, certificate))
        found.append(pem)
    if len(expired) == len(found):  # a large bundle may well hold an old one
        number, certificate = expired[0]
        raise ValueError(
            _("Certificate %(number)d, %(subject)s, ran out on %(day)s. Ask for the authority's present one.")
            % {
                "number": number,
                "subject": certificate.subject.rfc4514_string() or _("without a name"),
                "day": formats.date_format(certificate.not_valid_after_utc, "j M Y"),
            }
        )
    return "".join(dict.fromkeys(found))
