"""Who may do what: accounts, access groups, grants and roles, for those who look after them."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Literal

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods
from pydantic import BaseModel, Field

from access import queries, services
from access.links import sign_in_url
from access.models import ApiToken, Grant, Group, User
from access.permissions import can, require, visible
from access.verbs import EVERYTHING, VERBS
from base.errors import DomainError, InvalidInput, NotFound
from base.text import whole_number
from catalog.permissions import person_of
from catalog.queries import list_entities
from catalog.services.people import confirm_who
from portal import links
from portal.forms import Form
from portal.people import person
from portal.views.connections import page_of
from portal.views.settings import shell_of, show_once, shown_once

USERS = 50
INVITATION = "invitation"


class Invitation(BaseModel):
    """Who is to come, and what they will be allowed."""

    email: str = Field(
        "",
        title=gettext_noop("E-mail"),
        max_length=254,
        json_schema_extra={"format": "email"},
        description=gettext_noop("Nothing is sent. It ties the account to the person in the catalog."),
    )
    name: str = Field("", title=gettext_noop("Name"), max_length=200)
    username: str = Field(
        "",
        title=gettext_noop("User name"),
        max_length=100,
        description=gettext_noop(
            "Lower-case letters, digits and . _ @ + -. It never changes. Leave empty to take it from the e-mail."
        ),
    )
    role: str = Field("viewer", title=gettext_noop("Role"))
    namespace: str = Field(
        "",
        title=gettext_noop("Only in this namespace"),
        max_length=63,
        description=gettext_noop("Leave empty to give the role for everything."),
    )
    groups: list[int] = Field(
        [],
        title=gettext_noop("Access groups"),
        description=gettext_noop("What they grant comes on top of the role."),
    )


class UserFacts(BaseModel):
    """What an administrator says of an account."""

    name: str = Field("", title=gettext_noop("Name"), max_length=200)
    email: str = Field(
        "", title=gettext_noop("E-mail"), max_length=254, json_schema_extra={"format": "email"}
    )
    is_email_verified: bool = Field(
        False,
        title=gettext_noop("The e-mail is verified"),
        description=gettext_noop(
            "Whoever signs in with it through the identity provider, and who has it in the catalog, is this person."
        ),
    )
    entity: str = Field(
        "",
        title=gettext_noop("Person in the catalog"),
        max_length=300,
        json_schema_extra={"placeholder": "user:default/ana"},
        description=gettext_noop("What is theirs follows from it. Empty for nobody."),
    )


class NewGrant(BaseModel):
    """A role, as far as its scope reaches."""

    role: str = Field(title=gettext_noop("Role"), min_length=1)
    scope_type: Literal["all", "namespace", "query"] = Field(
        "all",
        title=gettext_noop("Reaches"),
        json_schema_extra={
            "labels": {
                "all": gettext_noop("Everything"),
                "namespace": gettext_noop("One namespace"),
                "query": gettext_noop("What a query finds"),
            }
        },
    )
    scope: str = Field(
        "",
        title=gettext_noop("Namespace or query"),
        max_length=2_000,
        description=gettext_noop("Empty when it reaches everything."),
    )


class NewGroup(BaseModel):
    """An access group."""

    name: str = Field(
        title=gettext_noop("Name"),
        min_length=1,
        max_length=100,
        description=gettext_noop("It grants; the catalog's own groups describe."),
    )


def access_part(request: HttpRequest, part: str, *, title: str = "") -> dict[str, Any]:
    """What the access pages share: besides the tabs, which part of it one is in."""
    parts = [("", _("Users")), ("groups", _("Groups")), ("roles", _("Roles"))]
    if can(request.user, EVERYTHING):
        parts.append(("sign-in", _("Sign-in")))
    return shell_of(request, "settings-access", title=title) | {
        "parts": [
            {
                "label": label,
                "url": f"/settings/access/{name}" if name else "/settings/access",
                "is_active": name == part,
            }
            for name, label in parts
        ],
        "may_write": can(request.user, "user.write"),
    }


def _role_choices(request: HttpRequest, field: dict[str, Any]) -> dict[str, Any]:
    roles = queries.list_roles(viewer=person(request))
    return field | {"type": "select", "choices": [{"value": r.name, "label": r.title} for r in roles]}


def _group_choices(request: HttpRequest, field: dict[str, Any]) -> dict[str, Any]:
    groups = list(queries.list_groups(viewer=person(request)))
    choices = [{"value": group.pk, "label": group.name} for group in groups]
    return field | {"type": "multiple", "choices": choices, "rows": min(max(len(groups), 2), 6)}


def _grant_fields(request: HttpRequest, form: Form) -> list[dict[str, Any]]:
    """The form's fields, with the roles and groups that there are; without those that offer no choice."""
    dynamic = {"role": _role_choices, "groups": _group_choices}
    fields = [dynamic[f["name"]](request, f) if f["name"] in dynamic else f for f in form.fields]
    return [field for field in fields if field["name"] != "groups" or field["choices"]]


