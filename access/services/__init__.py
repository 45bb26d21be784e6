"""Everything that writes here: accounts, sign-in, grants, tokens, the audit log."""

from access.services.accounts import change_user, create_user, set_password, tie_account
from access.services.audit import Subject, differences, record_audit
from access.services.grants import (
    LastAdministrator,
    check_scope,
    create_group,
    delete_group,
    grant,
    register_scope_type,
    revoke,
    role_called,
    set_members,
)
from access.services.invitations import NewInvitation, invite, revoke_invitation
from access.services.signing_in import (
    LinkNotValid,
    SignInRefused,
    ensure_first_account,
    find_sign_in_link,
    make_sign_in_link,
    redeem_sign_in_link,
    sign_in,
)
from access.services.tokens import (
    NewToken,
    TokenNotValid,
    authenticate_token,
    create_token,
    lifetime,
    revoke_token,
)
from access.throttling import SignInThrottled

__all__ = [
    "LastAdministrator",
    "LinkNotValid",
    "NewInvitation",
    "NewToken",
    "SignInRefused",
    "SignInThrottled",
    "Subject",
    "TokenNotValid",
    "authenticate_token",
    "change_user",
    "check_scope",
    "create_group",
    "create_token",
    "create_user",
    "delete_group",
    "differences",
    "ensure_first_account",
    "find_sign_in_link",
    "grant",
    "invite",
    "lifetime",
    "make_sign_in_link",
    "record_audit",
    "redeem_sign_in_link",
    "register_scope_type",
    "revoke",
    "revoke_invitation",
    "revoke_token",
    "role_called",
    "set_members",
    "set_password",
    "sign_in",
    "tie_account",
]
