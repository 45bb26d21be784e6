"""Which definitions of APIs have been read."""

from __future__ import annotations

from django.db import models


class ReadDefinition(models.Model):
    """That the operations of an API are passages, and of which document.

    :ivar digest: the entity's when its definition was last read, after the number of the rule by which it was.
    """

    entity = models.OneToOneField(
        "catalog.Entity", on_delete=models.CASCADE, primary_key=True, related_name="+"
    )
    digest = models.BinaryField(max_length=17)

    def __str__(self) -> str:
        return f"definition of {self.entity_id}"