# --- users ----------------------------------------------------------------------------------------------


@never_cache
@login_required
@require_http_methods(["GET", "POST"])
def users(request: HttpRequest) -> HttpResponse:
    """All accounts with their roles and last sign-in; who is invited, and another invitation."""
    require(request.user, "user.read")
    form, error = Form(Invitation), ""
    if request.method == "POST":
        require(request.user, "user.write")
        action = request.POST.get("action", "")
        try:
            if action == "invite":
                form = Form(Invitation, request.POST)
                done = form.is_valid() and _invite(request, form)
            else:
                done = _act_on_users(request, action)
        except DomainError as failure:
            done = False
            if action == "invite":
                form.add_errors(failure)
            else:
                error = failure.message
        if done:
            return redirect("portal:settings-access")
    text = request.GET.get("q", "").strip()[:100]
    rows, page = page_of(request, queries.list_users(viewer=person(request), text=text), USERS)
    open_ones = queries.list_invitations(viewer=person(request))
    invitations = list(open_ones[:USERS])
    told = _with_grants(request, [*rows, *(invitation.user for invitation in invitations)])
    invited = set(open_ones.filter(user__in=rows).values_list("user_id", flat=True))
    link = shown_once(request, INVITATION)
    return render(
        request,
        "settings/users.html",
        access_part(request, "")
        | {
            "rows": [row | {"is_invited": row["user"].pk in invited} for row in told[: len(rows)]],
            "invitations": [
                row | {"link": invitation}
                for row, invitation in zip(told[len(rows) :], invitations, strict=True)
            ],
            "invitations_total": open_ones.count(),
            "claims": _claims(request),
            "now": timezone.now(),
            "page": page,
            "q": text,
            "form": form,
            "fields": _grant_fields(request, form),
            "is_open": bool(form.errors) or "invite" in request.GET,
            "link": sign_in_url(link) if link else "",
            "error": error,
        },
        status=422 if form.errors or error else 200,
    )


def _invite(request: HttpRequest, form: Form) -> bool:
    values, by = form.values, person(request)
    wanted = set(values["groups"])
    made = services.invite(
        username=values["username"],
        name=values["name"],
        email=values["email"],
        role=values["role"] or None,
        scope_type="namespace" if values["namespace"] else "all",
        scope=values["namespace"],
        groups=[group for group in queries.list_groups(viewer=by) if group.pk in wanted],
        by=by,
    )
    _show_invitation(request, made.user, made.text)
    return True


def _show_invitation(request: HttpRequest, user: User, text: str) -> None:
    show_once(request, INVITATION, text)
    messages.success(request, _("%(name)s is invited. Copy the link now.") % {"name": user.label})


