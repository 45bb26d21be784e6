"""Who is looking."""

from __future__ import annotations

from typing import cast

from django.http import HttpRequest

from access.models import User


def person(request: HttpRequest) -> User:
    """The one who is signed in; the view lets in no other."""
    return cast(User, request.user)
