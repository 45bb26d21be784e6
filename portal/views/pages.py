"""The pages that are made of widgets: home, lists, entities, activity, problems."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import chain
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.text import capfirst, slugify
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from access.permissions import can
from access.services import note_visit
from base.errors import NotFound
from base.expressions import Context, ExpressionError, compile_expression
from catalog import queries
from catalog.kinds import current_kinds, tied_to
from catalog.models import Entity
from catalog.unknown import mentions_of
from integrations.services.targets import operations_on
from portal import bookmarks, links, pages, saved_views
from portal.models import SavedView
from portal.pages import Served, TabSpec, WidgetSpec
from portal.people import person
from portal.shell import favourites
from portal.sources import connections_of, run_url
from portal.tables import csv_response
from portal.templatetags.foreign import safe_url
from portal.views.anything import way_on
from portal.views.saved import audience_of
from portal.widgets import Filled, PageContext, delivered
from portal.widgets.activity import reach
from portal.widgets.entity import document_of, neighbours_of
from portal.widgets.listing import EntityList, kind_of
from portal.widgets.problems import problems_of

logger = logging.getLogger(__name__)


def make_context(request: HttpRequest, *, entity: Entity | None = None, query: str = "") -> PageContext:
    """What the page's widgets share."""
    return PageContext(
        request=request,
        viewer=request.user,
        now=timezone.now(),
        entity=entity,
        query=query,
        params={name: str(value) for name, value in request.GET.items()},
    )


def render_page(
    request: HttpRequest,
    served: Served,
    context: PageContext,
    *,
    header: dict[str, Any],
    breadcrumbs: list[dict[str, str]] | None = None,
    counts: dict[str, int] | None = None,
) -> HttpResponse:
    """A page from its definition: its tabs, and the widgets of the chosen one."""
    if not request.headers.get("HX-Request"):  # a page that is left open visits nobody
        note_visit(person(request), now=context.now)
    available = context.delivered
    tabs = [tab for tab in served.spec.tabs if _shows(tab, context, available)]
    if not tabs:
        raise Http404
    wanted = request.GET.get("tab", "")
    tab = next((tab for tab in tabs if tab.name == wanted), tabs[0])
    if wanted and tab.name != wanted:
        context.refuse("tab", _("There is no tab “%(name)s” on this page.") % {"name": wanted[:60]})
    main: list[Filled] = []
    aside: list[Filled] = []
    for spec in tab.widgets:
        if not _may_stand(spec, context, available):
            continue
        load_url = (
            f"/widgets/{served.name}/{spec.id}?"
            + urlencode({"of": context.entity.ref if context.entity else ""})
            if spec.deferred
            else ""
        )
        filled = pages.placed(spec).fill(context, load_url=load_url, hide_empty=spec.hide_empty)
        if filled is not None:
            (aside if spec.aside else main).append(filled)
    widths = pages.fill_rows([(one.placed.width, one.placed.height) for one in main])
    shown_tabs = [
        {
            "label": tab_.label or tab_.name.capitalize(),
            "url": f"{request.path}?tab={tab_.name}" if n else request.path,
            "count": (counts or {}).get(tab_.name) or None,
            "is_active": tab_ is tab,
        }
        for n, tab_ in enumerate(tabs)
    ]
    return render(
        request,
        "pages/page.html",
        {
            "header": header,
            "breadcrumbs": breadcrumbs,
            "tabs": shown_tabs if len(shown_tabs) > 1 else [],
            "main": [one.render(width) for one, width in zip(main, widths, strict=True)],
            "aside": [one.render(pages.COLUMNS) for one in aside],
            "notices": [notice for notice in (served.notice, *context.notices) if notice],
            "banner": context.cache.get("banner"),
            "looks_again": served.spec.slot == "home",
            "title": header["title"],
            "styles": dict.fromkeys(
                style for one in [*main, *aside] if one.placed.widget for style in one.placed.widget.styles
            ),
        },
    )


def _shows(tab: TabSpec, context: PageContext, available: set[str]) -> bool:
    if tab.only_if and not _holds(tab.only_if, context):
        return False
    return any(_may_stand(spec, context, available) for spec in tab.widgets)


def _may_stand(spec: WidgetSpec, context: PageContext, available: set[str]) -> bool:
    """Whether a widget has a place: its data exist somewhere, and its condition holds."""
    made = pages.placed(spec).widget
    if made is not None and not delivered(made.needed(), available):
        return False
    return not spec.only_if or _holds(spec.only_if, context)


