"""Kinds, the fields that are added to them, and relation types: the catalog's vocabulary, as data that packs bring."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from access.definitions import Definition


class Kind(Definition):
    """A type of entity. `spec` is a KindDefinition as `catalog.documents.kinds` describes it."""

    class Meta(Definition.Meta):
        verbose_name = "kind"


class KindField(Definition):
    """A field that is added to kinds. `spec` is a FieldDefinition as `catalog.documents.fields` describes it."""

    counted_at = models.DateTimeField(
        null=True, editable=False, help_text="Until when what fell out of its window has been looked for."
    )

    class Meta(Definition.Meta):
        verbose_name = "field"


class KindChange(models.Model):
    """A change of a kind's definition: checked on all stored entities, then applied while they are still served.

    :ivar definition: name of the kind's definition; `spec` is what it is to be.
    :ivar before: the spec that it was checked against.
    :ivar pack: the pack that brought it, applied by itself where nothing breaks; empty for what people propose.
    :ivar breaks: how many entities lack something afterwards that they do not lack now.
    :ivar report: why: rows of `path`, `reason`, `count` and some `refs`.
    :ivar held_until: who works on it renews this; what is not renewed is taken up by another.
    """

    class State(models.TextChoices):
        CHECKING = "checking", _("Being checked")
        CHECKED = "checked", _("Checked")
        APPLYING = "applying", _("Being applied")
        APPLIED = "applied", _("Applied")
        UNDONE = "undone", _("Undone")
        CANCELLED = "cancelled", _("Cancelled")
        FAILED = "failed", _("Failed")

    definition = models.TextField()
    kind = models.TextField(help_text="Lower case.")
    spec = models.JSONField()
    before = models.JSONField()
    state = models.TextField(choices=State.choices, default=State.CHECKING)
    total = models.PositiveIntegerField(default=0)
    done = models.PositiveIntegerField(default=0)
    breaks = models.PositiveIntegerField(default=0)
    report = models.JSONField(default=list)
    error = models.TextField(blank=True)
    made_at = models.DateTimeField()
    made_by = models.TextField()
    pack = models.TextField(blank=True, default="", db_default="")
    finished_at = models.DateTimeField(null=True)
    held_until = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["kind", "-made_at"], name="kindchange_kind")]
        verbose_name = "change of a kind"
        verbose_name_plural = "changes of kinds"

    def __str__(self) -> str:
        return f"change of {self.definition} ({self.state})"

    @property
    def is_active(self) -> bool:
        """Whether something is being done with it."""
        return self.state in {self.State.CHECKING, self.State.APPLYING}


class RelationType(Definition):
    """A type of relation with its inverse and the words for both directions."""

    class Meta(Definition.Meta):
        verbose_name = "relation type"
