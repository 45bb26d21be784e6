"""The Markdown pages that lie beside catalog files: which files they are, and whose they are."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from base import safe_yaml
from base.errors import DomainError
from integrations.documents import MAX_PATH
from integrations.repository_files import is_foreign

PAGES = 100  # of one repository
PAGE_BYTES = 200_000
ALL_BYTES = 500_000  # of all pages of one repository together
NAV = 500
# What is looked at in a folder that is no repository.
DOCS_PATTERNS = ("{README,Readme,readme}.{md,markdown}", "docs/**/*.{md,markdown}", "mkdocs.{yml,yaml}")
_MARKDOWN = re.compile(r"\.(md|markdown)$", re.IGNORECASE)
_README = re.compile(r"readme\.(md|markdown)$", re.IGNORECASE)
_MKDOCS = ("mkdocs.yml", "mkdocs.yaml")
_FOLDER = "docs"

Read = Callable[[set[str]], Awaitable[Mapping[str, bytes]]]


async def pages_of(sizes: Mapping[str, int], read: Read, *, beside: Iterable[str]) -> dict[str, str]:
    """The texts of the pages of some folders, and of the files that put them in order, by path.

    :param sizes: of all plain files, by path; a negative one is not known.
    :param read: gives those of some files that are there.
    :param beside: the folders; those with an `mkdocs.yml` of their own count as well, and the top always.
    """
    orders = [path for path in _in_order(sizes) if posixpath.basename(path) in _MKDOCS][:PAGES]
    texts = _decoded(await read({path for path in orders if sizes[path] <= PAGE_BYTES})) if orders else {}
    folders = {"", *beside, *(posixpath.dirname(path) for path in texts)}
    homes = {_below(folder, _docs_folder(_order_of(folder, texts))) for folder in folders}
    wanted: set[str] = set()
    left = ALL_BYTES
    for path in _in_order(sizes):
        is_readme = _README.match(posixpath.basename(path)) and posixpath.dirname(path) in folders
        if not (is_readme or (_MARKDOWN.search(path) and not homes.isdisjoint(_folders_of(path)))):
            continue
        size = max(sizes[path], 0)
        if size > PAGE_BYTES or size > left:
            continue
        left -= size
        wanted.add(path)
        if len(wanted) >= PAGES:
            break
    return texts | (_decoded(await read(wanted)) if wanted else {})


def _in_order(paths: Iterable[str]) -> list[str]:
    """The paths that may matter, the topmost first."""
    ends = (".md", ".markdown", *_MKDOCS)
    found = [path for path in paths if path.lower().endswith(ends) and len(path) <= MAX_PATH]
    return sorted((path for path in found if not is_foreign(path)), key=lambda path: (path.count("/"), path))


def _decoded(found: Mapping[str, bytes]) -> dict[str, str]:
    return {
        path: data.decode("utf-8", "replace").replace("\0", "").replace("\r\n", "\n")
        for path, data in found.items()
    }


def _below(folder: str, path: str) -> str:
    """A path as seen from a folder; `..` beyond the top is the top."""
    return posixpath.normpath(posixpath.join("/", folder, path)).lstrip("/")


def _folders_of(path: str) -> set[str]:
    """All that a path lies in, the top included."""
    parts = path.split("/")
    return {"/".join(parts[:n]) for n in range(len(parts))}


def _order_of(folder: str, texts: Mapping[str, str]) -> dict[str, Any]:
    """What the `mkdocs.yml` of a folder says; nothing if there is none, or none that can be read."""
    for name in _MKDOCS:
        text = texts.get(_below(folder, name))
        if text is not None:
            try:
                found = safe_yaml.load(text, name=name)
            except DomainError:
                return {}
            return found if isinstance(found, dict) else {}
    return {}


def _docs_folder(order: Mapping[str, Any]) -> str:
    said = order.get("docs_dir")
    return said if isinstance(said, str) and said.strip() else _FOLDER


# --- of one thing -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Page:
    """A page.

    :ivar path: within the repository.
    :ivar section: the heading of the navigation that it stands below, or empty.
    """

    path: str
    title: str
    text: str
    section: str = ""


@dataclass(frozen=True)
class Docs:
    """The pages that lie beside one thing's catalog file.

    :ivar repository: the web address of the repository; `branch` and `commit` as they were read.
    :ivar web: the address of its web pages of files up to their paths, where that is known otherwise.
    """

    pages: list[Page] = field(default_factory=list)
    repository: str = ""
    branch: str = ""
    commit: str = ""
    web: str = ""

    def page(self, path: str) -> Page | None:
        """The page of a path, whatever heading it names; of a folder its first page."""
        path = path.partition("#")[0]
        for name in (path, *(_below(path, one) for one in ("index.md", "README.md", "readme.md"))):
            if name in self._by_path:
                return self._by_path[name]
        return None

    @cached_property
    def _by_path(self) -> dict[str, Page]:
        return {page.path: page for page in self.pages}


def docs_beside(texts: Mapping[str, str], folder: str, *, techdocs: str = "") -> list[Page]:
    """The pages of a folder, in the order of its `mkdocs.yml`, then by path; the README first.

    :param techdocs: what the entity says of its documentation: `dir:.`, `dir:./handbook`.
    """
    base = _below(folder, techdocs.removeprefix("dir:")) if techdocs.startswith("dir:") else folder
    said = _order_of(base, texts)
    home = _below(base, _docs_folder(said))
    named = {entry.path: entry for entry in _entries(said.get("nav"), home)}
    order = {path: n for n, path in enumerate(named)}
    found = [
        path
        for path in texts
        if _MARKDOWN.search(path)
        and (
            home in _folders_of(path)
            or (_README.match(posixpath.basename(path)) and posixpath.dirname(path) in {folder, base})
        )
    ]

    def rank(path: str) -> tuple[int, int, int, str]:
        is_first = posixpath.dirname(path) in {folder, base} and path not in order
        is_index = posixpath.basename(path).lower() in {"index.md", "readme.md"}
        return (0 if is_first else 1, order.get(path, NAV), 0 if is_index else 1, path)

    pages = []
    for path in sorted(found, key=rank):
        entry = named.get(path)
        text = _without_matter(texts[path])
        title = (entry.title if entry else "") or title_of(texts[path], path)
        pages.append(Page(path, title, text, entry.section if entry else ""))
    return pages


class _Entry(NamedTuple):
    path: str
    title: str
    section: str


def _entries(nav: Any, home: str) -> Iterator[_Entry]:
    """The entries of a navigation, its sections within sections as one heading each."""
    waiting: list[tuple[Any, str]] = [(nav, "")]
    count = 0
    while waiting and count < NAV:
        item, section = waiting.pop(0)
        count += 1
        if isinstance(item, list):
            waiting[:0] = [(one, section) for one in item[:NAV]]
        elif isinstance(item, str):
            yield _Entry(_below(home, item), "", section)
        elif isinstance(item, dict):
            below: list[tuple[Any, str]] = []
            for title, inner in list(item.items())[:NAV]:
                if isinstance(inner, str):
                    if "://" not in inner:
                        yield _Entry(_below(home, inner), str(title)[:200], section)
                else:
                    below.append((inner, str(title)[:200]))
            waiting[:0] = below


_MATTER = re.compile(r"\A---[ \t]*\n(.*?\n)---[ \t]*(?:\n|\Z)", re.DOTALL)
_TITLE = re.compile(r"^title:[ \t]*(.+?)[ \t]*$", re.MULTILINE)
_HEADING = re.compile(r"^(?:# +(.+?)[ \t]*#*|([^\s#>`*\-].*)\n=+)[ \t]*$", re.MULTILINE)


def _without_matter(text: str) -> str:
    return _MATTER.sub("", text, count=1)


def title_of(text: str, path: str) -> str:
    """What a page calls itself, else its file."""
    matter = _MATTER.match(text)
    said = _TITLE.search(matter[1]) if matter else None
    found = said[1].strip("\"'") if said else ""
    if not found:
        heading = _HEADING.search(_without_matter(text)[:20_000])
        found = (heading[1] or heading[2]) if heading else ""
    found = re.sub(r"!?\[([^\]]*)\]\([^)]*\)|[*_`]|<[^>]*>", lambda m: m[1] or "", found).strip()
    return found[:200] or _MARKDOWN.sub("", posixpath.basename(path)).replace("-", " ").replace("_", " ")


# --- of a location ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FoundDocs:
    """What lies beside the catalog files of one repository, or in one folder of this machine.

    :ivar top: what the paths are seen from, as a location's target.
    :ivar web: the address of the repository's web pages of files, up to their paths.
    """

    top: str
    texts: dict[str, str]
    web: str = ""
    commit: str = ""
