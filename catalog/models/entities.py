"""Entities, the documents they are served as, and what ties them together."""

from __future__ import annotations

import uuid

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models.functions import Lower, Upper


class Hash64(models.Func):
    """64 bits of a word and a text, for an index that only tells equal ones."""

    template = "hashtextextended(%(expressions)s, 0)"
    arg_joiner = " || ' ' || "
    arity = 2
    output_field = models.BigIntegerField()


class Entity(models.Model):
    """One thing. Its `uid` is what it is; its `ref` is a label that may change.

    The columns are what lists filter and sort by; the whole document is in `Served`. A deleted entity stays as
    a tombstone, so that what returns regains its uid and what people said of it.
    """

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    ref = models.TextField(unique=True, help_text="kind:namespace/name in lower case.")
    kind = models.TextField(help_text="Lower case.")
    namespace = models.TextField(help_text="Lower case.")
    name = models.TextField(help_text="Lower case; the document keeps the original.")
    title = models.TextField()
    description = models.TextField(blank=True)
    type = models.TextField(blank=True)
    lifecycle = models.TextField(blank=True)
    owner = models.TextField(blank=True, help_text="Ref of the owner.")
    system = models.TextField(blank=True, help_text="Ref of the system.")
    tags = ArrayField(models.TextField(), default=list)
    audience = ArrayField(
        models.IntegerField(), null=True, help_text="Access groups that may see it; null: everybody."
    )
    sources = ArrayField(models.TextField(), default=list, help_text="Names of the sources that speak of it.")
    # 64-bit hashes of `key` and `key=value` for every searchable leaf of the document (catalog.query.tokens).
    tokens = ArrayField(models.BigIntegerField(), default=list)

    last_run = models.TextField(
        blank=True,
        help_text="Of the default branch: failed while any pipeline fails, else its newest run's status.",
    )
    last_run_at = models.DateTimeField(null=True)
    failing_since = models.DateTimeField(
        null=True, help_text="When the first run failed of those that still do."
    )
    version = models.TextField(blank=True, help_text="The newest version.")
    signals = models.JSONField(
        default=dict, help_text="For pages: what speaks of what is tied to it, what fails."
    )

    digest = models.BinaryField(max_length=16, help_text="Of the merged document.")
    revision = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField()
    changed_at = models.DateTimeField()
    deleted_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "entities"
        constraints = [
            models.CheckConstraint(
                name="entity_ref_is_built",
                condition=models.Q(
                    ref=models.functions.Concat(
                        "kind",
                        models.Value(":"),
                        "namespace",
                        models.Value("/"),
                        "name",
                        output_field=models.TextField(),
                    )
                ),
            ),
        ]
        indexes = [
            # Of the living, so that they are counted by kind without a look at their rows.
            models.Index(
                fields=["kind", "name", "uid"],
                name="entity_living_kind_name",
                condition=models.Q(deleted_at__isnull=True),
            ),
            models.Index(fields=["kind", "changed_at", "uid"], name="entity_kind_changed"),
            models.Index(fields=["name", "uid"], name="entity_name"),
            models.Index(Lower("title"), "uid", name="entity_title"),
            models.Index(fields=["changed_at", "uid"], name="entity_changed"),
            models.Index(fields=["namespace", "kind"], name="entity_namespace"),
            models.Index(fields=["owner", "kind"], name="entity_owner"),
            models.Index(
                fields=["kind", "last_run"], name="entity_last_run", condition=~models.Q(last_run="")
            ),
            models.Index(
                fields=["failing_since"],
                name="entity_failing",
                condition=models.Q(failing_since__isnull=False),
            ),
            models.Index(fields=["uid"], name="entity_audience", condition=models.Q(audience__isnull=False)),
            # Short lists of what waits to be sorted in: a long one makes a small index several times as large.
            GinIndex(fields=["tokens"], name="entity_tokens", gin_pending_list_limit=512),
            # UPPER, since that is what Django's case-insensitive look-ups compare.
            GinIndex(
                OpClass(Upper("name"), "gin_trgm_ops"),
                OpClass(Upper("title"), "gin_trgm_ops"),
                OpClass(Upper("description"), "gin_trgm_ops"),
                name="entity_text",
                gin_pending_list_limit=512,
            ),
        ]

    def __str__(self) -> str:
        return self.ref

    @property
    def is_alive(self) -> bool:
        return self.deleted_at is None


class Served(models.Model):
    """An entity's ready-made JSON: the merged document, and its relations as a second text.

    Kept as text so that a hot read joins strings and parses nothing.
    """

    entity = models.OneToOneField(Entity, on_delete=models.CASCADE, primary_key=True, related_name="served")
    document = models.TextField()
    relations = models.TextField(default="[]")

    class Meta:
        verbose_name_plural = "served"

    def __str__(self) -> str:
        return f"document of {self.entity_id}"


