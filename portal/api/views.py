"""`/api/v1/pages/`: the definitions that home, lists, entity pages, activity and problems are rendered from."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.request import Request

from access.api.permissions import View
from access.definitions import Definition
from access.permissions import visible
from base.answers import chosen, plain
from base.errors import NotFound
from base.openapi import FIELDS, IF_MATCH, IF_NONE_MATCH, PAGE, choice, list_of, part_of
from base.pagination import rows_answer
from portal.api.definitions import DefinitionDetail, DefinitionIn, DefinitionOut
from portal.models import Page
from portal.pages import PAGES, SLOTS


class PageIn(DefinitionIn):
    """What a page shows; see docs/packs-and-pages.md."""


class PageOut(DefinitionOut):
    slot = serializers.CharField(help_text="Which page of the portal it is.")


PageListOut = list_of("PageListOut", PageOut)


def shape(row: Definition) -> dict[str, Any]:
    """A page as plain data."""
    slot = row.spec.get("slot", "") if isinstance(row.spec, dict) else ""
    return plain(PageOut, row, slot=slot)


class PageList(View):
    """Pages."""

    @extend_schema(
        parameters=[choice("slot", SLOTS), *PAGE],
        responses={200: PageListOut, 304: None},
        operation_id="pages_list",
    )
    def get(self, request: Request) -> HttpResponse:
        rows = visible(request.user, Page.objects.all())
        if slots := chosen(request, "slot", SLOTS):
            rows = rows.filter(spec__slot__in=slots)
        return rows_answer(request, rows, ("name", "id"), shape)


@extend_schema_view(
    get=extend_schema(
        parameters=[FIELDS, IF_NONE_MATCH],
        responses={200: part_of(PageOut), 304: None},
        operation_id="pages_retrieve",
        description="One page; its ETag is for If-Match.",
    ),
    put=extend_schema(
        request=PageIn,
        responses=PageOut,
        parameters=[IF_MATCH],
        operation_id="pages_write",
        description="Compose a page, or a new one. What its pack shipped is kept.",
    ),
    delete=extend_schema(
        responses={204: None},
        parameters=[IF_MATCH],
        operation_id="pages_reset",
        description="Take back what people composed: a pack's page is as it was shipped again, another one goes.",
    ),
)
class PageDetail(DefinitionDetail):
    """One page."""

    kind = PAGES.kind
    verbs = {"GET": "entity.read", "PUT": "page.write", "DELETE": "page.write"}

    def find(self, request: Request, name: str) -> Page:
        row = visible(request.user, Page.objects.filter(name=name)).first()
        if row is None:
            raise NotFound(_("There is no page “%(name)s”.") % {"name": name})
        return row

    def shape(self, row: Page) -> dict[str, Any]:
        return shape(row)
