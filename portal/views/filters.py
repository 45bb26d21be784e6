"""One filter of a list, asked for as the format of its field wants it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from base.errors import InvalidInput
from portal.filters import WAYS, ListField, find_field, list_fields, narrowed
from portal.widgets.listing import kind_of

_KEPT = ("order", "columns", "limit", "group", "view")


@login_required
@require_safe
def filter_list(request: HttpRequest) -> HttpResponse:
    """Choose a field, say what of it, and see the list; `part` asks for the form alone."""
    query = " ".join(request.GET.getlist("q")).strip()[:2_000]
    kept = [(name, value) for name in _KEPT if (value := request.GET.get(name, "")[:1_000])]
    fields = list_fields(kind_of(query))
    name = (request.GET.get("path") or request.GET.get("field", "")).strip()[:200]
    chosen: ListField | None = None
    errors: dict[str, str] = {}
    try:
        chosen = find_field(name, fields) if name else None
        if chosen is not None and request.GET.get("action") == "apply":
            found = narrowed(query, chosen, request.GET)
            return redirect("/catalog?" + urlencode([("q", found), *kept], safe=",:"))
    except InvalidInput as failure:
        errors = {error.path: error.message for error in failure.errors}
    values = {
        "q": query,
        "kept": kept,
        "fields": [{"value": one.name, "label": one.label} for one in fields],
        "errors": errors,
        "back_url": "/catalog?" + urlencode([("q", query), *kept], safe=",:"),
        "title": _("Filter the list"),
    } | (editor(chosen, request.GET, errors) if chosen else {})
    template = {"form": "filters/_form.html", "editor": "filters/_editor.html"}.get(
        request.GET.get("part", ""), "filters/filter.html"
    )
    return render(request, template, values, status=422 if errors else 200)


def editor(one: ListField, asked: QueryDict, errors: dict[str, str]) -> dict[str, Any]:
    """What the editor of a field shows: the ways to ask, and the inputs of the way that is chosen."""
    how = asked.get("how", "")
    how = how if how in one.ways else one.ways[0]
    is_reference = one.asked_as == "reference"
    inputs: list[dict[str, Any]] = []
    if how in {"is", "contains", "begins"}:
        inputs = [
            {
                "name": "value",
                "label": _("Value"),
                "type": "text",
                "placeholder": "kind:namespace/name" if is_reference else one.example,
                "suggest": one.suggest if is_reference else "",
            }
        ]
    elif how == "range":
        shared = {"type": one.input, "unit": one.unit, "placeholder": one.example}
        inputs = [
            {"name": "from", "label": _("From"), **shared},
            {"name": "to", "label": _("To"), **shared},
        ]
    elif how == "lately":
        inputs = [{"name": "days", "label": _("Days"), "type": "number", "placeholder": ""}]
    for one_ in inputs:
        one_ |= {"value": asked.get(one_["name"], ""), "error": errors.get(one_["name"], "")}
    return {
        "one": one,
        "how": how,
        "ways": [{"value": way, "label": WAYS[way]} for way in one.ways],
        "inputs": inputs,
        "chosen": asked.getlist("value"),
        "leaves_out": bool(asked.get("not")),
    }