def _holds(condition: str, context: PageContext) -> bool:
    expression = compile_expression(condition, variables=["entity", "viewer"])
    entity = document_of(context) if context.entity is not None else {}
    try:
        return expression.test(Context(entity=entity, viewer={"name": context.viewer.username}))
    except ExpressionError as error:
        # Such as one about a field that this entity lacks.
        logger.info("The condition %r does not hold: %s", condition, error.message)
        return False


@login_required
@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """The first page."""
    served = pages.page_for("home")
    context = make_context(request)
    context.cache["kind_titles"] = {k.name: k.definition.plural for k in current_kinds()}
    return render_page(request, served, context, header={"title": served.spec.title or _("Home")})


@login_required
@require_safe
def catalog(request: HttpRequest) -> HttpResponse:
    """The list of what a query finds; the kinds are its tabs."""
    if len(request.GET.getlist("columns")) > 1:  # as the menu's boxes send them
        params = request.GET.copy()
        params["columns"] = ",".join(request.GET.getlist("columns"))
        return redirect(f"{request.path}?{params.urlencode(safe=',:')}")
    query = _query(request)
    if elsewhere := way_on(request, query):
        return redirect(elsewhere)
    context = make_context(request, query=query)
    kind = kind_of(query)
    served = pages.page_for("list", kind=kind)
    counts = queries.counts_by_kind(request.user)
    kinds = current_kinds()
    title = kinds.by_name(kind).definition.plural if kind in kinds else ""
    if served.spec.kinds or not title:  # a page of some kinds says itself what it shows
        title = served.spec.title or title or _("Catalog")
    view = _view_of(context)
    tabs, more = _kind_tabs(counts, kind)
    views, more_views = _view_tabs(context.viewer, kind, view)
    if view is not None:
        tabs = [tab | {"is_active": False} for tab in tabs]
    header: dict[str, Any] = {"title": title, "kind_tabs": tabs + views, "more_kinds": more + more_views}
    if can(request.user, "entity.write"):
        title_ = kinds.by_name(kind).definition.title if kind in kinds else ""
        what = links.kind_in_sentence(title_) or _("entity")
        url = f"/catalog/new?kind={kind}" if kind in kinds else "/catalog/new"
        header["actions"] = [{"label": _("New %(kind)s") % {"kind": what}, "url": url, "icon": "plus"}]
    if view is not None:
        header |= view_header(context, view)
    return render_page(
        request,
        served,
        context,
        header=header,
        breadcrumbs=[{"label": _("Catalog"), "url": "/catalog"}] if kind or view else None,
    )


def _view_of(context: PageContext) -> SavedView | None:
    """The view that a list was opened by; one that is gone, or for others, is said to be so."""
    text = context.params.get("view", "")
    if not text:
        return None
    try:
        view = saved_views.view_of(context.viewer, int(text[:9]) if text.isdecimal() else 0)
    except NotFound as error:
        context.refuse("view", error.message)
        return None
    if all(item.id != view.pk for item in saved_views.navigation_of(context.viewer)):
        saved_views.forget_navigation()  # it was made by another process a moment ago
    return view


def view_header(context: PageContext, view: SavedView) -> dict[str, Any]:
    """What stands above a list that was opened by a view."""
    shown = saved_views.shown_by(context.params, context.query)
    actions: list[dict[str, Any]] = []
    may = saved_views.may_change(context.viewer, view)
    teams = saved_views.teams_of(context.viewer) if view.audience == saved_views.Audience.TEAM else []
    if not saved_views.is_as_kept(view, shown):
        actions.append({"label": _("Back to the view"), "url": saved_views.list_url(view), "icon": "refresh"})
        if may:
            kept = urlencode({name: context.params.get(name, "") for name in ("columns", "order", "group")})
            url = f"/views/{view.pk}/save?{urlencode({'q': context.query})}&{kept}"
            save = {"label": _("Save the changes"), "url": url, "method": "post", "primary": True}
            actions.append(save)
    if may:
        actions.append(
            {"label": _("Edit view"), "url": f"/views/{view.pk}/edit", "icon": "pencil", "key": "e"}
        )
    return {
        "title": view.title,
        "description": view.spec.get("description", ""),
        "meta": [{"label": audience_of(view, teams)}],
        "actions": actions,
    }


