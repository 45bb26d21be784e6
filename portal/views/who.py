"""Which one is you? An account and its person in the catalog."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Case, IntegerField, Q, QuerySet, Value, When
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from access.models import User
from access.services import claim_person
from base.errors import DomainError
from catalog import queries
from catalog.models import Entity
from catalog.permissions import person_of
from catalog.services.people import accounts_of, email_of, people_at, say_who
from portal import links
from portal.people import person
from portal.views.settings import shell_of

SHOWN = 20


@login_required
@require_http_methods(["GET", "POST"])
def who(request: HttpRequest) -> HttpResponse:
    """Who one may be, and the word that one is."""
    user, error = person(request), ""
    if request.method == "POST":
        try:
            return _answer(request)
        except DomainError as failure:
            error = failure.message
    text = request.GET.get("q", "").strip()[:100]
    tied = person_of(user)
    claim = user.claimed_entity_uid
    claimed = queries.list_entities(user).filter(uid=claim).first() if claim else None
    found = _found(user, text) if text else _likely(user)
    rows = list(found[:SHOWN]) if tied is None else []
    documents, accounts = queries.documents(user, rows), accounts_of(rows, but=user)
    return render(
        request,
        "settings/who.html",
        shell_of(request, "settings", title=_("Which one is you?"), parent=_("You"))
        | {
            "chip": links.chip(tied.ref, tied) if tied else None,
            "claimed": links.chip(claimed.ref, claimed) if claimed else None,
            "rows": [
                {
                    "entity": entity,
                    "chip": links.chip(entity.ref, entity),
                    "email": email_of(documents.get(entity.pk, {})),
                    "account": accounts.get(entity.pk),
                }
                for entity in rows
            ],
            "q": text,
            "error": error,
            "has_people": bool(rows) or _people(user).exists(),
        },
        status=422 if error else 200,
    )


def _answer(request: HttpRequest) -> HttpResponse:
    user = person(request)
    if request.POST.get("action") == "withdraw":
        claim_person(user, entity_uid=None, by=user)
        messages.success(request, _("Nobody is asked any more."))
        return redirect("portal:settings-who")
    entity = queries.get_entity(user, uid=request.POST.get("entity", "") or "none")
    if say_who(user, entity):
        messages.success(request, _("You are %(name)s. What is yours follows.") % {"name": entity.title})
        return redirect("portal:home")
    messages.success(
        request, _("You said that you are %(name)s. An administrator confirms it.") % {"name": entity.title}
    )
    return redirect("portal:settings-who")


def _people(user: User) -> QuerySet[Entity]:
    return queries.list_entities(user).filter(kind="user")


def _found(user: User, text: str) -> QuerySet[Entity]:
    """The people whose name or title holds the text, or whose address it is."""
    by_address = people_at([text]).values("pk")
    condition = Q(name__icontains=text) | Q(title__icontains=text) | Q(pk__in=by_address)
    return _people(user).filter(condition).order_by("title", "ref")


def _likely(user: User) -> QuerySet[Entity]:
    """The people who may be this one by address or name, the most likely first; else the first of all."""
    by_address = Q(pk__in=people_at([user.email]).values("pk"))
    by_name = Q(name=user.username) | (Q(title__iexact=user.name) if user.name else Q())
    rank = Case(
        When(by_address, then=Value(0)),
        When(by_name, then=Value(1)),
        default=Value(2),
        output_field=IntegerField(),
    )
    return _people(user).annotate(rank=rank).order_by("rank", "title", "ref")
