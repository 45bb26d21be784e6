"""The feed after its rows have moved to another PostgreSQL server, which counts transactions from its own start."""

from __future__ import annotations

from catalog.models import FeedItem
from catalog.queries import next_transaction


def settle_feed() -> int:
    """Put rows of transactions that this server has yet to count before all others, in their own order.

    Else nobody would be shown them, nor anything later. Who had read further is told so by `feed_since`.

    :returns: how many rows were moved; none on the server that wrote them.
    """
    if not FeedItem.objects.filter(transaction__gte=next_transaction()).exists():
        return 0
    return FeedItem.objects.update(transaction=0)
