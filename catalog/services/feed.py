"""The feed after its rows have moved to another PostgreSQL server, which counts transactions from its own start."""

from __future__ import annotations

from datetime import datetime, timedelta

from catalog.feed import next_transaction
from catalog.models import FeedItem, Touched

# Who keeps entities in memory and has not looked for half as long reads them anew.
TOUCHED_STAY = timedelta(hours=1)


def settle_feed() -> int:
    """Put rows of transactions that this server has yet to count before all others, in their own order.

    Else nobody would be shown them, nor anything later. Who had read further is told so by `feed_since`.

    :returns: how many rows were moved; none on the server that wrote them.
    """
    Touched.objects.filter(transaction__gte=next_transaction()).delete()
    if not FeedItem.objects.filter(transaction__gte=next_transaction()).exists():
        return 0
    return FeedItem.objects.update(transaction=0)


def forget_touched(*, now: datetime) -> None:
    """Let go of what tells of older changes than anybody in memory still follows."""
    Touched.objects.filter(at__lt=now - TOUCHED_STAY).delete()
