"""Who says what of an entity."""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import HashIndex
from django.db import models
from django.db.models.fields.json import KT

from catalog.documents.patches import unpack_words
from catalog.models.entities import Entity, Redirect


class SourceType(models.TextChoices):
    PERSON = "person", "Person"
    YAML = "yaml", "YAML file"
    API = "api", "API"
    CONNECTION = "connection", "Connection"


class Source(models.Model):
    """Who says something: a connection's resource, a YAML location, a person, an API token.

    :ivar key: what it is, for ever: `connection:git-main/repositories`, `yaml:<address>`, `person:<user uid>`.
    :ivar name: what people filter by (`source:git-main`); a connection's resources share its slug.
    """

    type = models.TextField(choices=SourceType.choices)
    key = models.TextField(unique=True)
    name = models.TextField(db_index=True)
    label = models.TextField()
    connector = models.TextField(blank=True, help_text="Slug of the connector, for the monogram.")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.key


class Audience(models.Model):
    """Who may see what a source says and tells of, if not everybody.

    :ivar name: of the source: a connection's slug.
    :ivar uid: of what has this name.
    :ivar groups: keys of access groups.
    """

    name = models.TextField(primary_key=True)
    uid = models.UUIDField()
    groups = ArrayField(models.IntegerField(), default=list)

    def __str__(self) -> str:
        return self.name


class Rank(models.IntegerChoices):
    """Whose word counts more, first to last."""

    PERSON = 0, "Person"
    YAML = 1, "File"
    API = 2, "API"
    CONNECTION = 3, "Tool"
    INFERRED = 4, "Inferred"


class ClaimMode(models.TextChoices):
    ASSERT = "assert", "Asserts that it exists"
    AMEND = "amend", "Amends what exists"


class ClaimFields(models.Model):
    """What is kept of a claim, whether it counts or is set aside.

    :ivar external_id: the source's own stable id of the thing.
    :ivar digest: of document, keys and place: an equal one means that nothing is written.
    :ivar place: where it stands: file, document, line, commit, address; of a file also the ref of the Location that led
        there, as `by`.
    :ivar stale_reason: why the source's newest word could not be read; this is its last good one.
    """

    external_id = models.TextField()
    rank = models.PositiveSmallIntegerField(choices=Rank.choices)
    mode = models.TextField(choices=ClaimMode.choices, default=ClaimMode.ASSERT)
    digest = models.BinaryField(max_length=16)
    document = models.JSONField()
    place = models.JSONField(default=dict)
    words = models.BinaryField(null=True, help_text="The very words of a document in a file, packed.")
    as_of = models.DateTimeField()
    is_shadowed = models.BooleanField(
        default=False,
        help_text="It does not count: another YAML location declared it first, or fewer people may see it.",
    )
    stale_reason = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        abstract = True


class Claim(ClaimFields):
    """What one source says of one entity."""

    read_digest = models.BinaryField(
        max_length=16,
        null=True,
        help_text="Of the text that it was read from: the same text need not be parsed again.",
    )
    entity = models.ForeignKey(Entity, on_delete=models.CASCADE, related_name="claims")
    source = models.ForeignKey(Source, on_delete=models.CASCADE, db_index=False, related_name="claims")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["source", "external_id"], name="claim_once")]
        indexes = [HashIndex(KT("place__address"), name="claim_address")]

    def __str__(self) -> str:
        return f"{self.source_id} {self.external_id}"

    @property
    def text(self) -> str:
        """The very words of a document in a file; empty if they are not kept."""
        # Of what was written before words were packed they stand in the place.
        return unpack_words(bytes(self.words)) if self.words else self.place.get("text", "")

    @property
    def whereabouts(self) -> dict[str, Any]:
        """Where it stands, without the words that stand there and what led there, which not everybody may see."""
        return {name: value for name, value in self.place.items() if name not in ("text", "by")}


class AsideClaim(ClaimFields):
    """A claim of a source that is muted or removed: it counts for nothing until it is brought back.

    :ivar entity: of which it speaks; of one that a person merged into another, the one that was merged.
    :ivar keys: the identity keys that it brought: lists of kind, key, path and whether the entity *is* this.
    """

    id = models.BigIntegerField(primary_key=True)
    entity = models.ForeignKey(Entity, on_delete=models.CASCADE, related_name="aside_claims")
    source = models.ForeignKey(Source, on_delete=models.CASCADE, related_name="aside_claims")
    keys = models.JSONField()

    class Meta:
        verbose_name_plural = "claims set aside"

    def __str__(self) -> str:
        return f"{self.source_id} {self.external_id}"


class RedirectedClaim(models.Model):
    """A claim that counts for another entity than its own because a person merged the two."""

    claim = models.OneToOneField(Claim, on_delete=models.CASCADE, primary_key=True, related_name="redirected")
    redirect = models.ForeignKey(Redirect, on_delete=models.CASCADE, related_name="claims")

    def __str__(self) -> str:
        return f"{self.claim_id} by {self.redirect_id}"


class EntityKey(models.Model):
    """An identity key that a claim brought.

    :ivar is_identity: the entity *is* this; otherwise the claim only speaks *about* it.
    :ivar path: the folder inside the repository, for an `about` key that names one.
    """

    claim = models.ForeignKey(Claim, on_delete=models.CASCADE, db_index=False, related_name="keys")
    entity = models.ForeignKey(Entity, on_delete=models.CASCADE, db_index=False, related_name="keys")
    kind = models.TextField()
    key = models.TextField()
    path = models.TextField(blank=True)
    is_identity = models.BooleanField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["claim", "key", "path", "is_identity"], name="key_once")
        ]
        indexes = [
            models.Index(fields=["key", "kind"], name="key_lookup"),
            models.Index(fields=["entity"], name="key_entity"),
        ]

    def __str__(self) -> str:
        return self.key


class FormerKey(models.Model):
    """What an entity was known by when its last claims went, so that what returns regains its uid.

    :ivar key: an identity key, or `claim:` with the source's key and its id of the thing.
    :ivar source: name of the source that knew it by this.
    """

    kind = models.TextField()
    key = models.TextField()
    entity = models.ForeignKey(Entity, on_delete=models.CASCADE, related_name="former_keys")
    source = models.TextField(blank=True, default="", db_default="")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["key", "kind"], name="former_key_once")]

    def __str__(self) -> str:
        return self.key
