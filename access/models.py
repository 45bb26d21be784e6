"""Who there is, what they may do, and the record of what was done."""

from __future__ import annotations

import uuid
from typing import ClassVar, Self

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from access.definitions import Definition
from access.verbs import EVERYTHING

USERNAME = r"\A[a-z0-9][a-z0-9._@+-]*\Z"


class UserQuerySet(models.QuerySet["User"]):
    """Sets of accounts."""

    def administrators(self) -> Self:
        """Those who may do everything everywhere and can sign in; whom we still wait for is not among them."""
        everything = Grant.objects.filter(scope_type=ScopeType.ALL, role__spec__verbs__contains=[EVERYTHING])
        groups = Group.members.through.objects.filter(group_id__in=everything.values("group_id"))
        return self.filter(
            Q(pk__in=everything.values("user_id")) | Q(pk__in=groups.values("user_id")), is_active=True
        ).exclude(pk__in=SignInLink.objects.invitations().values("user_id"))


class UserManager(BaseUserManager["User"].from_queryset(UserQuerySet)):  # type: ignore[misc]
    """Finds accounts whatever the case of the name."""

    def get_by_natural_key(self, username: str | None) -> User:
        """The account of this name, in whatever case it was typed."""
        return self.get(username=(username or "").strip().lower())


class User(AbstractBaseUser):
    """An account. What it may do comes from grants alone.

    :ivar username: in lower case; people may type it in any.
    :ivar is_email_verified: whether an identity provider or an administrator said so, not the person alone.
    :ivar entity_uid: the catalog's User entity that is this person, once that is known.
    :ivar claimed_entity_uid: whom the person says that they are, until an administrator confirms it.
    :ivar seen_at: when the person was here, to the hour; `last_visit_at`: when they were before they went away last.
    :ivar token: the API token that the present request came with; it caps what the account may do.
    """

    username = models.CharField(
        _("user name"),
        max_length=100,
        unique=True,
        validators=[RegexValidator(USERNAME, _("Use lower-case letters, digits and . _ @ + -"))],
        error_messages={"unique": _("There is an account of this name already.")},
    )
    name = models.CharField(_("name"), max_length=200, blank=True)
    email = models.EmailField(_("e-mail"), blank=True)
    is_email_verified = models.BooleanField(_("e-mail is verified"), default=False)
    is_active = models.BooleanField(
        _("active"),
        default=True,
        help_text=_("An inactive account cannot sign in, and its tokens rest."),
    )
    entity_uid = models.UUIDField(_("person in the catalog"), null=True, blank=True, unique=True)
    claimed_entity_uid = models.UUIDField(null=True, blank=True, editable=False)
    seen_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_visit_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "username"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    token: ApiToken | None = None

    class Meta:
        verbose_name = _("user")
        verbose_name_plural = _("users")
        ordering = ["username"]
        constraints = [
            models.CheckConstraint(condition=Q(username__regex=USERNAME), name="access_user_username"),
        ]

    def __str__(self) -> str:
        return self.username

    @property
    def label(self) -> str:
        """What people call this person."""
        return self.name or self.username

    @property
    def is_staff(self) -> bool:
        """Whether Django's admin lets the account in: it is for administrators of the whole portal."""
        return User.objects.administrators().filter(pk=self.pk).exists()

    def has_perm(self, perm: str, obj: object = None) -> bool:
        """Django's admin asks this; everything else asks `access.permissions.can`."""
        return self.is_staff

    def has_module_perms(self, app_label: str) -> bool:
        """Django's admin asks this; everything else asks `access.permissions.can`."""
        return self.is_staff


