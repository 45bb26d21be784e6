"""`/api/v1/` of this floor: accounts, access groups, roles, grants, tokens, the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins
from rest_framework.decorators import action
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from access import queries, services
from access.api.permissions import OWN, HasVerb, View, person_of
from access.api.serializers import (
    AuditFilter,
    AuditOut,
    ChangeDetailOut,
    ChangeOut,
    GrantIn,
    GrantOut,
    GroupIn,
    GroupOut,
    IdentityOut,
    InvitationIn,
    InvitationOut,
    MeChange,
    MembersIn,
    MeOut,
    NewInvitationOut,
    NewSignInLinkOut,
    NewTokenOut,
    RoleOut,
    TokenIn,
    TokenOut,
    UndoPreviewOut,
    UserChange,
    UserIn,
    UserOut,
)
from access.links import sign_in_url
from access.models import ApiToken, AuditEvent, Grant, Group, Identity, Role, SignInLink, Undoable, User
from access.permissions import visible
from access.services import undo as undoing
from base.answers import given, if_match, is_set, one_answer
from base.openapi import FIELDS, IF_MATCH, IF_NONE_MATCH
from base.pagination import KeysetPagination
from base.text import whole_number


class _Rows(mixins.ListModelMixin, GenericViewSet[Any]):
    """A list in pages that names the verb for each method."""

    permission_classes = [HasVerb]
    pagination_class = KeysetPagination
    verbs: ClassVar[Mapping[str, str | None]]
    ordering: ClassVar[tuple[str, ...]] = ("id",)


class MeView(View):
    """Who the API takes the caller for, and what they may do."""

    verbs = {"GET": None, "PATCH": OWN}

    @extend_schema(responses=MeOut)
    def get(self, request: Request) -> Response:
        return Response(MeOut(person_of(request)).data)

    @extend_schema(request=MeChange, responses=MeOut)
    def patch(self, request: Request) -> Response:
        """Change one's own name and address, as others see them."""
        user = person_of(request)
        changed = services.change_user(user, **given(request, MeChange), by=user)
        changed.token = user.token
        return Response(MeOut(changed).data)


@extend_schema_view(
    list=extend_schema(
        parameters=[OpenApiParameter("q", str, description="Text of a name or an e-mail address.")]
    )
)
class UserViewSet(_Rows):
    """Accounts."""

    queryset = User.objects.all()
    serializer_class = UserOut
    lookup_field = "username"
    lookup_value_regex = r"[^/]+"
    ordering = ("username",)
    verbs = {"GET": "user.read", "POST": "user.write", "PATCH": "user.write"}

    def get_queryset(self) -> QuerySet[User]:
        return queries.list_users(viewer=self.request.user, text=self.request.query_params.get("q", ""))

    @extend_schema(parameters=[FIELDS, IF_NONE_MATCH], responses={200: UserOut, 304: None})
    def retrieve(self, request: Request, username: str) -> HttpResponse:
        """One account; its ETag is for If-Match."""
        return _user_answer(request, self.get_object())

    @extend_schema(request=UserIn, responses={201: UserOut})
    def create(self, request: Request) -> Response:
        """Make an account; it signs in first by a link, and can do nothing until something is granted."""
        user = services.create_user(**given(request, UserIn), by=person_of(request))
        return Response(UserOut(user).data, status=201)

    @extend_schema(request=UserChange, responses=UserOut, parameters=[IF_MATCH])
    def partial_update(self, request: Request, username: str) -> HttpResponse:
        """Change an account."""
        change = given(request, UserChange)
        user = services.change_user(
            self.get_object(), **change, by=person_of(request), expected=if_match(request)
        )
        return _user_answer(request, user)

    @extend_schema(request=None, responses={201: NewSignInLinkOut})
    @action(detail=True, methods=["post"], url_path="sign-in-link")
    def sign_in_link(self, request: Request, username: str) -> Response:
        """Make a link by which its person signs in once and chooses a password; earlier ones end.

        It works for 24 hours, that of somebody who is invited for 7 days. It stands in this answer and nowhere else.
        """
        user = self.get_object()
        text = services.make_sign_in_link(user, by=person_of(request))
        made = NewSignInLinkOut(queries.open_link_of(user)).data
        return Response({**made, "url": sign_in_url(text)}, status=201)


def _user_answer(request: Request, user: User) -> HttpResponse:
    return one_answer(request, UserOut(user).data, state=services.etag_of_user(user))


class _OfUser(_Rows):
    """What one account has: for those who look after accounts."""

    verbs = {"GET": "user.read", "DELETE": "user.write"}

    def of_user(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Those of these rows that are the account's.

        :raises Http404: if the viewer may see no such account.
        """
        if "username" not in self.kwargs:  # the API's description asks without any
            return rows.none()
        users = queries.list_users(viewer=self.request.user)
        user = get_object_or_404(users, username=self.kwargs["username"])
        return visible(self.request.user, rows.filter(user=user))


class UserTokenViewSet(_OfUser):
    """Tokens that act for an account."""

    queryset = ApiToken.objects.filter(revoked_at=None).select_related("role")
    serializer_class = TokenOut
    ordering = ("-id",)

    def get_queryset(self) -> QuerySet[ApiToken]:
        return self.of_user(super().get_queryset())

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, username: str, pk: str) -> Response:
        """Revoke somebody's token."""
        services.revoke_token(get_object_or_404(self.get_queryset(), pk=pk), by=person_of(request))
        return Response(status=204)


class UserIdentityViewSet(_OfUser):
    """Whom the identity provider knows as an account."""

    queryset = Identity.objects.all()
    serializer_class = IdentityOut

    def get_queryset(self) -> QuerySet[Identity]:
        return self.of_user(super().get_queryset())

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, username: str, pk: str) -> Response:
        """Let the provider's person sign this account in no more; what their groups gave is taken back."""
        services.disconnect_identity(get_object_or_404(self.get_queryset(), pk=pk), by=person_of(request))
        return Response(status=204)


