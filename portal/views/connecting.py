"""Connecting a tool: choose it, set it up, test, preview, schedule. Nothing is written before the last step.

What was typed waits in the session from step to step, secrets sealed; the browser is never sent them back.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from pydantic import BaseModel, Field

from access.permissions import require, visible
from access.secrets import SecretUnreadable, seal, unseal
from access.verbs import EVERYTHING
from base.errors import Conflict, DomainError, InvalidInput, NotFound
from integrations.contract import Category, Connector
from integrations.models import Connection
from integrations.models.connections import SLUG
from integrations.network import Network
from integrations.outbound import Route
from integrations.registry import connectors, guide
from integrations.services import connections as service
from integrations.services.network import still_barred, validate_network
from integrations.tasks import start_sync
from portal.forms import Form
from portal.people import person
from portal.views.connections import (
    KEPT,
    VISIBLE_TO,
    VISIBLE_TO_HELP,
    allow_host,
    back_to,
    barred_of,
    connection_url,
    interval_field,
    network_values,
    reach_form,
    visible_to_field,
    with_forget,
)

SESSION = "connecting"
SHOWN = 6  # records of each list that a preview shows before one asks for more
SHELVES = {
    Category.GIT: gettext_lazy("Git"),
    Category.CI: gettext_lazy("CI"),
    Category.REGISTRY: gettext_lazy("Registries"),
    Category.PACKAGES: gettext_lazy("Packages"),
    Category.CLUSTER: gettext_lazy("Clusters"),
    Category.MONITORING: gettext_lazy("Monitoring"),
    Category.ISSUES: gettext_lazy("Issues"),
    Category.PEOPLE: gettext_lazy("People"),
    Category.FILES: gettext_lazy("Files"),
}
STEPS = [
    ("", gettext_lazy("Settings")),
    ("test", gettext_lazy("Test")),
    ("preview", gettext_lazy("Preview")),
    ("schedule", gettext_lazy("Schedule")),
]


class Name(BaseModel):
    """What the connection is called, and where what it brings is put."""

    connection_name: str = Field(
        title=gettext_noop("Name"),
        min_length=1,
        max_length=100,
        description=gettext_noop("What people see, such as Git main."),
    )
    connection_slug: str = Field(
        "",
        title=gettext_noop("Short name"),
        description=gettext_noop(
            "For addresses, queries and commands; it never changes. Leave empty to derive it from the name."
        ),
    )
    connection_namespace: str = Field(
        "default",
        title=gettext_noop("Namespace"),
        max_length=63,
        description=gettext_noop(
            "Where repositories, pipelines, images and all else that gets its name here is put in the catalog. What a "
            "catalog file declares lies where the file says, else in default, as in Backstage. Grants can be limited "
            "to one."
        ),
    )


class Schedule(BaseModel):
    """How often it is read."""

    connection_interval: int = Field(
        600,
        title=gettext_noop("Sync"),
        ge=30,
        le=7 * 86_400,
        description=gettext_noop(
            "How often Portico reads the tool. A tool that asks to wait is given the time."
        ),
    )
    visible_to: list[str] = Field([], title=VISIBLE_TO, description=VISIBLE_TO_HELP)


@dataclass
class Draft:
    """What was entered so far for a new connection.

    :ivar slug: the short name, derived from the name where none was typed.
    :ivar sealed: the secrets, encrypted.
    :ivar checks: the outcome of the test of exactly these settings, or None.
    :ivar preview: the first records of exactly these settings, or None.
    :ivar network_sealed: the proxy's password, encrypted.
    :ivar barred: hosts that the guard refused meanwhile, as `network.still_barred` takes them.
    """

    name: dict[str, Any] = field(default_factory=dict)
    slug: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    sealed: dict[str, str] = field(default_factory=dict)
    is_complete: bool = False
    checks: list[dict[str, Any]] | None = None
    preview: list[dict[str, Any]] | None = None
    preview_error: str = ""
    network: dict[str, Any] = field(default_factory=dict)
    network_sealed: str = ""
    barred: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, request: HttpRequest, connector: str) -> Draft:
        """The draft that this session holds for a connector."""
        return cls(**request.session.get(SESSION, {}).get(connector, {}))

    def keep(self, request: HttpRequest, connector: str) -> None:
        """Hold it in the session."""
        request.session[SESSION] = {**request.session.get(SESSION, {}), connector: asdict(self)}

    @staticmethod
    def drop(request: HttpRequest, connector: str) -> None:
        """Forget it, secrets and all."""
        drafts = {
            name: draft for name, draft in request.session.get(SESSION, {}).items() if name != connector
        }
        request.session[SESSION] = drafts

    def secrets(self) -> dict[str, str]:
        """The secrets in the clear: for the moment of use."""
        try:
            return {name: unseal(sealed) for name, sealed in self.sealed.items()}
        except SecretUnreadable:  # the key was changed meanwhile; they are asked for again
            return {}

    def seal(self, secrets: dict[str, str]) -> None:
        """Hold these secrets."""
        self.sealed = {name: seal(value) for name, value in secrets.items()}

    def hold_network(self, form: Form, *, forget: bool) -> None:
        """Hold what was typed of the network settings."""
        values = network_values(form)
        if password := values.pop(Network.SECRET, ""):
            self.network_sealed = seal(password)
        if forget or not values.get("proxy"):
            self.network_sealed = ""
        self.network = values

    def whole_network(self) -> dict[str, Any]:
        """The network settings, the secret in the clear: for the moment of use."""
        try:
            return self.network | (
                {Network.SECRET: unseal(self.network_sealed)} if self.network_sealed else {}
            )
        except SecretUnreadable:
            return dict(self.network)

    def route(self) -> Route:
        """The same for the clients."""
        return validate_network(self.whole_network()).route()


# --- the gallery -------------------------------------------------------------------------------------------


@login_required
@require_GET
def gallery(request: HttpRequest) -> HttpResponse:
    """All connectors by shelf, found by name or by what they bring."""
    require(request.user, "connection.write")
    text = request.GET.get("q", "").strip()[:100]
    seen = visible(request.user, Connection.objects.listed())
    counts = Counter(seen.values_list("connector", flat=True))
    shelves: dict[Category, list[dict[str, Any]]] = {}
    for slug, kind in connectors().items():
        if text.casefold() not in f"{kind.label} {slug} {_(kind.brings)} {SHELVES[kind.category]}".casefold():
            continue
        shelves.setdefault(kind.category, []).append(
            {
                "label": kind.label,
                "letters": kind.monogram,
                "category": str(kind.category),
                "text": _(kind.brings),
                "url": f"/connections/new/{slug}",
                "count": counts[slug],
            }
        )
    values = {
        "title": _("Connect a tool"),
        "shelves": [(SHELVES[name], shelves[name]) for name in SHELVES if name in shelves],
        "q": text,
        "breadcrumbs": [
            {"label": _("Connections"), "url": "/connections"},
            {"label": _("Connect a tool"), "url": ""},
        ],
    }
    return render(
        request,
        "connections/_shelves.html" if request.GET.get("part") else "connections/gallery.html",
        values,
    )


# --- the steps ---------------------------------------------------------------------------------------------


def _connector(slug: str) -> type[Connector[Any]]:
    try:
        return connectors()[slug]
    except KeyError:
        raise NotFound(_("No connector %(name)s is installed.") % {"name": slug[:60]}) from None


def _page(
    request: HttpRequest,
    kind: type[Connector[Any]],
    draft: Draft,
    step: str,
    values: dict[str, Any],
    *,
    status: int = 200,
) -> HttpResponse:
    url = f"/connections/new/{kind.slug}"
    at = [name for name, _label in STEPS].index(step)
    went_well = {
        "": draft.is_complete,
        "test": bool(draft.checks) and all(check["ok"] for check in draft.checks or ()),
        "preview": draft.preview is not None and not draft.preview_error,
    }
    return render(
        request,
        f"connections/new_{step or 'settings'}.html",
        {
            "title": _("Connect %(tool)s") % {"tool": kind.label},
            "monogram": {"letters": kind.monogram, "category": str(kind.category)},
            "description": _(kind.brings),
            "tool": kind.label,
            "url": url,
            "guide": guide(kind.slug),
            "steps": [
                {"label": _("Tool"), "url": "/connections/new", "is_done": True},
                *(
                    {
                        "label": label,
                        "url": (f"{url}/{name}" if name else url) if n < at else "",
                        "is_active": n == at,
                        "is_done": n < at and went_well[name],
                    }
                    for n, (name, label) in enumerate(STEPS)
                ),
            ],
            "breadcrumbs": [
                {"label": _("Connections"), "url": "/connections"},
                {"label": _("Connect a tool"), "url": "/connections/new"},
                {"label": kind.label, "url": ""},
            ],
            **values,
        },
        status=status,
    )


@sensitive_post_parameters()
@login_required
@require_http_methods(["GET", "POST"])
def settings(request: HttpRequest, connector: str) -> HttpResponse:
    """First step: the connector's settings, checked field by field; then the test begins."""
    require(request.user, "connection.write")
    kind, draft = _connector(connector), Draft.of(request, connector)
    url = f"/connections/new/{connector}"
    name = Form(Name, initial={"connection_name": _free_name(kind.label)} | draft.name)
    config = Form(kind.Config, initial=draft.config, secrets=draft.secrets())
    reach = reach_form(None, values=draft.network, has_secret=bool(draft.network_sealed))
    if request.method == "POST":
        if request.POST.get("action") == "discard":
            Draft.drop(request, connector)
            return redirect("/connections/new")
        name, config = Form(Name, request.POST), Form(kind.Config, request.POST, secrets=draft.secrets())
        reach = reach_form(request.POST, values={}, has_secret=bool(draft.network_sealed))
        secrets = dict(config.secrets)
        if forgotten := request.POST.get("forget", ""):
            secrets.pop(forgotten, None)
            is_good = False
        else:
            is_good = _is_good_name(name) & config.is_valid() & reach.is_valid()
        # Kept even if something else is wrong, for a password field comes back empty.
        draft.seal(secrets)
        config.kept = secrets
        draft.name, draft.config, draft.is_complete = name.values, config.values, is_good
        draft.slug = _slug_of(name)
        draft.hold_network(reach, forget=forgotten == f"connection_network.{Network.SECRET}")
        reach.kept = {f"connection_network.{Network.SECRET}": KEPT} if draft.network_sealed else {}
        draft.checks, draft.preview, draft.preview_error, draft.barred = None, None, "", {}
        if is_good:
            _test(kind, draft)
        draft.keep(request, connector)
        if is_good:
            return redirect(f"{url}/test")
    fields = {field["name"]: field for field in name.fields}
    fields["connection_slug"]["placeholder"] = _free_slug(fields["connection_name"]["value"])
    note = _("Set, will be saved")
    return _page(
        request,
        kind,
        draft,
        "",
        {
            "name_fields": list(fields.values()),
            "groups": [*with_forget(config, note=note), *with_forget(reach, note=note)],
            "summary": [*name.summary, *config.summary, *reach.summary],
        },
        status=422 if name.errors or config.errors or reach.errors else 200,
    )


