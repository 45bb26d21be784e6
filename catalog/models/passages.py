"""Parts of what an entity says that search finds beside the entity itself."""

from __future__ import annotations

from django.contrib.postgres.indexes import GinIndex, OpClass
from django.contrib.postgres.search import SearchVectorField
from django.db import models
from django.db.models.functions import Upper


class PassageSort(models.TextChoices):
    OPERATION = "operation", "Operation of an API"
    PAGE = "page", "Section of its docs"


class Passage(models.Model):
    """One operation of an API's definition, or one section of a repository's docs.

    They follow from documents, so they are written anew whenever those change, and no history is kept of them.

    :ivar key: what it is within the entity: `GET /pets/{id}`, or `docs/install.md#linux`.
    :ivar position: its place among those of its sort.
    :ivar vector: its words, as `catalog.search.words` makes them.
    :ivar digest: of all this; what has the same is not written again.
    """

    entity = models.ForeignKey(
        "catalog.Entity", on_delete=models.CASCADE, db_index=False, related_name="passages"
    )
    sort = models.TextField(choices=PassageSort.choices)
    key = models.TextField()
    title = models.TextField()
    text = models.TextField(blank=True)
    position = models.PositiveIntegerField()
    vector = SearchVectorField(editable=False)
    digest = models.BinaryField(max_length=16)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["entity", "sort", "key"], name="passage_once")]
        indexes = [
            GinIndex(fields=["vector"], name="passage_vector", gin_pending_list_limit=512),
            # For what is typed wrongly; UPPER, as everywhere.
            GinIndex(
                OpClass(Upper("title"), "gin_trgm_ops"), name="passage_title", gin_pending_list_limit=512
            ),
        ]

    def __str__(self) -> str:
        return f"{self.sort} {self.key} of {self.entity_id}"
