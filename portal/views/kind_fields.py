"""Fields that are added to kinds, in the settings."""

from __future__ import annotations

from typing import Any, Literal

import yaml
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop
from django.views.decorators.http import require_http_methods, require_POST
from pydantic import BaseModel, ConfigDict, Field

from access.permissions import require
from base.errors import DomainError, InvalidInput
from base.safe_yaml import parse_documents
from catalog.documents.computed import WAYS
from catalog.documents.fields import COLOURS, PAGE, SHOWN, FieldDef
from catalog.documents.formats import FORMATS
from catalog.kinds import current_kinds
from catalog.models import KindField
from catalog.services.kind_changes import VERB
from portal import links
from portal.forms import Form
from portal.kinds import get_field, impact_of, kind_called, name_for
from portal.packs import edit_definition, etag_of, remove_definition
from portal.people import person
from portal.views.settings import shell_of

FIELD = "FieldDefinition"


class MirrorIn(BaseModel):
    """The value of what relations lead to."""

    model_config = ConfigDict(json_schema_extra={"seldom": True})

    path: list[str] = Field(
        title=gettext_noop("Along"),
        min_length=1,
        description=gettext_noop("Relations, one after the other, such as partOf, then ownedBy."),
    )
    field: str = Field(
        title=gettext_noop("Its field"), min_length=1, json_schema_extra={"placeholder": "spec.costCentre"}
    )


class CountIn(BaseModel):
    """A number of entities or of activity."""

    model_config = ConfigDict(json_schema_extra={"seldom": True})

    path: list[str] = Field(
        default_factory=list,
        title=gettext_noop("Entities along"),
        description=gettext_noop("Relations, one after the other, such as dependencyOf."),
    )
    query: str = Field(
        "",
        title=gettext_noop("That match"),
        json_schema_extra={"format": "query", "suggest": "/search/terms"},
    )
    activity: list[str] = Field(
        default_factory=list,
        title=gettext_noop("Or activity"),
        description=gettext_noop("Its types, such as run, deployment or alert."),
    )
    status: str = Field(
        "", title=gettext_noop("With the status"), json_schema_extra={"placeholder": "failed"}
    )
    days: int | None = Field(None, ge=1, le=3_650, title=gettext_noop("In so many days"))


class FieldIn(BaseModel):
    """A field that is added to kinds."""

    title: str = Field(
        min_length=1,
        max_length=200,
        title=gettext_noop("Title"),
        description=gettext_noop("What people read."),
    )
    field: str = Field(
        title=gettext_noop("Field"),
        max_length=100,
        pattern=r"^spec\.[A-Za-z_][A-Za-z0-9_-]*$",
        description=gettext_noop("Where it stands in documents, such as spec.tier."),
        json_schema_extra={"placeholder": "spec.tier"},
    )
    kinds: list[str] = Field(
        min_length=1,
        title=gettext_noop("Kinds"),
        description=gettext_noop("What has it, such as Component."),
    )
    format: Literal[tuple(FORMATS)] = Field(  # type: ignore[valid-type]
        "text",
        title=gettext_noop("Format"),
        json_schema_extra={"labels": {name: str(format_.label) for name, format_ in FORMATS.items()}},
    )
    values: list[str] = Field(
        default_factory=list,
        title=gettext_noop("Values"),
        description=gettext_noop(
            "Of “one of some values”: a value, then its title and colour (c1 to c8), such as: gold, Gold, c4."
        ),
    )
    default: str = Field(
        "",
        title=gettext_noop("Default"),
        max_length=2_000,
        description=gettext_noop("What holds where no source says anything."),
    )
    on_page: bool = Field(True, title=gettext_noop("Show it on the entity's page"))
    in_lists: bool = Field(False, title=gettext_noop("Show it as a column of lists"))
    as_filter: bool = Field(False, title=gettext_noop("Narrow lists by it"))
    description: str = Field(
        "", title=gettext_noop("Description"), max_length=2_000, json_schema_extra={"seldom": True}
    )
    unit: str = Field(
        "",
        title=gettext_noop("Unit"),
        max_length=20,
        description=gettext_noop("Of a number, such as ms."),
        json_schema_extra={"seldom": True},
    )
    target_kinds: list[str] = Field(
        default_factory=list,
        title=gettext_noop("Refers to"),
        description=gettext_noop("The kinds that belong there, if it refers to entities."),
        json_schema_extra={"seldom": True},
    )
    relation: str = Field(
        "",
        title=gettext_noop("Relation"),
        max_length=63,
        description=gettext_noop("The relation that the reference makes, such as backedUpBy."),
        json_schema_extra={"seldom": True},
    )
    inverse: str = Field(
        "",
        title=gettext_noop("Its other direction"),
        max_length=63,
        description=gettext_noop("Such as backsUp."),
        json_schema_extra={"seldom": True},
    )
    expression: str = Field(
        "",
        title=gettext_noop("Worked out by an expression"),
        max_length=4_000,
        description=gettext_noop("Of entity and related, such as size(related.dependencyOf)."),
        json_schema_extra={"format": "expression", "seldom": True},
    )
    mirror: MirrorIn | None = Field(None, title=gettext_noop("Worked out as a mirror"))
    count: CountIn | None = Field(None, title=gettext_noop("Worked out as a count"))


