"""`/api/v1/favourites/`: what an account keeps for itself."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from access.api.permissions import OWN, View, person_of
from catalog.models import Entity
from catalog.queries import get_entity
from portal import bookmarks


class KeptEntityOut(serializers.Serializer[Any]):
    ref = serializers.CharField()
    title = serializers.CharField()


class FavouritesOut(serializers.Serializer[Any]):
    """One's own favourites and what one viewed lately, as far as one may still see them."""

    favourites = KeptEntityOut(many=True)
    recent = KeptEntityOut(many=True)


def _shape(entity: Entity) -> dict[str, Any]:
    return {"ref": entity.ref, "title": entity.title}


class FavouriteList(View):
    """One's own favourites, and what one viewed lately, newest first."""

    @extend_schema(responses=FavouritesOut, operation_id="favourites_list")
    def get(self, request: Request) -> Response:
        kept = bookmarks.bookmarks_of(person_of(request))
        return Response(
            {
                "favourites": [_shape(entity) for entity in kept.favourites],
                "recent": [_shape(entity) for entity in kept.recent],
            }
        )


class Favourite(View):
    """That an entity is one of one's favourites."""

    verbs = {"PUT": OWN, "DELETE": OWN}

    @extend_schema(
        request=None,
        responses={204: None},
        operation_id="favourites_add",
        description="Make an entity one of one's favourites, the first of them.",
    )
    def put(self, request: Request, **names: str) -> Response:
        return self._set(request, names, is_on=True)

    @extend_schema(
        request=None,
        responses={204: None},
        operation_id="favourites_remove",
        description="Let an entity be no favourite of one's own any more.",
    )
    def delete(self, request: Request, **names: str) -> Response:
        return self._set(request, names, is_on=False)

    def _set(self, request: Request, names: dict[str, str], *, is_on: bool) -> Response:
        entity = get_entity(request.user, **names)
        bookmarks.set_favourite(user=person_of(request), entity=entity, is_on=is_on)
        return Response(status=204)