def _act_on_users(request: HttpRequest, action: str) -> bool:
    by = person(request)
    if action in {"renew", "withdraw"}:
        waiting = queries.list_invitations(viewer=by)
        invitation = waiting.filter(pk=whole_number(request.POST.get("invitation", ""))).first()
        if invitation is None:
            raise NotFound(_("There is no such invitation any more."))
        if action == "renew":
            _show_invitation(request, invitation.user, services.make_sign_in_link(invitation.user, by=by))
        else:
            services.revoke_invitation(invitation, by=by)
            messages.success(
                request, _("The invitation of %(name)s is taken back.") % {"name": invitation.user.label}
            )
    elif action in {"activate", "deactivate"}:
        _switch(request, _user(request, whole_number(request.POST.get("user", ""))), action)
    elif action in {"confirm", "decline"}:
        _settle_claim(request, _user(request, whole_number(request.POST.get("user", ""))), action)
    else:
        raise InvalidInput(_("There is no such act."))
    return True


def _settle_claim(request: HttpRequest, found: User, action: str) -> None:
    if action == "decline":
        services.claim_person(found, entity_uid=None, by=person(request))
        messages.success(request, _("%(name)s is nobody in the catalog yet.") % {"name": found.label})
    else:
        entity = confirm_who(found, by=person(request))
        messages.success(
            request, _("%(name)s is %(ref)s from now on.") % {"name": found.label, "ref": entity.ref}
        )


def _claims(request: HttpRequest) -> list[dict[str, Any]]:
    """Who says whom they are, with that person as far as they are there."""
    claims = list(queries.list_claims(viewer=person(request))[:USERS])
    people = {
        entity.uid: entity
        for entity in list_entities(request.user).filter(uid__in=[user.claimed_entity_uid for user in claims])
    }
    return [
        {"user": user, "chip": links.chip(entity.ref, entity)}
        for user in claims
        if user.claimed_entity_uid and (entity := people.get(user.claimed_entity_uid)) is not None
    ]


def _switch(request: HttpRequest, found: User, action: str) -> None:
    services.change_user(found, is_active=action == "activate", by=person(request))
    said = (
        _("%(name)s can sign in again.")
        if action == "activate"
        else _("%(name)s can no longer sign in, and their tokens rest.")
    )
    messages.success(request, said % {"name": found.label})


def _with_grants(request: HttpRequest, rows: list[User]) -> list[dict[str, Any]]:
    """Accounts with what they were granted, themselves and through groups."""
    held: dict[int, list[Grant]] = defaultdict(list)
    members: dict[int, list[int]] = defaultdict(list)
    for group_id, user_id in Group.members.through.objects.filter(user__in=rows).values_list(
        "group_id", "user_id"
    ):
        members[group_id].append(user_id)
    theirs = Q(user__in=rows) | Q(group__in=list(members))
    for grant in queries.list_grants(viewer=person(request)).filter(theirs):
        for user_id in [grant.user_id] if grant.user_id else members.get(grant.group_id or 0, []):
            held[user_id].append(grant)
    return [{"user": user, "grants": held[user.pk]} for user in rows]


def _user(request: HttpRequest, user_id: int) -> User:
    found = queries.list_users(viewer=person(request)).filter(pk=user_id).first()
    if found is None:
        raise NotFound(_("There is no such account here."))
    return found


