"""Whether a text is an absolute web address, as browsers judge it (the WHATWG URL standard)."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from urllib.parse import unquote

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)\Z", re.DOTALL)
_SPECIAL = {"http", "https", "ws", "wss", "ftp"}
_FORBIDDEN_IN_HOST = re.compile(r"[\x00\t\n\r #/:<>?@\[\\\]^|]")
_FORBIDDEN_IN_DOMAIN = re.compile(r"[\x00-\x1f %\x7f#/:<>?@\[\\\]^|]")
_PORT = re.compile(r"[0-9]*\Z")


def is_url(text: str) -> bool:
    """Whether a browser would take the text as an absolute address, of whatever scheme."""
    text = re.sub(r"[\t\n\r]", "", text.strip("".join(map(chr, range(33)))))
    found = _SCHEME.match(text)
    if not found:
        return False
    scheme, rest = found[1].lower(), found[2]
    if scheme in _SPECIAL:
        authority = re.split(r"[/\\?#]", rest.lstrip("/\\"), maxsplit=1)[0]
        return _is_authority(authority, special=True)
    if scheme == "file":
        host = re.split(r"[/\\?#]", rest[2:], maxsplit=1)[0] if rest.startswith("//") else ""
        return not _FORBIDDEN_IN_DOMAIN.search(host.replace("|", ":").removesuffix(":"))
    if rest.startswith("//"):
        authority = re.split(r"[/?#]", rest[2:], maxsplit=1)[0]
        return not authority or _is_authority(authority, special=False)
    return True


def _is_authority(authority: str, *, special: bool) -> bool:
    address = authority.rpartition("@")[2]
    if address.startswith("["):
        host, bracket, port = address[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            return False
        return _is_port(port[1:]) and _is_ipv6(host)
    host, _, port = address.partition(":")
    if not host or not _is_port(port):
        return False
    if not special:
        return not _FORBIDDEN_IN_HOST.search(host)
    host = unicodedata.normalize("NFKC", unquote(host))
    if _FORBIDDEN_IN_DOMAIN.search(host):
        return False
    last = host.removesuffix(".").rpartition(".")[2]
    return _is_ipv4(host) if re.fullmatch(r"[0-9]+|0[xX][0-9a-fA-F]*", last) else True


def _is_port(text: str) -> bool:
    return bool(_PORT.match(text)) and (not text or (len(text.lstrip("0")) <= 5 and int(text) <= 65_535))


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return "%" not in text


def _is_ipv4(text: str) -> bool:
    parts = text.removesuffix(".").split(".")
    if len(parts) > 4:
        return False
    numbers = []
    for part in parts:
        try:
            if part[:2].lower() == "0x":
                numbers.append(int(part[2:] or "0", 16))
            elif len(part) > 1 and part[0] == "0":
                numbers.append(int(part, 8))
            else:
                numbers.append(int(part))
        except ValueError:
            return False
    return all(number < 256 for number in numbers[:-1]) and numbers[-1] < 256 ** (5 - len(numbers))