def _is_good_name(form: Form) -> bool:
    """Whether the name's fields are right."""
    if not form.is_valid():
        return False
    slug = _slug_of(form)
    namespace = form.values["connection_namespace"].lower()
    if not re.fullmatch(SLUG.regex, slug):
        form.errors["connection_slug"] = [str(SLUG.message)]
    elif slug in service.RESERVED:
        form.errors["connection_slug"] = [_("This word is a page of the portal; choose another.")]
    elif Connection.objects.filter(slug=slug).exists():
        form.errors["connection_slug"] = [_("There is a connection %(slug)s already.") % {"slug": slug}]
    if not re.fullmatch(SLUG.regex, namespace):
        form.errors["connection_namespace"] = [str(SLUG.message)]
    form.values["connection_namespace"] = namespace
    return not form.errors


def _slug_of(form: Form) -> str:
    """The short name that was typed, else one made of the name."""
    return form.values.get("connection_slug") or _free_slug(form.values.get("connection_name", ""))


def _free_name(label: str) -> str:
    taken = set(Connection.objects.filter(label__startswith=label).values_list("label", flat=True))
    return _free(label, taken, " ")


def _free_slug(label: str) -> str:
    base = slugify(str(label))[:50].strip("-") or "connection"
    taken = (
        set(Connection.objects.filter(slug__startswith=base).values_list("slug", flat=True))
        | service.RESERVED
    )
    return _free(base, taken, "-")