class Group(models.Model):
    """An access group: it grants. (The catalog's groups describe.)"""

    name = models.CharField(_("name"), max_length=100, unique=True)
    members = models.ManyToManyField(
        User, verbose_name=_("members"), related_name="access_groups", blank=True
    )

    class Meta:
        verbose_name = _("access group")
        verbose_name_plural = _("access groups")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Role(Definition):
    """A named set of verbs; `spec` is `{"title", "description", "verbs": [...]}`."""

    class Meta(Definition.Meta):
        verbose_name = _("role")
        verbose_name_plural = _("roles")

    @property
    def title(self) -> str:
        """The name for people."""
        return str(self.spec.get("title") or self.name)

    @property
    def verbs(self) -> frozenset[str]:
        """What the role allows; `*` is everything."""
        return frozenset(self.spec.get("verbs", ()))


class ScopeType(models.TextChoices):
    """How a scope says what it reaches."""

    ALL = "all", _("Everything")
    NAMESPACE = "namespace", _("One namespace")
    QUERY = "query", _("What a query finds")


def _scope_constraint(name: str) -> models.CheckConstraint:
    return models.CheckConstraint(
        condition=Q(scope_type="all", scope="") | Q(scope_type__in=["namespace", "query"]) & ~Q(scope=""),
        name=name,
    )


class GrantQuerySet(models.QuerySet["Grant"]):
    """Sets of grants."""

    def reaching(self, user: User) -> Self:
        """The grants that this person has, themselves or through a group."""
        groups = Group.members.through.objects.filter(user_id=user.pk).values("group_id")
        return self.filter(Q(user_id=user.pk) | Q(group_id__in=groups))


class Grant(models.Model):
    """A role that a person or a group has, as far as its scope reaches."""

    ScopeType = ScopeType

    user = models.ForeignKey(
        User, models.CASCADE, related_name="grants", null=True, blank=True, verbose_name=_("user")
    )
    group = models.ForeignKey(
        Group, models.CASCADE, related_name="grants", null=True, blank=True, verbose_name=_("access group")
    )
    role = models.ForeignKey(Role, models.PROTECT, related_name="grants", verbose_name=_("role"))
    scope_type = models.CharField(
        _("reaches"), max_length=20, choices=ScopeType.choices, default=ScopeType.ALL
    )
    scope = models.CharField(
        _("namespace or query"), max_length=2000, blank=True, help_text=_("Empty when it reaches everything.")
    )
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)

    objects = GrantQuerySet.as_manager()

    class Meta:
        verbose_name = _("grant")
        verbose_name_plural = _("grants")
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(user__isnull=False, group__isnull=True)
                | Q(user__isnull=True, group__isnull=False),
                name="access_grant_one_holder",
                violation_error_message=_("Choose either a user or an access group."),
            ),
            _scope_constraint("access_grant_scope"),
            models.UniqueConstraint(
                fields=["user", "group", "role", "scope_type", "scope"],
                nulls_distinct=False,
                name="access_grant_once",
                violation_error_message=_("This grant exists already."),
            ),
        ]

    def __str__(self) -> str:
        reach = self.scope or self.get_scope_type_display()
        return f"{self.user or self.group}: {self.role} ({reach})"


class ApiToken(models.Model):
    """A token of a program that acts for a person. Only its hash is kept.

    :ivar role: the most that the token may do; None for all that its person may.
    :ivar last_used_at: to the nearest minutes.
    """

    ScopeType = ScopeType

    user = models.ForeignKey(User, models.CASCADE, related_name="tokens", verbose_name=_("user"))
    name = models.CharField(_("name"), max_length=100)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    prefix = models.CharField(_("begins with"), max_length=12, editable=False)
    role = models.ForeignKey(
        Role, models.PROTECT, related_name="+", null=True, blank=True, verbose_name=_("at most")
    )
    scope_type = models.CharField(
        _("reaches"), max_length=20, choices=ScopeType.choices, default=ScopeType.ALL
    )
    scope = models.CharField(_("namespace or query"), max_length=2000, blank=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True)

    class Meta:
        verbose_name = _("API token")
        verbose_name_plural = _("API tokens")
        ordering = ["-id"]
        constraints = [_scope_constraint("access_apitoken_scope")]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"