class InvitationViewSet(_Rows):
    """Invitations that wait for their people, the newest first."""

    queryset = SignInLink.objects.all()
    serializer_class = InvitationOut
    ordering = ("-id",)
    verbs = {"GET": "user.read", "POST": "user.write", "DELETE": "user.write"}

    def get_queryset(self) -> QuerySet[SignInLink]:
        return queries.list_invitations(viewer=self.request.user)

    @extend_schema(request=InvitationIn, responses={201: NewInvitationOut})
    def create(self, request: Request) -> Response:
        """Make an account for somebody who is to come, and a link that lets them in once, for 7 days.

        Nothing is sent: the link stands in this answer and nowhere else.
        """
        new = services.invite(**given(request, InvitationIn), by=person_of(request))
        return self._with_link(new.user, new.text, status=201)

    @extend_schema(request=None, responses=NewInvitationOut)
    @action(detail=True, methods=["post"])
    def renew(self, request: Request, pk: str) -> Response:
        """Make another link for somebody who is invited; the one before ends."""
        user = self.get_object().user
        return self._with_link(user, services.make_sign_in_link(user, by=person_of(request)))

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        """Take an invitation back, and the account with it that nobody came to."""
        services.revoke_invitation(self.get_object(), by=person_of(request))
        return Response(status=204)

    @staticmethod
    def _with_link(user: User, text: str, *, status: int = 200) -> Response:
        made = NewInvitationOut(queries.open_link_of(user)).data
        return Response({**made, "url": sign_in_url(text)}, status=status)


class GroupViewSet(_Rows):
    """Access groups."""

    queryset = Group.objects.all()
    serializer_class = GroupOut
    ordering = ("name",)
    verbs = {"GET": "user.read", "POST": "user.write", "PATCH": "user.write", "DELETE": "user.write"}

    def get_queryset(self) -> QuerySet[Group]:
        return queries.list_groups(viewer=self.request.user)

    @extend_schema(parameters=[FIELDS, IF_NONE_MATCH], responses={200: GroupOut, 304: None})
    def retrieve(self, request: Request, pk: str) -> HttpResponse:
        """One access group; its ETag is for If-Match."""
        return self._answer(request)

    def _answer(self, request: Request) -> HttpResponse:
        group = self.get_object()
        return one_answer(request, GroupOut(group).data, state=services.etag_of_group(group))

    @extend_schema(request=GroupIn, responses={201: GroupOut})
    def create(self, request: Request) -> Response:
        """Make an access group."""
        group = services.create_group(**given(request, GroupIn), by=person_of(request))
        return Response(GroupOut(group).data, status=201)

    @extend_schema(request=MembersIn, responses=GroupOut, parameters=[IF_MATCH])
    def partial_update(self, request: Request, pk: str) -> HttpResponse:
        """Say who is in an access group."""
        services.set_members(
            self.get_object(),
            **given(request, MembersIn),
            by=person_of(request),
            expected=if_match(request),
        )
        return self._answer(request)

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
        made = services.grant(**given(request, GrantIn), by=person_of(request))
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
        new = services.create_token(user=person_of(request), **given(request, TokenIn), by=person_of(request))
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
        wanted: dict[str, Any] = {}
        if self.action == "list":
            filters = AuditFilter(data=self.request.query_params)
            filters.is_valid(raise_exception=True)
            wanted = filters.validated_data
        return queries.list_audit(viewer=self.request.user, **wanted)

    @extend_schema(parameters=[AuditFilter])
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """What was done, newest first."""
        return super().list(request, *args, **kwargs)


_CHANGE = OpenApiParameter("change", int, OpenApiParameter.PATH, description="Its id, the audit event's.")


class ChangeViewSet(mixins.ListModelMixin, GenericViewSet[Any]):
    """What was changed in the last 30 days and can be undone, or was, as far as one may undo it; newest first."""

    permission_classes = [HasVerb]
    pagination_class = KeysetPagination
    queryset = Undoable.objects.all()
    serializer_class = ChangeOut
    lookup_url_kwarg = "change"
    ordering = ("-event_id",)
    verbs = {"GET": undoing.VERBS, "POST": undoing.VERBS}

    def get_queryset(self) -> QuerySet[Undoable]:
        return undoing.list_changes(self.request.user)

    @extend_schema(responses=ChangeDetailOut, parameters=[_CHANGE])
    def retrieve(self, request: Request, change: str) -> Response:
        """One change, with what its undo would do now."""
        found = undoing.get_change(request.user, whole_number(change))
        preview = undoing.preview_undo(change=found, user=person_of(request))
        return Response({**ChangeOut(found).data, "undo": UndoPreviewOut(preview).data})

    @extend_schema(
        request=None,
        responses=ChangeDetailOut,
        parameters=[
            _CHANGE,
            OpenApiParameter("dry_run", bool, description="Only say what would happen."),
        ],
    )
    @action(detail=True, methods=["post"], url_path="undo")
    def undo(self, request: Request, change: str) -> Response:
        """Undo a change: what `undo` told is done, the later changes that it takes with it are undone too."""
        found, user = undoing.get_change(request.user, whole_number(change)), person_of(request)
        preview = undoing.preview_undo(change=found, user=user)
        if not is_set(request, "dry_run"):
            if preview.refused:
                raise undoing.CannotUndo(preview.refused)
            undoing.undo_change(change=found, user=user)
            found.refresh_from_db()
        return Response({**ChangeOut(found).data, "undo": UndoPreviewOut(preview).data})
