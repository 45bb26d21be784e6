"""The documentation that lies beside an entity's catalog file."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from itertools import groupby
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from integrations.docs import Docs, Page
from integrations.entity_docs import docs_of
from portal import links
from portal.templatetags.foreign import render_markdown
from portal.widgets.activity import entity_of
from portal.widgets.base import NothingToShow, PageContext, Widget, WidgetConfig, register
from portal.widgets.entity import claims_on, document_of, neighbours_of


@register
class RepositoryDocs(Widget[WidgetConfig]):
    """The README and the Markdown below `docs/`, as they are in the repository."""

    slug = "docs"
    label = gettext_lazy("Docs")
    description = gettext_lazy("The README and the Markdown pages beside its catalog file, rendered safely")
    template = "widgets/docs.html"
    styles = ("portico/reading.css",)

    def data(self, context: PageContext) -> dict[str, Any]:
        entity = entity_of(context)
        repositories = [entity] if entity.kind == "repository" else []
        repositories += [
            n.entity for n in neighbours_of(context) if n.type == "hasSource" and n.entity is not None
        ]
        docs = docs_of(context.viewer, document_of(context), claims_on(context), repositories)
        if not docs.pages:
            raise NothingToShow(
                _(
                    "No documentation lies beside its catalog file. A README.md or Markdown files below docs/ are "
                    "shown here, once a Git connection reads the repository."
                ),
                icon="book",
            )
        asked = context.params.get("page", "")
        page = docs.page(asked) if asked else docs.pages[0]
        if page is None:
            context.refuse("page", _("There is no page “%(path)s” in these docs.") % {"path": asked[:200]})
            page = docs.pages[0]
        return {
            "groups": [
                {"label": section, "pages": [_entry(context, one, page) for one in pages]}
                for section, pages in groupby(docs.pages, key=lambda one: one.section)
            ],
            "page": page,
            "count": len(docs.pages),
            "html": render_markdown(
                page.text,
                _folder(docs, page),
                links=_links(context, docs, page),
            ),
            "commit": docs.commit[:12],
            "web_url": _web(docs, page),
        }


def _entry(context: PageContext, page: Page, shown: Page) -> dict[str, Any]:
    return {"title": page.title, "url": _url(context, page), "path": page.path, "is_on": page is shown}


def _url(context: PageContext, page: Page, heading: str = "") -> str:
    url = context.url(page=page.path)
    return f"{url}#md-{slugify(heading)}" if heading else url


def _folder(docs: Docs, page: Page) -> str:
    """The web page of the folder that a page lies in, with a `/` behind it; empty if it has none."""
    if docs.web:
        folder = posixpath.dirname(page.path)
        return docs.web + (f"{quote(folder)}/" if folder else "")
    return links.folder_url(docs.repository, docs.branch, page.path)


def _web(docs: Docs, page: Page) -> str:
    folder = _folder(docs, page)
    return folder + quote(posixpath.basename(page.path)) if folder else ""


def _links(context: PageContext, docs: Docs, page: Page) -> Callable[[str], str]:
    """Where a link to another page leads: to that page here."""

    def resolve(target: str) -> str:
        try:
            parts = urlsplit(target)
        except ValueError:
            return ""
        if parts.scheme or parts.netloc or not parts.path:
            return ""
        base = "/" if parts.path.startswith("/") else f"/{posixpath.dirname(page.path)}"
        path = posixpath.normpath(posixpath.join(base, unquote(parts.path).lstrip("/"))).lstrip("/")
        found = docs.page(path)
        return _url(context, found, parts.fragment) if found else ""

    return resolve