def _free(base: str, taken: Iterable[str], between: str) -> str:
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}{between}{number}"
    return name


def _test(kind: type[Connector[Any]], draft: Draft) -> None:
    """Ask the tool, and hold in the draft what it said."""
    draft.barred = {}
    try:
        config = service.validate_config(kind.slug, {**draft.config, **draft.secrets()})
        tested = service.check_config(connector=kind.slug, config=config, route=draft.route())
        draft.checks, draft.barred = [asdict(check) for check in tested.checks], tested.barred
    except DomainError as error:
        said = " ".join([error.message, *(str(item) for item in error.errors)])
        draft.checks = [{"label": _("It could not be tested"), "ok": False, "detail": said, "remedy": ""}]


def _barred(request: HttpRequest, kind: type[Connector[Any]], draft: Draft, step: str) -> dict[str, Any]:
    """The hosts that were refused, for the page with the button."""
    url = f"/connections/new/{kind.slug}"
    return {**barred_of(request, draft.barred, f"{url}/allow"), "back": f"{url}/{step}"}


@login_required
@require_POST
def allow(request: HttpRequest, connector: str) -> HttpResponse:
    """Let calls reach a host that the guard refused, and test anew."""
    require(request.user, EVERYTHING)
    kind, draft = _connector(connector), Draft.of(request, connector)
    if draft.is_complete and allow_host(request, still_barred(draft.barred), draft.slug):
        _test(kind, draft)
        draft.preview_error = ""
        draft.keep(request, connector)
    return back_to(request, f"/connections/new/{connector}/test")


