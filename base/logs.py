"""Logging without secrets."""

from __future__ import annotations

import logging
import re

MASK = "***"

# Bounded, and tried at the beginning of a word alone, so that a long line costs what its length is.
_NAME = (
    r"(?<![\w-])[\w-]{0,64}?(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key"
    r"|private[_-]?key|encryption[_-]?keys?|session[_-]?id|signature|credentials?)[\w-]{0,64}"
)
_KEY = rf"({_NAME}[\"']?\s*[=:]\s*"
_RULES: list[tuple[re.Pattern[str], str]] = [
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S), MASK),
    # user:password@ and token@ in addresses
    (re.compile(r"\b([a-z][a-z0-9+.-]{0,30}://)[^\s/?#\"'<>]*@", re.I), rf"\1{MASK}@"),
    # a header's whole value, whatever the scheme
    (re.compile(r"(\bauthorization[\"']?\s*[=:]\s*[bu]?[\"']?)[^\"',;\r\n}]+", re.I), rf"\1{MASK}"),
    (re.compile(r"(\b(?:set-)?cookie[\"']?\s*[=:]\s*[bu]?[\"']?)[^\"'\r\n}]+", re.I), rf"\1{MASK}"),
    (re.compile(r"\b(bearer)\s+[\w.~+/=-]{6,}", re.I), rf"\1 {MASK}"),
    # password=..., "token": "...", X-Api-Key: ...
    (re.compile(_KEY + r"[bu]?)\"(?:[^\"\\]|\\.)*\"", re.I), rf'\1"{MASK}"'),
    (re.compile(_KEY + r"[bu]?)'(?:[^'\\]|\\.)*'", re.I), rf"\1'{MASK}'"),
    (re.compile(_KEY + r")(?![\"'*\s]|[bu][\"'])[^\s\"',;&)}\]]+", re.I), rf"\1{MASK}"),
    # secrets that can be told by their looks
    (re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{4,}\.[\w-]*"), MASK),
    (re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[a-z]-|npm_|pypi-|AKIA)[\w-]{10,}"), MASK),
    # our own: API tokens, and what is sealed for the database
    (re.compile(r"\bpo_[\w-]{43}(?![\w-])|\bgAAAA[\w-]{40,}={0,2}"), MASK),
]


def mask_secrets(text: str) -> str:
    """The text with passwords, tokens, keys and the user part of addresses replaced by `***`."""
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


class MaskSecrets(logging.Filter):
    """Masks secrets in the message and in the traceback before any handler formats them."""

    _formatter = logging.Formatter()

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = mask_secrets(record.getMessage())
        record.args = None
        if record.exc_info and not record.exc_text:
            record.exc_text = self._formatter.formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = mask_secrets(record.exc_text)
        if record.stack_info:
            record.stack_info = mask_secrets(record.stack_info)
        return True