@never_cache
@login_required
@require_http_methods(["GET", "POST"])
def user(request: HttpRequest, user_id: int) -> HttpResponse:
    """One account: who it is, what it may do, its tokens; a link for it to sign in."""
    require(request.user, "user.read")
    found = _user(request, user_id)
    entity = person_of(found)
    initial = {
        "name": found.name,
        "email": found.email,
        "is_email_verified": found.is_email_verified,
        "entity": entity.ref if entity else "",
    }
    facts, grant = Form(UserFacts, initial=initial), Form(NewGrant)
    if request.method == "POST":
        require(request.user, "user.write")
        action = request.POST.get("action", "")
        form = facts
        try:
            if action == "facts":
                form = facts = Form(UserFacts, request.POST)
                done = facts.is_valid() and _change_user(request, found, facts)
            elif action == "grant":
                form = grant = Form(NewGrant, request.POST)
                done = grant.is_valid() and _grant(request, grant, user=found)
            else:
                done = _act_on_user(request, found, action)
        except DomainError as error:
            form.add_errors(error)
            done = False
        if done:
            return redirect("portal:settings-user", user_id=found.pk)
        found.refresh_from_db()
    tokens = visible(person(request), ApiToken.objects.filter(user=found, revoked_at=None)).select_related(
        "role"
    )
    link = shown_once(request, f"link-{found.pk}")
    return render(
        request,
        "settings/user.html",
        access_part(request, "", title=found.label)
        | {
            "account": found,
            "facts": facts,
            "grant": grant,
            "grant_fields": _grant_fields(request, grant),
            "grants": list(queries.list_grants(viewer=person(request), user=found)),
            "tokens": tokens,
            "identities": list(found.identities.all()),
            "link": sign_in_url(link) if link else "",
            "chip": links.chip(entity.ref, entity) if entity else None,
            "is_me": found.pk == person(request).pk,
        },
        status=422 if facts.errors or grant.errors else 200,
    )


def _change_user(request: HttpRequest, found: User, form: Form) -> bool:
    values = form.values
    entity_uid = None
    if ref := values["entity"].strip().lower():
        entity = list_entities(request.user).filter(ref=ref, kind="user").first()
        if entity is None:
            form.errors["entity"] = [_("There is no such person in the catalog: write user:namespace/name.")]
            return False
        entity_uid = entity.uid
    services.change_user(
        found,
        name=values["name"],
        email=values["email"],
        is_email_verified=values["is_email_verified"],
        by=person(request),
    )
    if entity_uid != found.entity_uid:
        services.tie_account(found, entity_uid=entity_uid, by=person(request))
    messages.success(request, _("The account is saved."))
    return True


def _grant(request: HttpRequest, form: Form, **holder: Any) -> bool:
    values = form.values
    made = services.grant(
        role=values["role"],
        scope_type=values["scope_type"],
        scope=values["scope"],
        by=person(request),
        **holder,
    )
    messages.success(request, _("Granted: %(grant)s.") % {"grant": made})
    return True


def _act_on_user(request: HttpRequest, found: User, action: str) -> bool:
    by = person(request)
    if action == "link":
        show_once(request, f"link-{found.pk}", services.make_sign_in_link(found, by=by))
        messages.success(request, _("The link is made. Copy it now: it is shown only this once."))
    elif action in {"activate", "deactivate"}:
        _switch(request, found, action)
    elif action == "disconnect":
        identity = found.identities.filter(pk=whole_number(request.POST.get("identity", ""))).first()
        if identity is None:
            raise NotFound(_("This is not connected any more."))
        services.disconnect_identity(identity, by=by)
        messages.success(request, _("%(name)s is disconnected.") % {"name": found.label})
    elif action == "revoke":
        _revoke(request, queries.list_grants(viewer=by, user=found))
    elif action == "token":
        tokens = visible(by, ApiToken.objects.filter(user=found))
        token = tokens.filter(pk=whole_number(request.POST.get("token", ""))).first()
        if token is None:
            raise NotFound(_("There is no such token here."))
        services.revoke_token(token, by=by)
        messages.success(request, _("The token %(name)s is revoked.") % {"name": token.name})
    else:
        raise InvalidInput(_("There is no such act."))
    return True


def _revoke(request: HttpRequest, grants: Any) -> None:
    grant = grants.filter(pk=whole_number(request.POST.get("grant", ""))).first()
    if grant is None:
        raise NotFound(_("There is no such grant here."))
    services.revoke(grant, by=person(request))
    messages.success(request, _("Taken back: %(grant)s.") % {"grant": grant})


# --- groups ---------------------------------------------------------------------------------------------