class SignInLinkQuerySet(models.QuerySet["SignInLink"]):
    """Sets of sign-in links."""

    def invitations(self) -> Self:
        """Those of people who were invited and did not come yet, expired ones too."""
        return self.filter(purpose=SignInLink.Purpose.INVITE, used_at=None)


class SignInLink(models.Model):
    """A link that signs a person in once, to choose a password. Only its hash is kept.

    :ivar made_by: who handed it out; None when Portico did, or the account is gone.
    """

    class Purpose(models.TextChoices):
        """Why the link was made."""

        FIRST = "first", _("First sign-in")
        INVITE = "invite", _("Invitation")
        RESET = "reset", _("New password")

    user = models.ForeignKey(User, models.CASCADE, related_name="sign_in_links", verbose_name=_("user"))
    digest = models.CharField(max_length=64, unique=True, editable=False)
    purpose = models.CharField(max_length=10, choices=Purpose.choices)
    made_by = models.ForeignKey(User, models.SET_NULL, related_name="+", null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    objects = SignInLinkQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.user}: {self.get_purpose_display()}"


class IdentityProvider(models.Model):
    """The one OpenID Connect provider through which people may sign in. Its secret is kept sealed.

    :ivar issuer: the address under which it publishes what it is.
    :ivar groups_claim: the claim with the groups that the provider puts people in; empty for none.
    :ivar roles: which role each of those groups gives everywhere, by its name; `*` stands for everybody.
    :ivar access_groups: which access group each of those groups leads into, by its name; `*` as well.
    :ivar email_domains: whose addresses may sign in; empty for all.
    :ivar makes_accounts: whether somebody without an account gets one.
    :ivar trusts_email: whether addresses count as verified of which the provider does not say either.
    """

    label = models.CharField(_("name"), max_length=100)
    issuer = models.CharField(_("issuer"), max_length=500)
    client_id = models.CharField(_("client id"), max_length=300)
    scopes = models.CharField(_("scopes"), max_length=300, default="openid email profile")
    groups_claim = models.CharField(_("claim for groups"), max_length=200, blank=True, default="groups")
    roles = models.JSONField(_("roles by group"), default=dict)
    access_groups = models.JSONField(_("access groups by group"), default=dict)
    email_domains = models.JSONField(_("e-mail domains"), default=list)
    makes_accounts = models.BooleanField(_("makes accounts"), default=False)
    trusts_email = models.BooleanField(_("e-mail counts as verified"), default=False)
    is_active = models.BooleanField(_("active"), default=True)

    class Meta:
        verbose_name = _("identity provider")
        verbose_name_plural = _("identity providers")
        constraints = [models.CheckConstraint(condition=Q(pk=1), name="access_identityprovider_single")]

    def __str__(self) -> str:
        return self.label


class Identity(models.Model):
    """Whom an identity provider knows as which account.

    :ivar subject: the provider's own, lasting name of the person; an address may pass to somebody else.
    :ivar grants: those that the provider's groups gave, and take away again.
    :ivar groups: the access groups that they led into, and out of again.
    """

    user = models.ForeignKey(User, models.CASCADE, related_name="identities", verbose_name=_("user"))
    issuer = models.CharField(_("issuer"), max_length=500)
    subject = models.CharField(_("subject"), max_length=255)
    email = models.CharField(_("e-mail"), max_length=254, blank=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    seen_at = models.DateTimeField(_("last signed in"), default=timezone.now)
    grants = models.ManyToManyField(Grant, related_name="identities", blank=True)
    groups = models.ManyToManyField(Group, related_name="identities", blank=True)

    class Meta:
        verbose_name = _("identity")
        verbose_name_plural = _("identities")
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["issuer", "subject"], name="access_identity_once"),
        ]

    def __str__(self) -> str:
        return f"{self.user}: {self.email or self.subject}"


