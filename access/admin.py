"""Django's admin for this floor; it lets in administrators alone, and records what they do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import Group as DjangoGroup
from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access.models import ApiToken, AuditEvent, Grant, Group, Role, User
from access.services import check_scope, record_audit, revoke_token
from access.services.grants import keeping_an_administrator
from base.errors import DomainError

admin.site.site_title = gettext_lazy("Portico")
admin.site.site_header = gettext_lazy("Portico administration")
admin.site.enable_nav_sidebar = False  # it comes by script after the page, which jumps then
admin.site.unregister(DjangoGroup)  # grants say who may do what


class AuditedAdmin(admin.ModelAdmin):
    """An admin whose every write is in the audit log, and refused with a sentence where a rule forbids it.

    Other floors derive theirs from it.

    :cvar changing: what has to be open around a write.
    """

    actions: Any = None  # one row at a time, so that each is recorded
    changing: ClassVar[Callable[[], AbstractContextManager[Any]]] = transaction.atomic

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Show the form, or save what came from it."""
        return self._guarded(request, super().changeform_view, *args, **kwargs)

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Ask whether to delete, or do it."""
        return self._guarded(request, super().delete_view, *args, **kwargs)

    def _guarded(self, request: HttpRequest, view: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if request.method != "POST":
            return view(request, *args, **kwargs)
        try:
            with type(self).changing():
                return view(request, *args, **kwargs)
        except DomainError as error:
            self.message_user(request, error.message, messages.ERROR)
            return HttpResponseRedirect(request.path)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Save what the form says besides the row itself, and record it all."""
        super().save_related(request, form, formsets, change)
        row = form.instance
        changes = {
            name: [_plain(form.initial.get(name)), _plain(form.cleaned_data.get(name))]
            for name in form.changed_data
        }
        record_audit(f"{row._meta.model_name}.{'update' if change else 'create'}", row, changes=changes)

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        """Record and delete."""
        record_audit(f"{obj._meta.model_name}.delete", obj)
        super().delete_model(request, obj)


def _plain(value: Any) -> Any:
    if isinstance(value, (list, QuerySet)):
        return sorted(str(item) for item in value)
    return value


class ReadOnlyAdmin(admin.ModelAdmin):
    """An admin that shows and changes nothing."""

    actions: Any = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds here."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody changes here."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody deletes here."""
        return False


@admin.register(User)
class UserAdmin(AuditedAdmin):
    """Accounts. They are made inactive, not deleted; passwords come by sign-in links alone."""

    changing = keeping_an_administrator
    list_display = ["username", "name", "email", "is_active", "last_login"]
    list_filter = ["is_active"]
    search_fields = ["username", "name", "email"]
    fields = ["username", "name", "email", "is_email_verified", "is_active", "entity_uid"]

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        """A name, once given, stays."""
        return ["username"] if obj else []

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Nobody: what an account did should keep its name."""
        return False

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """Save; a new account has no password until its link is used."""
        if not change:
            obj.set_unusable_password()
        super().save_model(request, obj, form, change)


@admin.register(Group)
class GroupAdmin(AuditedAdmin):
    """Access groups."""

    changing = keeping_an_administrator
    list_display = ["name"]
    search_fields = ["name"]
    raw_id_fields = ["members"]  # looked up: a list of all accounts is long


class GrantForm(forms.ModelForm):
    """Checks the scope as the service does."""

    def clean(self) -> dict[str, Any]:
        """:raises forms.ValidationError: if the scope's text is wrong."""
        cleaned = super().clean() or self.cleaned_data
        try:
            scope = check_scope(cleaned.get("scope_type", ""), cleaned.get("scope", ""))
        except DomainError as error:
            raise forms.ValidationError({"scope": error.message})
        return {**cleaned, "scope": scope.text}


@admin.register(Grant)
class GrantAdmin(AuditedAdmin):
    """Grants."""

    changing = keeping_an_administrator
    form = GrantForm
    list_display = ["user", "group", "role", "scope_type", "scope"]
    list_filter = ["role", "scope_type"]
    list_select_related = ["user", "group", "role"]
    raw_id_fields = ["user", "group"]


@admin.register(Role)
class RoleAdmin(ReadOnlyAdmin):
    """Roles; packs bring them."""

    list_display = ["name", "pack", "revision", "updated_at", "updated_by"]


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnlyAdmin):
    """API tokens, without what is secret of them."""

    actions = ["revoke"]
    list_display = [
        "name",
        "prefix",
        "user",
        "role",
        "created_at",
        "expires_at",
        "last_used_at",
        "revoked_at",
    ]
    list_select_related = ["user", "role"]
    exclude = ["digest"]

    @admin.action(description=gettext_lazy("Revoke the chosen tokens"))
    def revoke(self, request: HttpRequest, chosen: QuerySet[ApiToken]) -> None:
        """End tokens."""
        for token in chosen:
            revoke_token(token)
        self.message_user(request, _("The tokens are revoked."))


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    """The audit log."""

    list_display = ["at", "actor_label", "verb", "subject_type", "subject_label", "ip"]
    list_filter = ["verb", "subject_type"]
    search_fields = ["actor_label", "subject_label", "subject_uid", "request_id"]
    date_hierarchy = "at"
    show_full_result_count = False
