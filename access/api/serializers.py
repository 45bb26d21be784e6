"""What the API of this floor reads and writes."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from access.models import (
    ApiToken,
    AuditEvent,
    Grant,
    Group,
    Identity,
    Role,
    ScopeType,
    SignInLink,
    Undoable,
    User,
)
from access.queries import verbs_of
from access.services.undo import undo_of


class UserOut(serializers.ModelSerializer[User]):
    email = serializers.CharField(read_only=True, help_text="An address, or empty.")

    class Meta:
        model = User
        fields = [
            "username",
            "name",
            "email",
            "is_email_verified",
            "is_active",
            "entity_uid",
            "created_at",
            "last_login",
        ]
        read_only_fields = fields


class UserIn(serializers.Serializer[Any]):
    username = serializers.CharField(max_length=100)
    name = serializers.CharField(max_length=200, required=False)
    email = serializers.EmailField(required=False, allow_blank=True)


class MeChange(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=200, required=False, allow_blank=True)
    email = serializers.EmailField(required=False, allow_blank=True)


class UserChange(MeChange):
    is_email_verified = serializers.BooleanField(required=False)
    is_active = serializers.BooleanField(required=False)


class MeOut(UserOut):
    verbs = serializers.SerializerMethodField(help_text="What one may do at least somewhere.")

    class Meta(UserOut.Meta):
        fields = [*UserOut.Meta.fields, "verbs"]
        read_only_fields = fields

    def get_verbs(self, user: User) -> list[str]:
        return verbs_of(user)


class GroupOut(serializers.ModelSerializer[Group]):
    members = serializers.SlugRelatedField[User]("username", many=True, read_only=True)

    class Meta:
        model = Group
        fields = ["id", "name", "members"]
        read_only_fields = fields


class GroupIn(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=100)
    members = serializers.SlugRelatedField[User](
        "username", many=True, queryset=User.objects.all(), required=False
    )


class MembersIn(serializers.Serializer[Any]):
    members = serializers.SlugRelatedField[User]("username", many=True, queryset=User.objects.all())


class RoleOut(serializers.ModelSerializer[Role]):
    title = serializers.CharField(read_only=True)
    description = serializers.CharField(source="spec.description", default="", read_only=True)
    verbs = serializers.ListField(child=serializers.CharField(), source="spec.verbs", read_only=True)

    class Meta:
        model = Role
        fields = ["name", "title", "description", "verbs", "pack", "revision", "updated_at", "updated_by"]
        read_only_fields = fields


class GrantOut(serializers.ModelSerializer[Grant]):
    user = serializers.SlugRelatedField[User]("username", read_only=True, allow_null=True)
    group = serializers.SlugRelatedField[Group]("name", read_only=True, allow_null=True)
    role = serializers.SlugRelatedField[Role]("name", read_only=True)

    class Meta:
        model = Grant
        fields = ["id", "user", "group", "role", "scope_type", "scope", "created_at"]
        read_only_fields = fields


class ScopeIn(serializers.Serializer[Any]):
    """How far a role reaches."""

    scope_type = serializers.ChoiceField(ScopeType.choices, default=ScopeType.ALL)
    scope = serializers.CharField(max_length=2000, default="", allow_blank=True)


class GrantIn(ScopeIn):
    user = serializers.SlugRelatedField[User]("username", queryset=User.objects.all(), required=False)
    group = serializers.SlugRelatedField[Group]("name", queryset=Group.objects.all(), required=False)
    role = serializers.CharField(max_length=200)


class TokenOut(serializers.ModelSerializer[ApiToken]):
    role = serializers.SlugRelatedField[Role]("name", read_only=True, allow_null=True)

    class Meta:
        model = ApiToken
        fields = [
            "id",
            "name",
            "prefix",
            "role",
            "scope_type",
            "scope",
            "created_at",
            "expires_at",
            "last_used_at",
        ]
        read_only_fields = fields


class NewTokenOut(TokenOut):
    token = serializers.CharField(read_only=True, help_text="What the program sends; shown this once.")

    class Meta(TokenOut.Meta):
        fields = [*TokenOut.Meta.fields, "token"]
        read_only_fields = fields


class TokenIn(ScopeIn):
    name = serializers.CharField(max_length=100)
    role = serializers.CharField(max_length=200, required=False, allow_null=True)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)


class IdentityOut(serializers.ModelSerializer[Identity]):
    """Whom the identity provider knows as the account."""

    class Meta:
        model = Identity
        fields = ["id", "issuer", "subject", "email", "created_at", "seen_at"]
        read_only_fields = fields


class SignInLinkOut(serializers.ModelSerializer[SignInLink]):
    """A link that lets its person in once."""

    username = serializers.CharField(source="user.username", read_only=True)

    class Meta:
        model = SignInLink
        fields = ["username", "purpose", "created_at", "expires_at"]
        read_only_fields = fields


class NewSignInLinkOut(SignInLinkOut):
    url = serializers.CharField(read_only=True, help_text="Where its person signs in; shown this once.")

    class Meta(SignInLinkOut.Meta):
        fields = [*SignInLinkOut.Meta.fields, "url"]
        read_only_fields = fields


class InvitationOut(SignInLinkOut):
    """An invitation that waits for its person."""

    name = serializers.CharField(source="user.name", read_only=True)
    email = serializers.CharField(source="user.email", read_only=True)
    invited_by = serializers.CharField(source="made_by.label", default="", read_only=True)

    class Meta(SignInLinkOut.Meta):
        fields = ["id", *SignInLinkOut.Meta.fields, "name", "email", "invited_by"]
        read_only_fields = fields


class NewInvitationOut(InvitationOut):
    url = serializers.CharField(read_only=True, help_text="Lets them in once, for 7 days; shown this once.")

    class Meta(InvitationOut.Meta):
        fields = [*InvitationOut.Meta.fields, "url"]
        read_only_fields = fields


class InvitationIn(ScopeIn):
    """Who is to come, and what they will be allowed; an address or a user name is needed."""

    email = serializers.EmailField(required=False, allow_blank=True)
    name = serializers.CharField(max_length=200, required=False, allow_blank=True)
    username = serializers.CharField(
        max_length=100, required=False, allow_blank=True, help_text="By default what stands before the @."
    )
    role = serializers.CharField(max_length=200, required=False, allow_null=True)
    groups = serializers.SlugRelatedField[Group](
        "name", many=True, queryset=Group.objects.all(), required=False, help_text="Names of access groups."
    )


class AuditOut(serializers.ModelSerializer[AuditEvent]):
    class Meta:
        model = AuditEvent
        fields = [
            "id",
            "at",
            "actor_type",
            "actor_uid",
            "actor_label",
            "verb",
            "subject_type",
            "subject_uid",
            "subject_label",
            "changes",
            "request_id",
            "ip",
        ]
        read_only_fields = fields


class AuditFilter(serializers.Serializer[Any]):
    actor = serializers.CharField(required=False, help_text="An account's uid or name.")
    verb = serializers.CharField(required=False, help_text="A verb, or a noun for all of its verbs.")
    subject_type = serializers.CharField(required=False)
    subject_uid = serializers.CharField(required=False)
    since = serializers.DateTimeField(required=False)
    until = serializers.DateTimeField(required=False)


class ChangeOut(serializers.ModelSerializer[Undoable]):
    id = serializers.IntegerField(source="event_id", read_only=True, help_text="The audit event's.")
    at = serializers.DateTimeField(source="event.at", read_only=True)
    actor_type = serializers.CharField(source="event.actor_type", read_only=True)
    actor_uid = serializers.CharField(source="event.actor_uid", read_only=True)
    actor_label = serializers.CharField(source="event.actor_label", read_only=True)
    verb = serializers.CharField(source="event.verb", read_only=True)
    subject_type = serializers.CharField(source="event.subject_type", read_only=True)
    subject_uid = serializers.CharField(source="event.subject_uid", read_only=True)
    subject_label = serializers.CharField(source="event.subject_label", read_only=True)
    title = serializers.SerializerMethodField(help_text="What was done, in words.")

    class Meta:
        model = Undoable
        fields = [
            "id",
            "at",
            "actor_type",
            "actor_uid",
            "actor_label",
            "verb",
            "subject_type",
            "subject_uid",
            "subject_label",
            "title",
            "expires_at",
            "undone_at",
            "undone_by",
        ]
        read_only_fields = fields

    def get_title(self, change: Undoable) -> str:
        return undo_of(change).title(change)


class DifferenceOut(serializers.Serializer[Any]):
    path = serializers.CharField()
    old = serializers.JSONField(required=False, help_text="Left out if there is nothing.")
    new = serializers.JSONField(required=False, help_text="Left out if there will be nothing.")


class UndoPreviewOut(serializers.Serializer[Any]):
    steps = serializers.ListField(child=serializers.CharField(), help_text="What it does, in sentences.")
    differences = serializers.DictField(
        child=DifferenceOut(many=True), help_text="By the thing's name: which fields change, and how."
    )
    later = ChangeOut(many=True, help_text="Changes made since that it touches, newest first.")
    unseen = serializers.IntegerField(help_text="How many further ones it touches that one may not see.")
    of_later = serializers.CharField(allow_blank=True, help_text="What becomes of those.")
    refused = serializers.CharField(allow_blank=True, help_text="Why it cannot be done; empty if it can.")


class ChangeDetailOut(ChangeOut):
    undo = UndoPreviewOut(read_only=True)

    class Meta(ChangeOut.Meta):
        fields = [*ChangeOut.Meta.fields, "undo"]
        read_only_fields = fields
