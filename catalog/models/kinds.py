"""Kinds, the fields that are added to them, and relation types: the catalog's vocabulary, as data that packs bring."""

from __future__ import annotations

from django.db import models

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


class RelationType(Definition):
    """A type of relation with its inverse and the words for both directions."""

    class Meta(Definition.Meta):
        verbose_name = "relation type"
