"""Who may call a view."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from rest_framework.exceptions import NotAuthenticated
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from access.models import User
from access.permissions import require, require_any, require_own
from base.errors import Forbidden

_AS_GET = {"HEAD": "GET", "OPTIONS": "GET"}
OWN = "own"
"""In place of a verb: what everybody may change of their own account, but no token that is held to less."""


class HasVerb(BasePermission):
    """Lets in who holds the verb that the view names for the method: `verbs = {"GET": "entity.read", ...}`.

    A method that the view does not name is let in for nobody; `None` stands for anybody who is signed in, `OWN` for
    the same when they change what is theirs. Of several verbs one is enough: then the view's queryset asks for the
    right one.
    For one object it asks again, so that a grant for one namespace does not reach into another.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        """:raises Forbidden: saying what is missing and who can grant it."""
        if not request.user.is_authenticated:
            return False  # answered with 401 and how to sign in
        return self._check(request, view)

    def has_object_permission(self, request: Request, view: APIView, obj: Any) -> bool:
        """:raises Forbidden: saying what is missing and who can grant it."""
        return self._check(request, view, obj)

    def _check(self, request: Request, view: APIView, thing: object = None) -> bool:
        verbs: Mapping[str, str | tuple[str, ...] | None] = getattr(view, "verbs", {})
        method = _AS_GET.get(str(request.method), str(request.method))
        if method not in verbs:
            if method.lower() in view.http_method_names and hasattr(view, method.lower()):
                raise Forbidden(f"{type(view).__name__} names no verb for {method}.")
            return True  # answered with 405
        verb = verbs[method]
        if verb == OWN:
            require_own(person_of(request))
        elif isinstance(verb, tuple):
            require_any(request.user, verb)
        elif verb is not None:
            require(request.user, verb, thing)
        return True


class View(APIView):
    """A view that names the verb for each method; reading the catalog is what all can do who see anything."""

    permission_classes = [HasVerb]
    verbs: ClassVar[Mapping[str, str | None]] = {"GET": "entity.read"}


def person_of(request: Request) -> User:
    """Who sent the request, in a view that lets nobody in who is not signed in.

    :raises NotAuthenticated: if the view did.
    """
    if not isinstance(request.user, User):
        raise NotAuthenticated
    return request.user