_BOXES = dict(zip(SHOWN, ("on_page", "in_lists", "as_filter"), strict=True))


def _as_typed(spec: dict[str, Any]) -> dict[str, Any]:
    """A definition as the form holds it."""
    relation = spec.get("relation") or {}
    default = spec.get("default")
    return {
        "title": spec.get("title") or spec["field"].removeprefix("spec."),
        "field": spec["field"],
        "kinds": spec["kinds"],
        "format": spec["format"],
        "values": [
            ", ".join(filter(None, (one["value"], one.get("title", ""), one.get("colour", ""))))
            for one in spec.get("values", ())
        ],
        "default": default
        if isinstance(default, str)
        else ""
        if default is None
        else yaml.safe_dump(default, default_flow_style=True, allow_unicode=True)
        .removesuffix("...\n")
        .strip(),
        **{name: place in spec.get("shown", [PAGE]) for place, name in _BOXES.items()},
        "description": spec.get("description", ""),
        "unit": spec.get("unit", ""),
        "target_kinds": spec.get("targetKinds", []),
        "relation": relation.get("type", ""),
        "inverse": relation.get("inverse", ""),
        **{way: spec[way] for way in WAYS if way in spec},
    }


def _as_defined(values: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """What was typed as a definition; what the form does not hold stays.

    :raises InvalidInput: if a value or the default cannot be read.
    """
    spec = {key: before[key] for key in ("order",) if key in before}
    spec |= {key: values[key] for key in ("title", "field", "kinds", "format")}
    spec["shown"] = [place for place, name in _BOXES.items() if values[name]]
    spec |= {key: values[key] for key in ("description", "unit") if values[key]}
    if values["values"]:
        spec["values"] = [_choice(line) for line in values["values"]]
    if values["default"]:
        spec["default"] = _default(values["default"], values["format"])
    if values["target_kinds"]:
        spec["targetKinds"] = values["target_kinds"]
    if values["relation"] or values["inverse"]:
        spec["relation"] = {"type": values["relation"], "inverse": values["inverse"]}
    for way in WAYS:
        if (said := values.get(way)) and isinstance(said, dict):
            spec[way] = {key: value for key, value in said.items() if value not in (None, "", [])}
        elif said:
            spec[way] = said
    return spec


def _choice(line: str) -> dict[str, str]:
    value, *rest = (part.strip() for part in line.split(","))
    colour = rest.pop() if rest and rest[-1] in COLOURS else ""
    found = {"value": value, "title": ", ".join(rest), "colour": colour}
    return {key: text for key, text in found.items() if text}


def _default(text: str, format_: str) -> Any:
    if FORMATS[format_].schema.get("type") == "string":
        return text
    documents = parse_documents(text, name=_("the default"))
    if len(documents) != 1 or documents[0].error is not None:
        raise InvalidInput(_("The default cannot be read as a value."))
    return documents[0].data


@login_required
@require_http_methods(["GET", "POST"])
def new_field(request: HttpRequest) -> HttpResponse:
    """Add a field to a kind."""
    require(request.user, VERB)
    kinds, wanted = current_kinds(), request.GET.get("kind", "").lower()
    preset = [kinds.by_name(wanted).title_case] if wanted in kinds else []
    return _edit(request, None, Form(FieldIn, initial={"kinds": preset}))


@login_required
@require_http_methods(["GET", "POST"])
def field(request: HttpRequest, name: str) -> HttpResponse:
    """Change an added field."""
    require(request.user, VERB)
    row = get_field(request.user, name)
    return _edit(request, row, Form(FieldIn, initial=_as_typed(row.spec)))


def _edit(request: HttpRequest, row: KindField | None, form: Form) -> HttpResponse:
    if request.method == "POST":
        form = Form(FieldIn, request.POST)
        if form.is_valid():
            values = form.values
            try:
                saved = edit_definition(
                    kind=FIELD,
                    name=row.name if row else name_for(values["field"], values["kinds"]),
                    spec=_as_defined(values, row.spec if row else {}),
                    by=person(request).label,
                    expected=request.POST.get("etag", "") if row else "",
                )
            except DomainError as error:
                _note(form, error)
            else:
                messages.success(
                    request, _("The field %(path)s is saved; entities follow.") % {"path": values["field"]}
                )
                return redirect("portal:settings-kind", kind=saved.spec["kinds"][0].lower())
    title = row.spec.get("title") or row.spec["field"] if row else _("Add a field")
    return render(
        request,
        "settings/field.html",
        shell_of(request, "settings-kinds", title=title)
        | {
            "form": form,
            "row": row,
            "etag": etag_of(row) if row else "",
            "kinds": sorted(kind.title_case for kind in current_kinds()),
            "back_url": reverse("portal:settings-kind", args=[row.spec["kinds"][0].lower()])
            if row
            else reverse("portal:settings-kinds"),
        },
        status=422 if form.errors else 200,
    )


def _note(form: Form, error: DomainError) -> None:
    """What the definition's check said, at the fields of the form."""
    names = {"targetKinds": "target_kinds", "shown": "as_filter"}
    if not error.errors:
        form.errors.setdefault("", []).append(error.message)
    for item in error.errors:
        path = item.path.removeprefix("spec.").partition("[")[0]
        known = {field["name"] for field in form.fields}
        while path and path not in known and path not in names:
            path = path.rpartition(".")[0]
        form.errors.setdefault(names.get(path, path), []).append(item.message)


@login_required
@require_POST
def move_field(request: HttpRequest, name: str) -> HttpResponse:
    """Put an added field before or after the next one of a kind."""
    require(request.user, VERB)
    row, found = get_field(request.user, name), kind_called(request.POST.get("kind", ""))
    order = [one.definition for one in found.fields]
    if row.name in order:
        place = order.index(row.name)
        order.insert(max(place + (-1 if request.POST.get("way") == "up" else 1), 0), order.pop(place))
        _put_in_order(order, by=person(request).label)
    return redirect("portal:settings-kind", kind=found.name)


@transaction.atomic
def _put_in_order(names: list[str], *, by: str) -> None:
    for number, row in enumerate(
        sorted(KindField.objects.filter(name__in=names), key=lambda r: names.index(r.name))
    ):
        if FieldDef.of(row.name, row.spec).order != number + 1:
            edit_definition(kind=FIELD, name=row.name, spec={**row.spec, "order": number + 1}, by=by)


@login_required
@require_http_methods(["GET", "POST"])
def delete_field(request: HttpRequest, name: str) -> HttpResponse:
    """Show what hangs on an added field, and take it away."""
    require(request.user, VERB)
    row = get_field(request.user, name)
    kind_url = reverse("portal:settings-kind", args=[row.spec["kinds"][0].lower()])
    if request.method == "POST":
        remove_definition(
            kind=FIELD, name=name, by=person(request).label, expected=request.POST.get("etag", "")
        )
        messages.success(request, _("The field %(path)s is gone.") % {"path": row.spec["field"]})
        return redirect(kind_url)
    query = f"kind:{','.join(kind.lower() for kind in row.spec['kinds'])} has:{row.spec['field']}"
    return render(
        request,
        "settings/field_delete.html",
        shell_of(request, "settings-kinds", title=_("Delete %(path)s") % {"path": row.spec["field"]})
        | {
            "row": row,
            "etag": etag_of(row),
            "impact": impact_of(request.user, row),
            "list_url": links.catalog_url(query),
            "back_url": kind_url,
        },
    )
