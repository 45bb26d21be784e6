"""The definition of an API as its source brings it."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from catalog import queries
from catalog.definitions import language_of

_ENDINGS = {"json": "json", "graphql": "graphql", "protobuf": "proto"}


@login_required
@require_safe
def definition(request: HttpRequest, namespace: str, kind: str, name: str) -> HttpResponse:
    """The text alone, to look at or with `download` to save."""
    entity = queries.get_entity(request.user, namespace=namespace, kind=kind, name=name)
    text = (queries.documents(request.user, [entity])[entity.pk].get("spec") or {}).get("definition")
    if not isinstance(text, str):
        raise Http404(_("It has no definition."))
    answer = HttpResponse(text, content_type="text/plain; charset=utf-8")
    way = "attachment" if "download" in request.GET else "inline"
    ending = _ENDINGS.get(language_of(text), "yaml")
    answer.headers["Content-Disposition"] = f'{way}; filename="{entity.name}.{ending}"'
    return answer