@login_required
@require_http_methods(["GET", "POST"])
def test(request: HttpRequest, connector: str) -> HttpResponse:
    """Second step: what works and what is missing, asked of the tool itself."""
    require(request.user, "connection.write")
    kind, draft = _connector(connector), Draft.of(request, connector)
    if not draft.is_complete:
        return redirect(f"/connections/new/{connector}")
    if request.method == "POST" or draft.checks is None:
        _test(kind, draft)
        draft.keep(request, connector)
        if request.method == "POST":
            return redirect(f"/connections/new/{connector}/test")
    checks = draft.checks or []
    failed = [check for check in checks if not check["ok"]]
    return _page(
        request,
        kind,
        draft,
        "test",
        {"checks": checks, "failed": len(failed), **_barred(request, kind, draft, "test")},
    )


@login_required
@require_http_methods(["GET", "POST"])
def preview(request: HttpRequest, connector: str) -> HttpResponse:
    """Third step: the first records, and what each would become."""
    require(request.user, "connection.write")
    kind, draft = _connector(connector), Draft.of(request, connector)
    if not draft.is_complete:
        return redirect(f"/connections/new/{connector}")
    if request.method == "POST":
        draft.preview, draft.preview_error = None, ""
        try:
            config = service.validate_config(connector, {**draft.config, **draft.secrets()})
            found = service.preview_config(
                connector=connector,
                config=config,
                namespace=draft.name["connection_namespace"],
                route=draft.route(),
                viewer=person(request),
            )
            draft.preview_error, draft.barred = "\n".join(found.errors), found.barred
            if found.rows or not found.errors:
                draft.preview = [asdict(row) for row in found.rows]
        except DomainError as error:
            draft.preview_error = error.message
        draft.keep(request, connector)
        return redirect(f"/connections/new/{connector}/preview")
    rows = draft.preview or []
    labels = {spec.name: _(spec.label) for spec in kind.resources()}
    resources = []
    for resource in dict.fromkeys(row["resource"] for row in rows):
        mine = [row for row in rows if row["resource"] == resource]
        mine.sort(key=lambda row: bool(row["becomes"]))  # what is refused first
        resources.append(
            {
                "label": labels.get(resource, resource),
                "count": len(mine),
                "rows": mine[:SHOWN],
                "more": mine[SHOWN:],
            }
        )
    refused = sum(not row["becomes"] for row in rows)
    known = sum(row["is_known"] for row in rows)
    return _page(
        request,
        kind,
        draft,
        "preview",
        {
            "is_read": draft.preview is not None,
            "errors": draft.preview_error.splitlines(),
            "resources": resources,
            "total": len(rows),
            "refused": refused,
            "known": known,
            "tied": sum(bool(row["tied"]) for row in rows),
            "new": len(rows) - refused - known,
            "each": service.PREVIEW_RECORDS,
            **_barred(request, kind, draft, "preview"),
        },
    )


@login_required
@require_http_methods(["GET", "POST"])
def schedule(request: HttpRequest, connector: str) -> HttpResponse:
    """Last step: how often; then the connection is made and its first sync queued."""
    require(request.user, "connection.write")
    kind, draft = _connector(connector), Draft.of(request, connector)
    if not draft.is_complete:
        return redirect(f"/connections/new/{connector}")
    form = Form(Schedule)
    if request.method == "POST":
        form = Form(Schedule, request.POST)
        if form.is_valid():
            try:
                connection = service.create_connection(
                    slug=draft.slug,
                    label=draft.name["connection_name"],
                    connector=connector,
                    config={**draft.config, **draft.secrets()},
                    namespace=draft.name["connection_namespace"],
                    interval=form.values["connection_interval"],
                    network=draft.whole_network(),
                    visible_to=form.values["visible_to"],
                    by=person(request),
                )
            except (InvalidInput, Conflict) as error:
                if not form.has_what(error):
                    messages.error(request, " ".join([error.message, *(str(item) for item in error.errors)]))
                    return redirect(f"/connections/new/{connector}")
                form.add_errors(error)
            else:
                Draft.drop(request, connector)
                start_sync(connection=connection, by=person(request).label)
                messages.success(
                    request,
                    _("%(name)s is connected; its first sync is queued.") % {"name": connection.label},
                )
                return redirect(connection_url(connection))
    return _page(
        request,
        kind,
        draft,
        "schedule",
        {
            "field": interval_field(form),
            "groups_field": visible_to_field(request, form, None),
            "summary": form.summary,
            "draft": draft,
            "secrets": len(draft.sealed) + bool(draft.network_sealed),
            "operations": [_(spec.label) for spec in kind.operations()],
        },
        status=422 if form.errors else 200,
    )
