"""Who in the catalog an account is: said by its person, or by those who look after accounts."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpResponse
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from access import services
from access.api.permissions import OWN, View, person_of
from access.models import User
from access.queries import list_claims, list_users
from base.answers import given, plain
from base.errors import NotFound
from base.openapi import PAGE
from base.pagination import rows_answer
from catalog import permissions, queries
from catalog.api import serializers as shapes
from catalog.api.views import by_ref
from catalog.models import Entity
from catalog.services import people


def _shape(request: Request, user: User) -> dict[str, Any]:
    """Who an account is, and says that it is, as far as the viewer may see it."""
    user = User.objects.get(pk=user.pk)
    tied = permissions.person_of(user)
    uid, claimed = tied.uid if tied else None, user.claimed_entity_uid
    seen = queries.titles_by_uid(request.user, [uid, claimed])
    return {
        "entity": seen[uid].ref if uid in seen else None,
        "claimed": seen[claimed].ref if claimed in seen else None,
    }


def _named(request: Request) -> Entity:
    return by_ref(request, given(request, shapes.PersonIn)["entity"], "entity")


class OwnPerson(View):
    """Who in the catalog one is."""

    verbs = {"GET": None, "PUT": OWN, "DELETE": OWN}

    @extend_schema(responses=shapes.PersonOut, operation_id="me_person_retrieve")
    def get(self, request: Request) -> Response:
        return Response(_shape(request, person_of(request)))

    @extend_schema(
        request=shapes.PersonIn,
        responses=shapes.PersonOut,
        operation_id="me_person_say",
        description="Say who one is. With a verified address in common that holds at once; else somebody who looks "
        "after accounts confirms it.",
    )
    def put(self, request: Request) -> Response:
        people.say_who(person_of(request), _named(request))
        return Response(_shape(request, person_of(request)))

    @extend_schema(
        request=None,
        responses={204: None},
        operation_id="me_person_unsay",
        description="Take back who one said that one is, while nobody has confirmed it.",
    )
    def delete(self, request: Request) -> Response:
        user = person_of(request)
        services.claim_person(user, entity_uid=None, by=user)
        return Response(status=204)


def _account(request: Request, username: str) -> User:
    user = list_users(viewer=request.user).filter(username=username).first()
    if user is None:
        raise NotFound(_("There is no such account here."))
    return user


class PersonOfUser(View):
    """Who in the catalog an account is."""

    verbs = {"GET": "user.read", "PUT": "user.write", "DELETE": "user.write"}

    @extend_schema(responses=shapes.PersonOut, operation_id="users_person_retrieve")
    def get(self, request: Request, username: str) -> Response:
        return Response(_shape(request, _account(request, username)))

    @extend_schema(
        request=shapes.PersonIn,
        responses=shapes.PersonOut,
        operation_id="users_person_tie",
        description="Say which person of the catalog an account is.",
    )
    def put(self, request: Request, username: str) -> Response:
        user = _account(request, username)
        people.tie_person(user, _named(request), by=person_of(request))
        return Response(_shape(request, user))

    @extend_schema(
        request=None,
        responses={204: None},
        operation_id="users_person_untie",
        description="Say that an account is nobody in the catalog.",
    )
    def delete(self, request: Request, username: str) -> Response:
        services.tie_account(_account(request, username), entity_uid=None, by=person_of(request))
        return Response(status=204)


class PersonClaimList(View):
    """Who people say that they are in the catalog, which nobody has confirmed yet."""

    verbs = {"GET": "user.read"}

    @extend_schema(
        parameters=PAGE,
        responses={200: shapes.PersonClaimListOut, 304: None},
        operation_id="person_claims_list",
    )
    def get(self, request: Request) -> HttpResponse:
        persons: dict[uuid.UUID, Entity] = {}

        def seen(rows: list[User]) -> list[User]:
            persons.update(queries.titles_by_uid(request.user, [user.claimed_entity_uid for user in rows]))
            return rows

        def shape(user: User) -> dict[str, Any]:
            person = persons.get(user.claimed_entity_uid) if user.claimed_entity_uid else None
            return plain(shapes.PersonClaimOut, user, entity=person.ref if person else None)

        return rows_answer(request, list_claims(viewer=request.user), ("username",), shape, seen=seen)


class PersonClaim(View):
    """Who one account says that it is."""

    verbs = {"POST": "user.write", "DELETE": "user.write"}

    @extend_schema(
        request=None,
        responses=shapes.PersonOut,
        operation_id="person_claims_confirm",
        description="Confirm who somebody says that they are.",
    )
    def post(self, request: Request, username: str) -> Response:
        user = _account(request, username)
        people.confirm_who(user, by=person_of(request))
        return Response(_shape(request, user))

    @extend_schema(
        request=None,
        responses={204: None},
        operation_id="person_claims_decline",
        description="Leave an account nobody, against what its person says.",
    )
    def delete(self, request: Request, username: str) -> Response:
        services.claim_person(_account(request, username), entity_uid=None, by=person_of(request))
        return Response(status=204)