@login_required
@require_http_methods(["GET", "POST"])
def groups(request: HttpRequest) -> HttpResponse:
    """Access groups with members and grants; a new one."""
    require(request.user, "user.read")
    form = Form(NewGroup)
    if request.method == "POST":
        require(request.user, "user.write")
        form = Form(NewGroup, request.POST)
        if form.is_valid():
            try:
                made = services.create_group(name=form.values["name"], by=person(request))
            except DomainError as error:
                form.add_errors(error)
            else:
                messages.success(request, _("The group %(name)s is made.") % {"name": made})
                return redirect("portal:settings-group", group_id=made.pk)
    found = list(queries.list_groups(viewer=person(request)))
    held: dict[int, list[Grant]] = defaultdict(list)
    for grant in queries.list_grants(viewer=person(request)).exclude(group=None):
        held[grant.group_id or 0].append(grant)
    return render(
        request,
        "settings/groups.html",
        access_part(request, "groups")
        | {"rows": [{"group": group, "grants": held[group.pk]} for group in found], "form": form},
        status=422 if form.errors else 200,
    )


@login_required
@require_http_methods(["GET", "POST"])
def group(request: HttpRequest, group_id: int) -> HttpResponse:
    """One access group: who is in it, and what it grants."""
    require(request.user, "user.read")
    found = queries.list_groups(viewer=person(request)).filter(pk=group_id).first()
    if found is None:
        raise NotFound(_("There is no such group here."))
    form, error = Form(NewGrant), ""
    if request.method == "POST":
        require(request.user, "user.write")
        action = request.POST.get("action", "")
        try:
            if action == "grant":
                form = Form(NewGrant, request.POST)
                done = form.is_valid() and _grant(request, form, group=found)
            else:
                done = _act_on_group(request, found, action)
        except DomainError as failure:
            done = False
            if action == "grant":
                form.add_errors(failure)
            else:
                error = failure.message
        if done:
            if action == "delete":
                return redirect("portal:settings-groups")
            return redirect("portal:settings-group", group_id=found.pk)
    members = list(found.members.order_by("username"))
    others = (
        queries.list_users(viewer=person(request))
        .filter(is_active=True)
        .exclude(pk__in=[member.pk for member in members])
    )
    return render(
        request,
        "settings/group.html",
        access_part(request, "groups", title=found.name)
        | {
            "group": found,
            "members": members,
            "others": others[:1_000],
            "grants": list(queries.list_grants(viewer=person(request)).filter(group=found)),
            "grant": form,
            "grant_fields": _grant_fields(request, form),
            "error": error,
        },
        status=422 if form.errors or error else 200,
    )


def _act_on_group(request: HttpRequest, found: Group, action: str) -> bool:
    by = person(request)
    members = {member.pk: member for member in found.members.all()}
    if action == "add":
        added = _user(request, whole_number(request.POST.get("user", "")))
        services.set_members(found, members=[*members.values(), added], by=by)
        messages.success(request, _("%(name)s is in the group.") % {"name": added.label})
    elif action == "drop":
        gone = members.pop(whole_number(request.POST.get("user", "")), None)
        services.set_members(found, members=members.values(), by=by)
        if gone is not None:
            messages.success(request, _("%(name)s is no longer in the group.") % {"name": gone.label})
    elif action == "revoke":
        _revoke(request, queries.list_grants(viewer=by).filter(group=found))
    elif action == "delete":
        services.delete_group(found, by=by)
        messages.success(
            request, _("The group %(name)s is gone, and its grants with it.") % {"name": found.name}
        )
    else:
        raise InvalidInput(_("There is no such act."))
    return True


# --- roles ----------------------------------------------------------------------------------------------


@login_required
@require_http_methods(["GET"])
def roles(request: HttpRequest) -> HttpResponse:
    """What each role allows; packs bring them."""
    require(request.user, "user.read")
    found = queries.list_roles(viewer=person(request))
    return render(
        request,
        "settings/roles.html",
        access_part(request, "roles")
        | {
            "roles": [
                {"role": role, "verbs": [VERBS[verb] for verb in sorted(role.verbs) if verb in VERBS]}
                for role in found
            ]
        },
    )
