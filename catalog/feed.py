"""The catalog's changes in order, as one reads them from where one was."""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.db.models import Q
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from access.permissions import visible
from base.errors import DomainError
from catalog.models import FeedItem

LAST_OF_ALL = 2**63 - 1


class FeedPositionLost(DomainError):
    """A position in the feed that another database server gave: what came after it cannot be told."""

    code = "feed-position-lost"
    status = 410
    title = _lazy("The feed has to be read anew")


def next_transaction() -> int:
    """A number that the database server has given to no transaction whose rows are seen here."""
    return _transactions()[1]


def _transactions() -> tuple[int, int]:
    """The number of the oldest transaction that runs, and one above those whose rows are seen here."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_snapshot_xmin(s)::text::bigint, greatest(pg_snapshot_xmax(s)::text::bigint,"
            " pg_current_xact_id_if_assigned()::text::bigint + 1) FROM pg_current_snapshot() s"
        )
        oldest, following = cursor.fetchone()
    return oldest, following


def feed_end() -> tuple[int, int]:
    """The position after all that the feed has now."""
    return _transactions()[0] - 1, LAST_OF_ALL


def feed_since(
    viewer: Any, *, position: tuple[int, int], limit: int
) -> tuple[list[FeedItem], tuple[int, int]]:
    """The catalog's changes after a position (transaction, id), in that order, each at least once; and where to go on.

    Only transactions older than every running one are read, so that one which commits late is not skipped. Once all
    of them are read, one goes on after them, so that what the viewer may not see is not looked through again.

    :raises FeedPositionLost: if this server has not come to that transaction: the position is another one's.
    """
    horizon, following = _transactions()
    transaction, last = position
    if transaction >= following:
        raise FeedPositionLost(
            _("The data have moved to another database server since this position was given. Read the catalog "
              "anew, and the feed from its beginning.")
        )  # fmt: skip
    rows = visible(viewer, FeedItem.objects.filter(transaction__lt=horizon)).filter(
        Q(transaction__gt=transaction) | Q(transaction=transaction, id__gt=last)
    )
    items = list(rows.order_by("transaction", "id")[:limit])
    if len(items) == limit:
        return items, (items[-1].transaction, items[-1].pk)
    return items, max(position, (horizon - 1, LAST_OF_ALL))
