"""What several addresses take as parameters."""

from __future__ import annotations

from django.utils.translation import gettext as _
from rest_framework.request import Request

from base.errors import BadRequest, FieldError
from base.text import whole_number
from catalog.kinds import current_kinds


def number(request: Request, name: str, *, default: int, least: int, most: int) -> int:
    """:raises BadRequest: if a parameter is no number within its limits."""
    text = request.query_params.get(name, "")
    found = whole_number(text, default=default if not text else -1)
    if not least <= found <= most:
        raise BadRequest(
            _("`%(name)s` is a number from %(least)d to %(most)d, but “%(got)s” came.")
            % {"name": name, "least": least, "most": most, "got": text[:60]},
            errors=[FieldError(name, _("Out of range."), expected=f"{least} to {most}", got=text[:60])],
        )
    return found


def words(request: Request, name: str) -> list[str]:
    return [word for text in request.query_params.getlist(name) for word in text.split(",") if word]


def kinds(request: Request) -> list[str]:
    """:raises BadRequest: if one of them is not defined."""
    names = [kind.lower() for kind in words(request, "kind")]
    known = current_kinds()
    for name in names:
        if name not in known:
            raise BadRequest(
                _("There is no kind “%(name)s”.") % {"name": name[:60]},
                errors=[FieldError("kind", _("Unknown."), got=name[:60])],
            )
    return names
