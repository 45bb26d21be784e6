"""Changing for whom a source is."""

from __future__ import annotations

import uuid
from collections.abc import Collection

from django.db import connection
from django.db.models import Value
from django.db.models.functions import Concat, Substr

from access.permissions import changing_access
from catalog.models import Activity, Audience, Claim, Entity, FormerKey, Revision
from catalog.services.activity import mark_subjects_dirty
from catalog.services.dirty import mark_dirty


def set_audience(*, name: str, uid: uuid.UUID, groups: Collection[int] | None) -> None:
    """Say for whom a source is; what it says of is merged anew by the queue.

    What only it speaks of is kept from the others at once.

    :param name: of the source: a connection's slug.
    :param uid: of what has this name.
    :param groups: keys of access groups; None: everybody.
    """
    with changing_access():
        if groups is None:
            Audience.objects.filter(name=name).delete()
        else:
            Audience.objects.update_or_create(name=name, defaults={"uid": uid, "groups": sorted(groups)})
            with connection.cursor() as cursor:
                cursor.execute(
                    """
                    UPDATE catalog_entity e SET audience = %(groups)s::integer[]
                    WHERE e.sources = ARRAY[%(name)s] AND e.audience IS DISTINCT FROM %(groups)s::integer[]
                    """,
                    {"groups": sorted(groups), "name": name},
                )
        spoken_of = Entity.objects.filter(
            deleted_at=None, pk__in=Claim.objects.filter(source__name=name).values("entity")
        )
        mark_dirty(spoken_of.values_list("pk", flat=True), is_to_merge=True)
        told = Activity.objects.filter(connection=name).exclude(subject_uid=None)
        mark_subjects_dirty(set(told.order_by().values_list("subject_uid", flat=True).distinct()))


def free_name(*, name: str, uid: uuid.UUID) -> None:
    """A source is gone for good, so another may have its name; what is left of it stays hidden, and the other is not.

    :param name: of the source: a connection's slug.
    :param uid: of what had this name.
    """
    kept = f"{name}#{uid}"
    with changing_access():
        if Audience.objects.filter(name=name, uid=uid).update(name=kept):
            rest = Substr("by_key", len(f"connection:{name}") + 1)
            told = Revision.objects.filter(by_key__startswith=f"connection:{name}/")
            told.update(by_key=Concat(Value(f"connection:{kept}"), rest))
            FormerKey.objects.filter(source=name).update(source=kept)
