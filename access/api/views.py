"""`/api/v1/` of this floor: accounts, access groups, roles, grants, tokens, the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.viewsets import GenericViewSet

from access import queries, services
from access.api.permissions import HasVerb, View, person_of
from access.api.serializers import (
    AuditFilter,
    AuditOut,
    GrantIn,
    GrantOut,
    GroupIn,
    GroupOut,
    MembersIn,
    MeOut,
    NewTokenOut,
    RoleOut,
    TokenIn,
    TokenOut,
    UserChange,
    UserIn,
    UserOut,
)
from access.models import ApiToken, AuditEvent, Grant, Group, Role, User
from base.pagination import KeysetPagination


class _Rows(mixins.ListModelMixin, GenericViewSet[Any]):
    """A list in pages that names the verb for each method."""

    permission_classes = [HasVerb]
    pagination_class = KeysetPagination
    verbs: ClassVar[Mapping[str, str | None]]
    ordering: ClassVar[tuple[str, ...]] = ("id",)


def _valid(serializer: BaseSerializer[Any]) -> Any:
    serializer.is_valid(raise_exception=True)
    return serializer.validated_data


class MeView(View):
    """Who the API takes the caller for, and what they may do."""

    verbs = {"GET": None}

    @extend_schema(responses=MeOut)
    def get(self, request: Request) -> Response:
        return Response(MeOut(person_of(request)).data)


@extend_schema_view(
    list=extend_schema(
        parameters=[OpenApiParameter("q", str, description="Text of a name or an e-mail address.")]
    )
)
class UserViewSet(mixins.RetrieveModelMixin, _Rows):
    """Accounts."""

    queryset = User.objects.all()
    serializer_class = UserOut
    lookup_field = "username"
    lookup_value_regex = r"[^/]+"
    ordering = ("username",)
    verbs = {"GET": "user.read", "POST": "user.write", "PATCH": "user.write"}

    def get_queryset(self) -> QuerySet[User]:
        return queries.list_users(viewer=self.request.user, text=self.request.query_params.get("q", ""))

    @extend_schema(request=UserIn, responses={201: UserOut})
    def create(self, request: Request) -> Response:
        """Make an account; it signs in first by a link, and can do nothing until something is granted."""
        user = services.create_user(**_valid(UserIn(data=request.data)), by=person_of(request))
        return Response(UserOut(user).data, status=201)

    @extend_schema(request=UserChange, responses=UserOut)
    def partial_update(self, request: Request, username: str) -> Response:
        """Change an account."""
        change = _valid(UserChange(data=request.data))
        user = services.change_user(self.get_object(), **change, by=person_of(request))
        return Response(UserOut(user).data)


class GroupViewSet(mixins.RetrieveModelMixin, _Rows):
    """Access groups."""

    queryset = Group.objects.all()
    serializer_class = GroupOut
    ordering = ("name",)
    verbs = {"GET": "user.read", "POST": "user.write", "PATCH": "user.write", "DELETE": "user.write"}

    def get_queryset(self) -> QuerySet[Group]:
        return queries.list_groups(viewer=self.request.user)

    @extend_schema(request=GroupIn, responses={201: GroupOut})
    def create(self, request: Request) -> Response:
        """Make an access group."""
        group = services.create_group(**_valid(GroupIn(data=request.data)), by=person_of(request))
        return Response(GroupOut(group).data, status=201)

    @extend_schema(request=MembersIn, responses=GroupOut)
    def partial_update(self, request: Request, pk: str) -> Response:
        """Say who is in an access group."""
        group = self.get_object()
        services.set_members(group, **_valid(MembersIn(data=request.data)), by=person_of(request))
        return Response(GroupOut(self.get_object()).data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        """Remove an access group and its grants."""
        services.delete_group(self.get_object(), by=person_of(request))
        return Response(status=204)


class RoleViewSet(mixins.RetrieveModelMixin, _Rows):
    """Roles; packs bring them."""

    queryset = Role.objects.all()
    serializer_class = RoleOut
    lookup_field = "name"
    ordering = ("name",)
    verbs = {"GET": "entity.read"}

    def get_queryset(self) -> QuerySet[Role]:
        return queries.list_roles(viewer=self.request.user)

    def check_object_permissions(self, request: Request, obj: Role) -> None:
        """A role lies in no scope: who sees the list sees each."""


class GrantViewSet(_Rows):
    """Who has which role, and how far."""

    queryset = Grant.objects.all()
    serializer_class = GrantOut
    verbs = {"GET": "user.read", "POST": "user.write", "DELETE": "user.write"}

    def get_queryset(self) -> QuerySet[Grant]:
        return queries.list_grants(viewer=self.request.user)

    @extend_schema(request=GrantIn, responses={201: GrantOut})
    def create(self, request: Request) -> Response:
        """Give a person or a group a role; a grant that is there already is answered as it is."""
        made = services.grant(**_valid(GrantIn(data=request.data)), by=person_of(request))
        return Response(GrantOut(made).data, status=201)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        """Take a grant back."""
        services.revoke(self.get_object(), by=person_of(request))
        return Response(status=204)


class TokenViewSet(_Rows):
    """One's own API tokens. It takes a person to make one: a token makes no others."""

    queryset = ApiToken.objects.all()
    serializer_class = TokenOut
    ordering = ("-id",)
    verbs = {"GET": None, "POST": "token.write", "DELETE": "token.write"}

    def get_queryset(self) -> QuerySet[ApiToken]:
        if not isinstance(self.request.user, User):  # the API's description asks without anybody
            return ApiToken.objects.none()
        return queries.tokens_of(self.request.user)

    @extend_schema(request=TokenIn, responses={201: NewTokenOut})
    def create(self, request: Request) -> Response:
        """Make a token; its text is in this answer and nowhere else."""
        new = services.create_token(
            user=person_of(request), **_valid(TokenIn(data=request.data)), by=person_of(request)
        )
        return Response({**TokenOut(new.token).data, "token": new.text}, status=201)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        """Revoke a token."""
        services.revoke_token(get_object_or_404(self.get_queryset(), pk=pk), by=person_of(request))
        return Response(status=204)


class AuditViewSet(mixins.RetrieveModelMixin, _Rows):
    """The audit log, newest first."""

    queryset = AuditEvent.objects.all()
    serializer_class = AuditOut
    ordering = ("-at", "-id")
    verbs = {"GET": "audit.read"}

    def get_queryset(self) -> QuerySet[AuditEvent]:
        wanted = _valid(AuditFilter(data=self.request.query_params)) if self.action == "list" else {}
        return queries.list_audit(viewer=self.request.user, **wanted)

    @extend_schema(parameters=[AuditFilter])
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """What was done, newest first."""
        return super().list(request, *args, **kwargs)