@login_required
@require_safe
def catalog_csv(request: HttpRequest) -> StreamingHttpResponse:
    """The list of what a query finds as a file: all of it, as it is ordered, with its columns."""
    context = make_context(request, query=_query(request))
    kind = kind_of(context.query)
    served = pages.page_for("list", kind=kind)
    shown = (pages.placed(spec).widget for tab in served.spec.tabs for spec in tab.widgets)
    table = next((widget for widget in shown if isinstance(widget, EntityList)), None)
    if table is None:
        raise Http404
    headings, rows = table.export(context)
    day = timezone.localdate(context.now).isoformat()
    name = slugify(kind) or "catalog"
    return csv_response(chain([headings], rows), filename=f"{name}-{day}.csv")


def _query(request: HttpRequest) -> str:
    """The query of a list. The box sends its finished terms and what is being typed as one parameter each."""
    return " ".join(part.strip() for part in request.GET.getlist("q") if part.strip())[:2_000]


# Kinds that people look for most, in the order of their tabs; others follow by their number.
_FIRST_KINDS = ["component", "api", "resource", "system", "domain", "repository", "pipeline", "artifact"]
_KIND_TABS = 7
_VIEW_TABS = 3


def _kind_tabs(counts: dict[str, int], active: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The kinds as tabs, and those for which there is no room."""
    kinds = current_kinds()
    known = [name for name in counts if name in kinds]
    known.sort(
        key=lambda name: (
            _FIRST_KINDS.index(name) if name in _FIRST_KINDS else len(_FIRST_KINDS),
            -counts[name],
            name,
        )
    )
    shown = known[:_KIND_TABS]
    if active in known and active not in shown:
        shown[-1] = active
    tabs: list[dict[str, Any]] = [
        {
            "label": kinds.by_name(name).definition.plural,
            "count": counts[name],
            "url": links.catalog_url(f"kind:{name}"),
            "is_active": name == active,
        }
        for name in [*shown, *(name for name in known if name not in shown)]
    ]
    whole = {"label": _("All"), "count": sum(counts.values()), "url": "/catalog", "is_active": not active}
    rest = tabs[len(shown) :]
    return [whole, *tabs[: len(shown)]], rest


def _view_tabs(
    user: Any, kind: str, active: SavedView | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The views of what is listed as tabs, and those for which there is no room."""
    chosen = saved_views.nav_item(active) if active is not None else None
    found = [item for item in saved_views.navigation_of(user) if item.kind == kind or item == chosen]
    shown = found[:_VIEW_TABS]
    if chosen is not None and chosen not in shown:
        shown[_VIEW_TABS - 1 :] = [chosen]
    tabs: list[dict[str, Any]] = [
        {"label": item.title, "url": item.url, "icon": "bookmark", "is_active": item == chosen}
        for item in [*shown, *(item for item in found if item not in shown)]
    ]
    rest = tabs[len(shown) :]
    return tabs[: len(shown)], [{"heading": _("Views")}, *rest] if rest else []


@login_required
@require_safe
def entity(request: HttpRequest, namespace: str, kind: str, name: str) -> HttpResponse:
    """The page of one entity. An old name redirects to the present one."""
    try:
        found = queries.get_entity(request.user, namespace=namespace, kind=kind, name=name)
    except queries.Gone as gone:
        return _left(request, gone)
    except NotFound as error:
        near = queries.near_names(request.user, kind=kind, name=name)
        ref = f"{kind}:{namespace}/{name}".lower()
        is_named = mentions_of(request.user, ref).exists()
        return render(
            request,
            "pages/not_found.html",
            {
                "title": _("Not found"),
                "message": error.message,
                "near": [links.chip(e.ref, e) for e in near],
                "why_url": "/why?" + urlencode({"of": ref}, safe=":/"),
                "named_url": f"{links.ref_url(ref)}/unknown" if is_named else "",
            },
            status=404,
        )
    if (found.namespace, found.kind, found.name) != (namespace, kind, name):
        return redirect(links.entity_url(found))
    context = make_context(request, entity=found)
    problems = problems_of(context)
    if problems and context.params.get("tab") != "problems":
        worst = problems[0]
        context.cache["banner"] = {
            "tone": worst.severity,
            "title": worst.cause + ".",
            "text": worst.message,
            "url": links.entity_url(found, "problems"),
            "action": _("See problem"),
        }
    kinds = current_kinds()
    plural = kinds.by_name(found.kind).definition.plural if found.kind in kinds else found.kind
    return render_page(
        request,
        pages.page_for("entity", kind=found.kind),
        context,
        header=_entity_header(context, found),
        breadcrumbs=[
            {"label": _("Catalog"), "url": "/catalog"},
            {"label": plural, "url": links.catalog_url(f"kind:{found.kind}")},
            {"label": found.title, "url": ""},
        ],
        counts={"relations": len(neighbours_of(context)), "problems": len(problems)},
    )


# What outlives an entity, and so is shown of one that is gone.
_LASTING = ("history", "timeline")


def _left(request: HttpRequest, gone: queries.Gone) -> HttpResponse:
    """What is left of an entity that is gone: since when, by which sync run, and all that was before."""
    entity = gone.entity
    context = make_context(request, entity=entity)
    served = pages.page_for("entity", kind=entity.kind)
    tabs = [tab for tab in served.spec.tabs if all(spec.type in _LASTING for spec in tab.widgets)]
    if (
        not queries.list_activity(request.user)
        .filter(subject_uid__in=[uid for uid, _shared in reach(context)])
        .exists()
    ):
        tabs = [tab for tab in tabs if all(spec.type == "history" for spec in tab.widgets)]
    tabs.sort(key=lambda tab: tab.widgets[0].type)
    if not tabs:
        return render(
            request,
            "pages/not_found.html",
            {"title": gone.title, "message": gone.message},
            status=gone.status,
        )
    context.cache["banner"] = {
        "tone": "warn",
        "text": gone.message,
        "url": run_url(request, gone.last),
        "action": _("See the sync run"),
    }
    response = render_page(
        request,
        replace(served, spec=served.spec.model_copy(update={"tabs": tabs})),
        context,
        header={
            "title": entity.title,
            "kind": links.icon_kind(entity),
            "meta": [{"label": kind_word(entity)}, {"label": _("Gone"), "time": gone.last.at}],
        },
        breadcrumbs=[{"label": _("Catalog"), "url": "/catalog"}, {"label": entity.title, "url": ""}],
    )
    response.status_code = gone.status
    return response


# Types that are names have their own way to be written.
_PROPER = {"openapi": "OpenAPI", "asyncapi": "AsyncAPI", "graphql": "GraphQL", "grpc": "gRPC", "trpc": "tRPC"}


def kind_word(entity: Entity) -> str:
    """What an entity is, in a word: its type, else its kind."""
    word = entity.type or entity.kind
    return _PROPER.get(word, capfirst(word.replace("-", " ")))


def _entity_header(context: PageContext, entity: Entity) -> dict[str, Any]:
    document = document_of(context)
    meta: list[dict[str, Any]] = [{"label": kind_word(entity)}]
    known = connections_of(context.request)
    if any(known[name].is_sample for name in entity.sources if name in known):
        meta.append({"tag": _("Sample")})
    owner = next((n for n in neighbours_of(context) if n.type == "ownedBy"), None)
    if owner is not None:
        meta.append({"owner": links.owner_chip(owner.ref, owner.entity)})
    elif entity.kind == "component":
        meta.append({"owner": {"title": "", "ref": ""}, "label": _("No owner")})
    if entity.lifecycle:
        meta.append({"label": entity.lifecycle})
    system = next((n for n in neighbours_of(context) if n.type == "partOf"), None)
    if system is not None and system.entity is not None:
        meta.append({"label": system.entity.title, "url": links.entity_url(system.entity)})
    meta.append({"label": _("Changed"), "time": entity.changed_at})
    header: dict[str, Any] = {
        "title": entity.title,
        "favourite": {
            "url": f"{links.entity_url(entity)}/favourite",
            "is_on": bookmarks.view_entity(user=context.viewer, entity=entity),
        },
        "kind": links.icon_kind(entity),
        "description": entity.description,
        "meta": meta,
        "actions": [],
    }
    if entity.last_run:
        header["status"] = {"domain": "run", "state": entity.last_run}
    found = [
        link
        for link in document["metadata"].get("links") or []
        if isinstance(link, dict) and safe_url(str(link.get("url") or ""))
    ]
    if found:
        header["actions"].append(
            {
                "label": _("Open in"),
                "icon": "external-link",
                "items": [
                    {"label": link.get("title") or link["url"], "url": link["url"], "external": True}
                    for link in found[:12]
                ],
            }
        )
    header["actions"].append(
        {"label": _("Explore"), "url": links.graph_url(entity), "icon": "topology-star-3"}
    )
    acts = []
    if can(context.viewer, "entity.write", entity):
        url = f"{links.entity_url(entity)}/edit"
        acts.append({"label": _("Edit"), "url": url, "icon": "pencil", "key": "e"})
    if tied_to(entity.kind) and can(context.viewer, "tie.write", entity):
        acts.append({"label": _("Tie to..."), "url": f"{links.entity_url(entity)}/tie", "icon": "link"})
    if can(context.viewer, "entity.write", entity):
        acts.append({"label": _("Merge..."), "url": f"{links.entity_url(entity)}/merge", "icon": "git-merge"})
        acts.append({"label": _("Delete..."), "url": f"{links.entity_url(entity)}/delete", "icon": "trash"})
    for operation in operations_on(
        context.viewer, entity, reach(context), connections_of(context.request).values()
    ):
        acts.append(
            {"label": operation.label, "url": operation.url(links.entity_url(entity)), "icon": "player-play"}
        )
    if acts:
        header["actions"].append(
            {"label": _("Actions"), "icon": "player-play", "primary": True, "items": acts}
        )
    return header


@login_required
@require_POST
def favourite(request: HttpRequest, namespace: str, kind: str, name: str) -> HttpResponse:
    """Make an entity a favourite, or no longer; answers with the star, and the favourites for the sidebar."""
    try:
        found = queries.get_entity(request.user, namespace=namespace, kind=kind, name=name)
    except NotFound as error:
        raise Http404(error.message) from error
    is_on = request.POST.get("on") == "1"
    bookmarks.set_favourite(user=request.user, entity=found, is_on=is_on)  # type: ignore[arg-type]
    if not request.headers.get("HX-Request"):
        return redirect(links.entity_url(found))
    star = {"url": f"{links.entity_url(found)}/favourite", "is_on": is_on}
    answer = render(request, "components/favourite.html", {"favourite": star})
    answer.write(render_to_string("shell/favourites.html", favourites(person(request))))
    return answer


@login_required
@require_safe
def activity(request: HttpRequest) -> HttpResponse:
    """Everything that happened."""
    served = pages.page_for("activity")
    context = make_context(request, query=request.GET.get("q", "").strip()[:2_000])
    changed = {"label": _("What changed"), "url": links.history_url(context.query), "icon": "history"}
    header = {"title": served.spec.title or _("Activity"), "actions": [changed]}
    return render_page(request, served, context, header=header)


@login_required
@require_safe
def problems(request: HttpRequest) -> HttpResponse:
    """Everything that a person should see to."""
    served = pages.page_for("problems")
    return render_page(
        request, served, make_context(request), header={"title": served.spec.title or _("Problems")}
    )


@login_required
@require_safe
def sync_state(request: HttpRequest) -> HttpResponse:
    """How syncing is, for the line below the navigation, which asks again while something runs."""
    return render(request, "shell/sync.html")


@login_required
@require_safe
def widget(request: HttpRequest, page: str, widget: str) -> HttpResponse:
    """One widget by itself: for those that load after the page, and to try a failed one again."""
    try:
        served = pages.page_named(page)
    except NotFound as error:
        raise Http404(error.message) from error
    tab, spec = next(
        ((tab, w) for tab in served.spec.tabs for w in tab.widgets if w.id == widget), (None, None)
    )
    if tab is None or spec is None:
        raise Http404
    found = None
    if ref := request.GET.get("of", ""):
        kind, _colon, rest = ref.partition(":")
        namespace, _slash, name = rest.partition("/")
        try:
            found = queries.get_entity(request.user, namespace=namespace, kind=kind, name=name)
        except NotFound as error:
            raise Http404(error.message) from error
    context = make_context(request, entity=found, query=request.GET.get("q", ""))
    available = context.delivered
    if not _shows(tab, context, available) or not _may_stand(spec, context, available):
        raise Http404
    filled = pages.placed(spec).fill(context, hide_empty=spec.hide_empty)
    width = request.GET.get("width", "")
    room = int(width) if width in map(str, range(1, pages.COLUMNS + 1)) else spec.width
    return HttpResponse(filled.render(room) if filled else "")
