"""Which entities' rows were written, for those who keep something of them in memory (`catalog.index`)."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from catalog.models.history import CurrentTransaction


class Touched(models.Model):
    """That a statement wrote rows of some entities, their documents or what relates them.

    Put down by triggers, whoever writes, so nothing is forgotten. Taken away after an hour: who has not looked for so
    long reads everything anew.

    :ivar ids: of the entities; null if they were too many to name.
    """

    transaction = models.BigIntegerField(db_default=CurrentTransaction())
    at = models.DateTimeField(db_default=Now())
    ids = ArrayField(models.BigIntegerField(), null=True)

    class Meta:
        verbose_name_plural = "touched"
        indexes = [models.Index(fields=["transaction"], name="touched_transaction")]

    def __str__(self) -> str:
        return f"{len(self.ids) if self.ids is not None else 'many'} entities"
