"""Parts that the schemas of several definitions share."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_noop

WORD: dict[str, Any] = {
    "type": "string",
    "pattern": "^[A-Za-z][A-Za-z0-9]*$",
    "maxLength": 63,
    "errorMessage": gettext_noop("a word of letters and digits, at most 63 characters long"),
}
TEXT: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 200}
