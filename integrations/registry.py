"""The connectors that are installed, found by entry point; one that breaks is reported and left out."""

from __future__ import annotations

import logging
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files

from django.utils.translation import gettext as _

from integrations.contract import Connector, Misconfigured

logger = logging.getLogger(__name__)

GROUP = "portico.connectors"


@cache
def connectors() -> dict[str, type[Connector]]:
    """All installed connectors by slug."""
    found: dict[str, type[Connector]] = {}
    for entry in entry_points(group=GROUP):
        try:
            connector = entry.load()
        except Exception:  # a third party's import may fail in any way, and must not take the portal along
            logger.exception("Connector %s (%s) cannot be loaded and is left out.", entry.name, entry.value)
            continue
        found[connector.slug] = connector
    return dict(sorted(found.items(), key=lambda item: item[1].label.lower()))


def connector(slug: str) -> type[Connector]:
    """One connector by its slug.

    :raises Misconfigured: if none of this name is installed.
    """
    try:
        return connectors()[slug]
    except KeyError:
        raise Misconfigured(
            _("No connector %(slug)s is installed; there are: %(names)s.")
            % {"slug": slug, "names": ", ".join(connectors())}
        ) from None


@cache
def guide(slug: str) -> str:
    """The connector's README, in Markdown; empty where it has none."""
    package = connector(slug).__module__.rpartition(".")[0]
    try:
        return files(package).joinpath("README.md").read_text(encoding="utf-8")
    except (OSError, ModuleNotFoundError, ValueError):
        return ""
