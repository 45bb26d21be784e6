"""The card of the first page that asks an account who its person is."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy

from access.models import User
from access.permissions import can
from access.queries import list_claims
from catalog import queries
from catalog.services.people import account_of, people_by_email
from portal import links
from portal.widgets.base import Absent, PageContext, Widget, WidgetConfig, register


@register
class WhichOneIsYou(Widget[WidgetConfig]):
    """Asks who one is until that is known; tells administrators who says who they are."""

    slug = "which-one-is-you"
    label = gettext_lazy("Which one is you?")
    description = gettext_lazy(
        "Asks those whose account is tied to no person which one they are, and administrators to confirm it"
    )
    template = "widgets/which_one_is_you.html"
    slots = frozenset({"home"})

    def data(self, context: PageContext) -> dict[str, Any]:
        viewer = context.viewer
        if not isinstance(viewer, User):
            raise Absent
        claims = list_claims(viewer=viewer).count() if can(viewer, "user.write") else 0
        is_settled = viewer.entity_uid is not None or viewer.claimed_entity_uid is not None
        people = queries.list_entities(viewer).filter(kind="user")
        found = list(people_by_email(viewer)[:2]) if not is_settled else []
        likely = found[0] if len(found) == 1 and account_of(found[0], but=viewer) is None else None
        is_asked = not is_settled and (likely is not None or people.exists())
        if not claims and not is_asked:
            raise Absent
        return {
            "claims": claims,
            "is_asked": is_asked,
            "likely": links.chip(likely.ref, likely) | {"uid": likely.uid} if likely else None,
        }
