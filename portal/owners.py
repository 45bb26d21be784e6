"""What can be done about an owner that nothing declares."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _

from access.permissions import can
from catalog.permissions import Planned
from catalog.services.naming import OWNERS
from portal import links


def settling(viewer: Any, ref: str) -> list[dict[str, Any]]:
    """What a viewer may do about a name that nothing declares, as buttons."""
    if not can(viewer, "entity.write", Planned(ref)):
        return []
    url = f"{links.ref_url(ref)}/unknown"
    create = {"label": _("Create"), "url": f"{url}#create", "small": True}
    map_to = {"label": _("Map to..."), "url": f"{url}#map", "small": True}
    return [create, map_to] if ref.partition(":")[0] in OWNERS else [map_to]
