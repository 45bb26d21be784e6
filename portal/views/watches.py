"""What one wants to be told of, and the notices: the bell's list, the page of all, and the settings for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from pydantic import BaseModel, Field

from base.errors import DomainError
from base.pagination import BadCursor, paginate
from catalog.query import QueryError
from portal import links, mail, watches
from portal.forms import Form
from portal.models import Watch
from portal.people import person
from portal.shell import favourites
from portal.undoing import deleted, restored
from portal.views.settings import shell_of
from portal.widgets.activity import TYPE_LABELS, Type

AT_ONCE = 30
IN_THE_BELL = 6
MOST_SHOWN = 99


class _Named(BaseModel):
    name: str = Field(
        "",
        title=gettext_noop("Name"),
        max_length=watches.LONGEST_NAME,
        description=gettext_noop("Left empty, the query's words."),
    )
    query: str = Field(
        "",
        title=gettext_noop("Query"),
        max_length=watches.LONGEST_QUERY,
        json_schema_extra={"format": "query", "suggest": "/search/terms"},
    )


class _Mailed(BaseModel):
    mail: Literal["none", "now", "daily"] = Field(
        "none",
        title=gettext_noop("Mail besides the bell"),
        json_schema_extra={
            "labels": {
                "none": gettext_noop("No mail"),
                "now": gettext_noop("At once"),
                "daily": gettext_noop("Once a day"),
            }
        },
    )


class EntitiesIn(_Mailed, _Named):
    """A watch on entities."""

    when: Literal["new", "gone", "both"] = Field(
        "new",
        title=gettext_noop("Tell me when"),
        json_schema_extra={
            "labels": {
                "new": gettext_noop("Something new matches"),
                "gone": gettext_noop("Something no longer matches"),
                "both": gettext_noop("Either"),
            }
        },
    )


class ActivityIn(_Mailed, _Named):
    """A watch on activity."""

    types: list[Type] = Field(
        default_factory=list,
        title=gettext_noop("Types"),
        description=gettext_noop("Only these; all if none is chosen."),
    )
    status: str = Field(
        "",
        title=gettext_noop("Status"),
        max_length=40,
        description=gettext_noop("Only when it becomes this, such as failed; else each when it begins."),
    )


_ORDER = ("name", "query", "types", "status", "when", "mail")


# --- the bell ---------------------------------------------------------------------------------------------


@require_GET
def bell(request: HttpRequest) -> HttpResponse:
    """How many notices are unread, and the favourites for the sidebar; asked for after the page and now and then."""
    if not request.user.is_authenticated:
        return HttpResponse(status=204)  # signed out meanwhile: what is there stays
    count = watches.unread_of(person(request)).order_by()[: MOST_SHOWN + 1].count()
    # Without the request: what stands around a page costs as much again.
    shown = {"count": count, "is_many": count > MOST_SHOWN, "most": MOST_SHOWN}
    stars = render_to_string("shell/favourites.html", favourites(person(request)))
    return HttpResponse(render_to_string("notices/bell.html", shown) + stars)


@login_required
@require_GET
def newest(request: HttpRequest) -> HttpResponse:
    """The newest notices, for the bell's menu when it is opened."""
    user = person(request)
    rows = watches.notices_of(user)[:IN_THE_BELL]
    return render(request, "notices/menu.html", {"told": watches.told(user, rows)})


@csrf_exempt  # a mail program is signed in nowhere: that it has the link is all that it can show
@require_http_methods(["GET", "HEAD", "POST"])
def end(request: HttpRequest, token: str) -> HttpResponse:
    """What the link in a mail leads to: to look at it ends nothing, to send it does."""
    if request.method == "POST":
        mail.end_mails(token)
    names = list(mail.ended_by(token).values_list("name", flat=True))
    return render(request, "notices/end.html", {"names": names})


@login_required
@require_GET
def notices(request: HttpRequest) -> HttpResponse:
    """All notices, the newest first."""
    user = person(request)
    try:
        page = paginate(
            watches.notices_of(user), order=("-at", "-id"), limit=AT_ONCE, cursor=request.GET.get("cursor")
        )
    except BadCursor:
        return redirect("portal:notices")
    told = watches.told(user, page.rows)
    return render(
        request,
        "notices/index.html",
        {
            "title": _("Notices"),
            "told": told,
            "has_unread": any(one.notice.read_at is None for one in told) or watches.unread_of(user).exists(),
            "page": links.pages_around(page),
            "days": watches.NOTICES_STAY.days,
        },
    )


@login_required
@require_POST
def open_notice(request: HttpRequest, notice_id: int) -> HttpResponse:
    """Read a notice, and go to the list that it is about."""
    notice = watches.mark_notice(user=person(request), notice_id=notice_id)
    return redirect(watches.url_of(notice.watch))


@login_required
@require_POST
def mark_notice(request: HttpRequest, notice_id: int) -> HttpResponse:
    """Have a notice read, or unread."""
    watches.mark_notice(user=person(request), notice_id=notice_id, is_read=request.POST.get("read") != "0")
    return redirect("portal:notices")


