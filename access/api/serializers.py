"""What the API of this floor reads and writes."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from access.models import ApiToken, AuditEvent, Grant, Group, Role, ScopeType, User
from access.queries import verbs_of


class UserOut(serializers.ModelSerializer[User]):
    email = serializers.CharField(read_only=True, help_text="An address, or empty.")

    class Meta:
        model = User
        fields = ["username", "name", "email", "is_active", "entity_uid", "created_at", "last_login"]
        read_only_fields = fields


class UserIn(serializers.Serializer[Any]):
    username = serializers.CharField(max_length=100)
    name = serializers.CharField(max_length=200, required=False)
    email = serializers.EmailField(required=False, allow_blank=True)


class UserChange(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=200, required=False)
    email = serializers.EmailField(required=False, allow_blank=True)
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


class GrantIn(serializers.Serializer[Any]):
    user = serializers.SlugRelatedField[User]("username", queryset=User.objects.all(), required=False)
    group = serializers.SlugRelatedField[Group]("name", queryset=Group.objects.all(), required=False)
    role = serializers.CharField(max_length=200)
    scope_type = serializers.ChoiceField(ScopeType.choices, default=ScopeType.ALL)
    scope = serializers.CharField(max_length=2000, default="", allow_blank=True)


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


class TokenIn(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=100)
    role = serializers.CharField(max_length=200, required=False, allow_null=True)
    scope_type = serializers.ChoiceField(ScopeType.choices, default=ScopeType.ALL)
    scope = serializers.CharField(max_length=2000, default="", allow_blank=True)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)


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