class Secret(models.Model):
    """One encrypted value and whose it is.

    :ivar owner_type: the noun of the owner, such as `connection`.
    :ivar key_id: which of the encryption keys it was sealed with.
    """

    owner_type = models.CharField(max_length=50)
    owner_uid = models.CharField(max_length=100)
    name = models.CharField(max_length=100)
    sealed = models.TextField()
    key_id = models.CharField(max_length=16)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["owner_type", "owner_uid", "name"]
        constraints = [
            models.UniqueConstraint(fields=["owner_type", "owner_uid", "name"], name="access_secret_once"),
        ]

    def __str__(self) -> str:
        return f"{self.owner_type} {self.owner_uid}: {self.name}"


class AuditEvent(models.Model):
    """That somebody did something. Rows are only ever added; the database refuses anything else.

    It holds labels and no foreign keys, so that it outlives what it speaks of.
    """

    class ActorType(models.TextChoices):
        """What kind of actor it was."""

        USER = "user", _("Person")
        TOKEN = "token", _("API token")
        SYSTEM = "system", _("Portico")
        ANONYMOUS = "anonymous", _("Not signed in")

    at = models.DateTimeField(_("when"), default=timezone.now)
    actor_type = models.CharField(_("actor's type"), max_length=20, choices=ActorType.choices)
    actor_uid = models.CharField(max_length=100, blank=True)
    actor_label = models.CharField(_("who"), max_length=200)
    verb = models.CharField(_("what"), max_length=100)
    subject_type = models.CharField(_("of what type"), max_length=50, blank=True)
    subject_uid = models.CharField(max_length=100, blank=True)
    subject_label = models.CharField(_("to what"), max_length=300, blank=True)
    changes = models.JSONField(_("changes"), default=dict)
    request_id = models.CharField(_("request"), max_length=64, blank=True)
    ip = models.GenericIPAddressField(_("address"), null=True, blank=True)

    class Meta:
        verbose_name = _("audit event")
        verbose_name_plural = _("audit log")
        ordering = ["-at", "-id"]
        indexes = [
            models.Index(fields=["-at", "-id"], name="access_audit_at"),
            models.Index(fields=["subject_type", "subject_uid", "-at"], name="access_audit_subject"),
            models.Index(fields=["actor_type", "actor_uid", "-at"], name="access_audit_actor"),
        ]

    def __str__(self) -> str:
        return f"{self.actor_label}: {self.verb} {self.subject_label}"


class Undoable(models.Model):
    """What an undo of an audited change needs to know, for as long as the change can be undone.

    The audit log says what was done; this is what was there before, whole and without secrets.

    :ivar state: what was there before, as the floor that made the change reads it.
    :ivar undone_by: who undid it, or undid an earlier change and this one with it.
    """

    event = models.OneToOneField(
        AuditEvent, models.CASCADE, primary_key=True, related_name="undoable", verbose_name=_("change")
    )
    state = models.JSONField(default=dict)
    expires_at = models.DateTimeField(db_index=True)
    undone_at = models.DateTimeField(null=True, blank=True)
    undone_by = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-event_id"]

    def __str__(self) -> str:
        return str(self.event)

    @property
    def is_undone(self) -> bool:
        return self.undone_at is not None


class UndoableThing(models.Model):
    """A thing that a change concerned: who may not do such a thing to it does not see the change.

    :ivar aspect: what of it: a dotted path, a tie; empty for the thing as a whole.
    """

    undoable = models.ForeignKey(Undoable, models.CASCADE, related_name="things")
    uid = models.UUIDField()
    aspect = models.TextField(blank=True)

    class Meta:
        indexes = [models.Index(fields=["uid"], name="access_undoable_uid")]

    def __str__(self) -> str:
        return f"{self.uid} {self.aspect}".strip()


class AccessVersion(models.Model):
    """One row whose stamp changes with every change of users, groups, roles, grants and tokens.

    Processes keep what people may do in memory and look at the stamp to see whether that still holds. It is
    random, so that a restored backup never looks like the present.
    """

    stamp = models.UUIDField(default=uuid.uuid4)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(pk=1), name="access_version_single")]

    def __str__(self) -> str:
        return str(self.stamp)