@login_required
@require_POST
def mark_all(request: HttpRequest) -> HttpResponse:
    """Have all notices read."""
    watches.mark_all(user=person(request))
    return redirect("portal:notices")


# --- settings ---------------------------------------------------------------------------------------------


@login_required
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """What one is told of."""
    user = person(request)
    return render(
        request,
        "settings/watches.html",
        shell_of(request, "settings-tell-me")
        | {
            "rows": [_row(watch) for watch in watches.watches_of(user)],
            "deleted": list(watches.deleted_of(user)),
            "no_mail": watches.why_no_mail(user),
        },
    )


def _row(watch: Watch) -> dict[str, Any]:
    return {"watch": watch, "url": watches.url_of(watch), "words": watches.words_of(watch)}


def _form(about: str, data: Any = None, initial: dict[str, Any] | None = None) -> Form:
    return Form(ActivityIn if about == Watch.About.ACTIVITY else EntitiesIn, data, initial=initial)


def _done(form: Form, act: Callable[..., Watch]) -> Watch | None:
    """What comes of a form; None if something of it cannot be, which then stands at its field."""
    if form.is_valid():
        try:
            return act(**form.values)
        except QueryError as error:
            form.errors["query"] = [error.sentence]
        except DomainError as error:
            form.add_errors(error)
    return None


@login_required
@require_http_methods(["GET", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """Ask to be told of what a query finds."""
    given = request.GET
    about = Watch.About.ACTIVITY if given.get("about") == "activity" else Watch.About.ENTITIES
    query = given.get("q", "").strip()[: watches.LONGEST_QUERY]
    types = [name for name in given.get("type", "").split(",") if name in TYPE_LABELS]
    status = given.get("status", "")[:40]
    name = watches.default_name(about=about, query=query, types=types, status=status)
    form = _form(about, initial={"name": name, "query": query, "types": types, "status": status})
    if request.method == "POST":
        form = _form(about, request.POST)
        made = _done(form, partial(watches.make_watch, user=person(request), about=about))
        if made is not None:
            messages.success(request, _("You will be told of “%(name)s”.") % {"name": made.name})
            return redirect(watches.url_of(made))
    return _page(request, form, title=_("New watch"), about=about)


@login_required
@require_http_methods(["GET", "POST"])
def edit(request: HttpRequest, watch_id: int) -> HttpResponse:
    """Change what one is told of, or how."""
    user = person(request)
    watch = watches.watch_of(user, watch_id)
    names = ["name", "query", "mail", *(["types", "status"] if watch.is_of_activity else ["when"])]
    form = _form(watch.about, initial={name: getattr(watch, name) for name in names})
    if request.method == "POST":
        form = _form(watch.about, request.POST)
        if _done(form, partial(watches.change_watch, watch=watch)) is not None:
            messages.success(request, _("The watch is saved."))
            return redirect("portal:settings-tell-me")
    return _page(request, form, title=watch.name, about=watch.about, watch=watch)


def _page(
    request: HttpRequest, form: Form, *, title: str, about: str, watch: Watch | None = None
) -> HttpResponse:
    fields = {field["name"]: field for field in form.fields}
    if (reason := watches.why_no_mail(person(request))) and (watch is None or watch.mail == Watch.Mail.NONE):
        fields["mail"] |= {"disabled": True, "help": _("Not available. %(reason)s") % {"reason": reason}}
    if "types" in fields:
        fields["types"]["choices"] = [{"value": name, "label": label} for name, label in TYPE_LABELS.items()]
    return render(
        request,
        "settings/watch.html",
        shell_of(request, "settings-tell-me", title=title)
        | {
            "form": form,
            "fields": [fields[name] for name in _ORDER if name in fields],
            "watch": watch,
            "url": watches.url_of(watch) if watch else "",
            "mail_trouble": watches.mail_trouble(watch) if watch else "",
            "what": _("It is about what happened to what the query finds; without a query, to anything.")
            if about == Watch.About.ACTIVITY
            else _("It is about what the query finds; what matches already is not told."),
        },
        status=422 if form.errors else 200,
    )


@login_required
@require_POST
def pause(request: HttpRequest, watch_id: int) -> HttpResponse:
    """Be quiet about something for a while, or no longer."""
    watch = watches.watch_of(person(request), watch_id)
    watches.change_watch(watch=watch, is_paused=request.POST.get("paused") == "1")
    return redirect("portal:settings-tell-me")


@login_required
@require_POST
def delete(request: HttpRequest, watch_id: int) -> HttpResponse:
    """Be told no more of something; its row goes, and a toast takes that back."""
    watch = watches.watch_of(person(request), watch_id)
    watches.delete_watch(watch=watch)
    said = _("The watch “%(name)s” is deleted.") % {"name": watch.name}
    undo = reverse("portal:settings-watch-restore", args=[watch.pk])
    return deleted(request, said, undo=undo, back=reverse("portal:settings-tell-me"))


@login_required
@require_POST
def restore(request: HttpRequest, watch_id: int) -> HttpResponse:
    """Take the deletion of a watch back."""
    watches.restore_watch(user=person(request), watch_id=watch_id)
    return restored(request, back=reverse("portal:settings-tell-me"))
