"""What changed: of what a query finds, between two days; and an entity as it was at a revision."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import chain
from typing import Any
from urllib.parse import urlencode

import orjson
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_safe

from base.errors import DomainError
from base.pagination import BadCursor, paginate
from catalog import past, queries
from catalog.past import Found
from catalog.query import QueryError
from catalog.services import restoring
from catalog.services.edit import etag_of
from portal import links
from portal.sources import run_url
from portal.tables import Cell, csv_response

AT_ONCE = 25
EXPORTED = 100_000
EXPORT_PAGE = 500
ORDER = ("title", "id")
_SPANS = (1, 7, 30, 90)


def _asked(request: HttpRequest) -> dict[str, str]:
    query = " ".join(part.strip() for part in request.GET.getlist("q") if part.strip())[:2_000]
    return {"q": query, "from": request.GET.get("from", "")[:40], "to": request.GET.get("to", "")[:40]}


def _found(request: HttpRequest, asked: dict[str, str]) -> tuple[Found, datetime, datetime]:
    now = timezone.now()
    since, until = past.span_of(asked["from"], asked["to"], now=now)
    return past.what_changed(request.user, asked["q"], since=since, until=until, now=now), since, until


def _url(path: str, asked: dict[str, str], **changes: str) -> str:
    params = {name: value for name, value in {**asked, **changes}.items() if value}
    return f"{path}?{urlencode(params)}" if params else path


@login_required
@require_safe
def history(request: HttpRequest) -> HttpResponse:
    """What changed of what a query finds, or found then, by entity."""
    asked = _asked(request)
    shown: dict[str, Any] = {
        "title": _("What changed"),
        "asked": asked,
        "breadcrumbs": [
            {"label": _("Catalog"), "url": links.catalog_url(asked["q"])},
            {"label": _("What changed"), "url": ""},
        ],
    }
    error, field = "", ""
    today = timezone.localdate()
    since_day = asked["from"] or (today - past.SPAN).isoformat()
    shown["spans"] = [
        {
            "label": ngettext("Last day", "Last %(n)s days", n) % {"n": n},
            "url": _url("/history", asked, **{"from": (today - timedelta(days=n)).isoformat(), "to": ""}),
            "is_active": since_day == (today - timedelta(days=n)).isoformat() and not asked["to"],
        }
        for n in _SPANS
    ]
    try:
        found, since, until = _found(request, asked)
    except QueryError as failure:
        error, field = failure.sentence, "q"
    except DomainError as failure:
        error, field = failure.message, "from"
    if error:
        return render(request, "history/index.html", shown | {"error": error, "field": field}, status=422)
    rows = found.rows.defer("tokens", "description")
    try:
        page = paginate(rows, order=ORDER, limit=AT_ONCE, cursor=request.GET.get("cursor") or None)
    except BadCursor:
        return redirect(_url("/history", asked))
    told = past.revisions_of(request.user, page.rows, since=since, until=until)
    owners = queries.titles_of(request.user, {entity.owner for entity in page.rows})
    for rows_ in told.values():
        for row in rows_:
            row.run_url = run_url(request, row)  # type: ignore[attr-defined]  # for the template alone
    total = found.rows.order_by().count()
    return render(
        request,
        "history/index.html",
        shown
        | {
            "since": since,
            "until": until,
            "total": total,
            "is_whole": found.is_whole,
            "most": past.MOST_CANDIDATES,
            "groups": [
                {
                    "chip": links.chip(entity.ref, entity),
                    "owner": links.owner_of(entity, owners),
                    "is_gone": not entity.is_alive,
                    "is_past": entity.uid in found.then and entity.is_alive,
                    "revisions": told[entity.uid],
                    "is_cut": len(told[entity.uid]) >= past.MOST_REVISIONS,
                }
                for entity in page.rows
            ],
            "page": links.pages_around(page, **asked),
            "csv_url": _url("/history.csv", asked),
        },
    )


@login_required
@require_safe
def history_csv(request: HttpRequest) -> StreamingHttpResponse:
    """The same as a file: a row for each field that changed."""
    asked = _asked(request)
    found, since, until = _found(request, asked)
    facts = [_("Ref"), _("Name"), _("Revision"), _("When"), _("What"), _("By"), _("Source"), _("Reason")]
    headings = [*facts, _("Field"), _("Old"), _("New")]
    day = timezone.localdate().isoformat()
    rows = _exported(request, found, since, until)
    return csv_response(chain([headings], rows), filename=f"history-{day}.csv")


def _exported(request: HttpRequest, found: Found, since: datetime, until: datetime) -> Iterator[list[Cell]]:
    left, cursor = EXPORTED, None
    rows = found.rows.defer("tokens", "description")
    while left > 0:
        page = paginate(rows, order=ORDER, limit=EXPORT_PAGE, cursor=cursor)
        told = past.revisions_of(request.user, page.rows, since=since, until=until, most=left)
        for entity in page.rows:
            for row in told[entity.uid]:
                said: list[Cell] = [
                    entity.ref, entity.title, row.number, row.at, str(row.get_action_display()), row.by,
                    row.by_key, row.reason,
                ]  # fmt: skip
                for change in row.diff or [{}]:
                    yield [*said, change.get("path", ""), _word(change.get("old")), _word(change.get("new"))]
                    left -= 1
        cursor = page.next
        if cursor is None:
            return


def _word(value: Any) -> Cell:
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()


@login_required
@require_http_methods(["GET", "POST"])
def restore(request: HttpRequest, namespace: str, kind: str, name: str, number: int) -> HttpResponse:
    """What restoring a revision would do; then it is done."""
    entity = queries.get_entity(request.user, namespace=namespace, kind=kind, name=name)
    error = ""
    if request.method == "POST":
        try:
            restoring.restore_revision(
                user=request.user,
                entity=entity,
                number=number,
                reason=request.POST.get("reason", "")[:1_000],
                expected=request.POST.get("etag", "")[:200],
            )
        except DomainError as failure:
            error = failure.in_full
        else:
            said = _("%(name)s is as it was. “Recent changes” in the settings undoes that.")
            messages.success(request, said % {"name": entity.title})
            return redirect(links.entity_url(entity, "history"))
    plan = restoring.plan_restore(user=request.user, entity=entity, number=number)
    back_url = links.entity_url(entity, "history")
    return render(
        request,
        "history/restore.html",
        {
            "title": _("Restore revision %(number)s") % {"number": number},
            "plan": plan,
            "etag": etag_of(entity),
            "error": error,
            "back_url": back_url,
            "breadcrumbs": [
                {"label": _("Catalog"), "url": "/catalog"},
                {"label": entity.title, "url": links.entity_url(entity)},
                {"label": _("History"), "url": back_url},
                {"label": _("Restore"), "url": ""},
            ],
        },
        status=409 if error else 200,
    )
