"""Access groups and grants: who has which role, and how far."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from access.models import Grant, Group, Role, ScopeType, User
from access.permissions import Scope, changing_access, covers, sees_for
from access.services.audit import record_audit
from base.answers import require_state, state_tag
from base.errors import Conflict, FieldError, Forbidden, InvalidInput, NotFound

_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")


class LastAdministrator(Conflict):
    """After this nobody could administer the portal any more."""

    code = "last-administrator"


@contextmanager
def keeping_an_administrator() -> Iterator[None]:
    """A change of access after which there still is an administrator, if there was one.

    :raises LastAdministrator: if there is none any more; then nothing was changed.
    """
    with changing_access():
        had_one = User.objects.administrators().exists()
        yield
        if had_one and not User.objects.administrators().exists():
            raise LastAdministrator(
                _(
                    "This would leave the portal without an administrator. "
                    "Make somebody else an administrator first."
                )
            )


def _check_all(text: str) -> str:
    if text:
        raise InvalidInput(_("A scope that reaches everything has no text, but “%s” came.") % text)
    return ""


def _check_namespace(text: str) -> str:
    folded = text.strip().lower()
    if not _NAMESPACE.match(folded):
        raise InvalidInput(
            _("“%s” is no namespace: use 1 to 63 lower-case letters, digits and hyphens.") % text[:80]
        )
    return folded


_scope_types: dict[str, Callable[[str], str]] = {
    ScopeType.ALL: _check_all,
    ScopeType.NAMESPACE: _check_namespace,
}


def register_scope_type(scope_type: str, check: Callable[[str], str]) -> None:
    """Say how a scope's text of this type is checked.

    :param check: gets the text as it was typed, returns it as it is stored, raises `InvalidInput`.
    """
    _scope_types[scope_type] = check


def check_scope(scope_type: str, text: str) -> Scope:
    """The scope that was typed, checked.

    :raises InvalidInput: if there is no such type, or its text is wrong.
    """
    if scope_type not in _scope_types:
        raise InvalidInput(
            _("“%(type)s” is no type of scope. Known: %(known)s.")
            % {"type": scope_type[:40], "known": ", ".join(sorted(_scope_types))},
            errors=[FieldError("scope_type", _("There is no such type of scope."))],
        )
    return Scope(scope_type, _scope_types[scope_type](text))


def role_called(name: str) -> Role:
    """The role of this name.

    :raises NotFound: naming the roles that there are.
    """
    try:
        return Role.objects.get(name=name)
    except Role.DoesNotExist:
        known = ", ".join(Role.objects.values_list("name", flat=True)) or _("none; apply packs/core first")
        raise NotFound(_("There is no role “%(name)s”. Known: %(known)s.") % {"name": name, "known": known})


def require_outranks(by: User | None, user: User) -> None:
    """Let nobody take over an account that may do more than they may themselves.

    :raises Forbidden: if `by` lacks something that the account may do or see.
    """
    if by is None or (by.pk == user.pk and by.token is None):
        return
    if not sees_for(by, user.access_groups.values_list("pk", flat=True)):
        raise Forbidden(_("%(user)s sees more than you. Ask an administrator.") % {"user": user.label})
    for held in Grant.objects.reaching(user).select_related("role"):
        if not covers(by, held.role.verbs, Scope(held.scope_type, held.scope)):
            if by.token is not None:
                raise Forbidden(
                    _("%(user)s may do more than the token %(prefix)s… Use a token that may as much.")
                    % {"user": user.label, "prefix": by.token.prefix}
                )
            raise Forbidden(
                _("%(user)s has the role “%(role)s”, which goes beyond yours. Ask an administrator.")
                % {"user": user.label, "role": held.role.title}
            )


def grant(
    *,
    role: Role | str,
    user: User | None = None,
    group: Group | None = None,
    scope_type: str = ScopeType.ALL,
    scope: str = "",
    by: User | None = None,
) -> Grant:
    """Give a person or a group a role, as far as the scope reaches; the grant that is already there stays,
    whatever an identity provider says later.

    :param by: who grants it; None when Portico does.
    :raises InvalidInput: if the scope is wrong, or not exactly one holder is named.
    :raises NotFound: if there is no such role.
    :raises Forbidden: if `by` would give what they do not have.
    """
    if (user is None) == (group is None):
        raise InvalidInput(_("A grant is for a user or for an access group: name exactly one."))
    role = role_called(role) if isinstance(role, str) else role
    reach = check_scope(scope_type, scope)
    if by is not None and not covers(by, role.verbs, reach):
        raise Forbidden(
            _("You cannot grant the role “%s” there: it goes beyond your own.") % role.title, role=role.name
        )
    with changing_access():
        made, is_new = Grant.objects.get_or_create(
            user=user, group=group, role=role, scope_type=reach.type, scope=reach.text
        )
        if is_new:
            record_audit("grant.create", made, actor=by)
        else:
            made.identities.clear()
    return made


def revoke(grant: Grant, *, by: User | None = None) -> None:
    """Take a grant back.

    :raises LastAdministrator: if nobody could administer the portal after that.
    :raises Forbidden: if the grant goes beyond what `by` may do.
    """
    if by is not None and not covers(by, grant.role.verbs, Scope(grant.scope_type, grant.scope)):
        raise Forbidden(_("You cannot take back the role “%s”: it goes beyond yours.") % grant.role.title)
    with keeping_an_administrator():
        record_audit("grant.delete", grant, actor=by)
        grant.delete()


def create_group(*, name: str, members: Iterable[User] = (), by: User | None = None) -> Group:
    """Make an access group.

    :raises InvalidInput: if the name is missing or taken.
    """
    group = Group(name=name.strip())
    with changing_access():
        clean(group)
        group.save()
        record_audit("group.create", group, actor=by)
        set_members(group, members=members, by=by)
    return group


def etag_of_group(group: Group) -> str:
    """What names the present state of an access group: for `If-Match`."""
    return state_tag(
        {"name": group.name, "members": sorted(member.username for member in group.members.all())}
    )


def set_members(group: Group, *, members: Iterable[User], by: User | None = None, expected: str = "") -> None:
    """Say who is in an access group, and so who has its grants.

    :param expected: the etag that `by` saw; empty for any.
    :raises PreconditionFailed: if the group has changed since.
    :raises Forbidden: if the group's grants, or what is for it alone, go beyond what `by` may do and see.
    :raises LastAdministrator: if nobody could administer the portal after that.
    """
    if by is not None and not sees_for(by, [group.pk]):
        raise Forbidden(_("The group “%s” sees more than you; you cannot change who is in it.") % group)
    wanted = {member.pk: member for member in members}
    for held in group.grants.select_related("role"):
        if by is not None and not covers(by, held.role.verbs, Scope(held.scope_type, held.scope)):
            raise Forbidden(_("The group “%s” may do more than you; you cannot change who is in it.") % group)
    with keeping_an_administrator():
        require_state(expected, etag_of_group(Group.objects.get(pk=group.pk)), group)
        before = sorted(group.members.values_list("username", flat=True))
        group.members.set(wanted.values())
        after = sorted(member.username for member in wanted.values())
        if before != after:
            record_audit("group.update", group, changes={"members": [before, after]}, actor=by)


def delete_group(group: Group, *, by: User | None = None) -> None:
    """Remove an access group and its grants.

    :raises Forbidden: if the group's grants go beyond what `by` may do.
    :raises LastAdministrator: if nobody could administer the portal after that.
    """
    with keeping_an_administrator():
        set_members(group, members=(), by=by)
        record_audit("group.delete", group, actor=by)
        group.delete()


def clean(row: User | Group) -> None:
    """Check a row as its model says.

    :raises InvalidInput: naming each field that is wrong.
    """
    try:
        row.full_clean()
    except ValidationError as error:
        errors = [
            FieldError("" if field == "__all__" else field, message)
            for field, messages in error.message_dict.items()
            for message in messages
        ]
        raise InvalidInput(" ".join(one.message for one in errors), errors=errors)
