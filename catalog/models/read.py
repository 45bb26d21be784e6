"""Of what the passages of entities were made."""

from __future__ import annotations

from django.db import models


class PassagesRead(models.Model):
    """What an entity's passages were last made from; what is as it was then is not read again.

    :ivar operations: the digest of its document, after the number of the rule by which its definition was read.
    :ivar pages: a digest of its docs, likewise; None if it has none.
    """

    entity = models.OneToOneField(
        "catalog.Entity", on_delete=models.CASCADE, primary_key=True, related_name="+"
    )
    operations = models.BinaryField(max_length=17, null=True)
    pages = models.BinaryField(max_length=17, null=True)

    def __str__(self) -> str:
        return f"passages of {self.entity_id}"