class ComputedValues(models.Model):
    """What was worked out for an entity: the values of its computed fields, by name.

    They are in the served document and among the tokens; here they wait for the next merge. No claim says them, so
    they make no revisions.
    """

    entity = models.OneToOneField(Entity, on_delete=models.CASCADE, primary_key=True, related_name="+")
    values = models.JSONField(default=dict)
    seen = models.BinaryField(
        max_length=16, null=True, help_text="The entity's digest when what looks at it was last worked out."
    )

    class Meta:
        verbose_name_plural = "computed values"

    def __str__(self) -> str:
        return f"computed of {self.entity_id}"


class Alias(models.Model):
    """A ref that an entity had before, or that a person says it is meant by; it leads there.

    :ivar decided_by: who said so; empty for a former name.
    """

    ref = models.TextField(primary_key=True)
    entity = models.ForeignKey(Entity, on_delete=models.CASCADE, related_name="aliases")
    decided_by = models.TextField(blank=True, default="", db_default="")
    decided_at = models.DateTimeField(null=True)
    reason = models.TextField(blank=True, default="", db_default="")

    class Meta:
        verbose_name_plural = "aliases"

    def __str__(self) -> str:
        return self.ref


class Redirect(models.Model):
    """A person's word that one entity is another: what is said of it counts for the other until that is taken back.

    :ivar ref: the name that the entity had and regains.
    """

    loser = models.OneToOneField(Entity, on_delete=models.CASCADE, primary_key=True, related_name="redirect")
    winner = models.ForeignKey(Entity, on_delete=models.CASCADE, related_name="redirected")
    ref = models.TextField(unique=True)
    decided_by = models.TextField()
    decided_at = models.DateTimeField()
    reason = models.TextField(blank=True)

    def __str__(self) -> str:
        return f"{self.loser_id} is {self.winner_id}"


class Relation(models.Model):
    """What a document says of another entity. Only one direction is stored; the inverse is rendered.

    The target may not exist yet: `target` is filled when it appears.
    """

    source = models.ForeignKey(Entity, on_delete=models.CASCADE, db_index=False, related_name="relations_out")
    type = models.TextField()
    target_ref = models.TextField()
    target = models.ForeignKey(
        Entity, on_delete=models.SET_NULL, null=True, db_index=False, related_name="relations_in"
    )

    class Meta:
        constraints = [
            # The texts by their hash: the index of the most rows of all is a third as large.
            models.UniqueConstraint("source", Hash64("type", "target_ref"), name="relation_unique"),
        ]
        indexes = [
            models.Index(fields=["target_ref", "type"], name="relation_target_ref"),
            models.Index(fields=["target", "type"], name="relation_target"),
        ]

    def __str__(self) -> str:
        return f"{self.source_id} {self.type} {self.target_ref}"


class TieState(models.TextChoices):
    AUTO = "auto", "Automatic"
    CONFIRMED = "confirmed", "Confirmed"
    FORBIDDEN = "forbidden", "Forbidden"


class Tie(models.Model):
    """A relation between entities of different kinds that a shared identity key made, or a person.

    An automatic tie comes and goes with its evidence. What a person confirmed or forbade stays.
    """

    source = models.ForeignKey(Entity, on_delete=models.CASCADE, db_index=False, related_name="ties_out")
    type = models.TextField()
    target = models.ForeignKey(Entity, on_delete=models.CASCADE, db_index=False, related_name="ties_in")
    state = models.TextField(choices=TieState.choices, default=TieState.AUTO)
    key = models.TextField(blank=True, help_text="The shared identity key; empty for a tie made by a person.")
    decided_by = models.TextField(blank=True)
    decided_at = models.DateTimeField(null=True)
    reason = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["source", "type", "target"], name="tie_once"),
            models.CheckConstraint(
                name="tie_decision_has_an_author",
                condition=models.Q(state=TieState.AUTO) | ~models.Q(decided_by=""),
            ),
        ]
        indexes = [
            models.Index(fields=["target", "type"], name="tie_target"),
            models.Index(fields=["key"], name="tie_key"),
        ]

    def __str__(self) -> str:
        return f"{self.source_id} {self.type} {self.target_id} ({self.state})"


class DirtyEntity(models.Model):
    """A mark that an entity's ties, relations text or signals have to be made anew.

    Marks are only put down, held and taken up, if need be several for one entity: so no writer waits for another's.
    """

    entity = models.ForeignKey(Entity, on_delete=models.CASCADE, db_constraint=False, related_name="+")
    since = models.DateTimeField(auto_now_add=True)
    is_to_merge = models.BooleanField(db_default=False, help_text="The document too: its kind has changed.")

    class Meta:
        verbose_name_plural = "dirty entities"

    def __str__(self) -> str:
        return f"dirty {self.entity_id}"
