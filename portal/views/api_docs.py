"""The portal's own API, to be read like any other API's definition."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator

from catalog.definitions import Definition, overview, parse_definition
from portal.views.pages import make_context
from portal.widgets.definition import items_of

FORMAT = "openapi"


@lru_cache(maxsize=4)
def _described(_language: str) -> tuple[dict[str, Any], Definition]:
    """The description's data and what they say, the same until the program ends; its sentences are in a language."""
    described = SchemaGenerator().get_schema(request=None, public=True)
    data = parse_definition(orjson.dumps(described, option=orjson.OPT_NON_STR_KEYS).decode(), FORMAT)
    return data, overview(data, FORMAT)


@require_safe
def api_docs(request: HttpRequest) -> HttpResponse:
    """Every operation with its parameters, bodies and answers; for everybody, as the description itself is."""
    data, found = _described(get_language() or settings.LANGUAGE_CODE)
    context = make_context(request)
    shown = {
        "card": {"id": "api", "title": found.title},
        "definition": found,
        "text": True,
        "raw_url": "/api/v1/schema/",
        **items_of(context, found, data, FORMAT),
    }
    return render(
        request,
        "pages/api_docs.html",
        {
            "base": "base.html" if request.user.is_authenticated else "base_plain.html",
            "title": _("API documentation"),
            "description": _("What programs can read and do here, with the same permissions as people."),
            "notices": context.notices,
            "api": render_to_string("widgets/definition.html", shown, request),
        },
    )
