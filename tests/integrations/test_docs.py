"""The Markdown beside catalog files: which files are pages, whose they are, and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import pytest

from integrations import docs as module
from integrations.docs import Docs, Page, docs_beside, pages_of, title_of


def read(
    files: Mapping[str, str], *, beside: Iterable[str] = (), sizes: Mapping[str, int] | None = None
) -> dict[str, str]:
    async def give(paths: set[str]) -> dict[str, bytes]:
        return {path: files[path].encode() for path in paths if path in files}

    known = {path: len(text.encode()) for path, text in files.items()} | dict(sizes or {})
    return asyncio.run(pages_of(known, give, beside=beside))


def paths(pages: list[Page]) -> list[str]:
    return [page.path for page in pages]


def test_readmes_and_docs_beside_catalog_files_are_pages() -> None:
    files = {
        "README.md": "top",
        "docs/index.md": "a",
        "docs/deep/er/x.markdown": "b",
        "docs/picture.png": "no",
        "notes.md": "no",
        "src/README.md": "no",
        "services/pay/Readme.md": "c",
        "services/pay/docs/a.md": "d",
        "services/cart/docs/a.md": "no",
        "node_modules/x/README.md": "no",
        "docs/node_modules/y/z.md": "no",
    }
    assert set(read(files, beside=["services/pay"])) == {
        "README.md", "docs/index.md", "docs/deep/er/x.markdown", "services/pay/Readme.md", "services/pay/docs/a.md",
    }  # fmt: skip


def test_an_mkdocs_file_names_another_folder() -> None:
    files = {
        "handbook/mkdocs.yml": "docs_dir: pages\nnav: [a.md]\nemoji:\n  index: !!python/name:x.y\n",
        "handbook/pages/a.md": "# A",
        "handbook/docs/no.md": "no",
        "lib/mkdocs.yml": "docs_dir: ../../../../etc\n",
        "etc/passwd.md": "# inside of the repository, at most",
    }
    assert set(read(files)) == {
        "handbook/mkdocs.yml", "handbook/pages/a.md", "lib/mkdocs.yml", "etc/passwd.md"
    }  # fmt: skip


def test_they_are_few_and_small(monkeypatch: pytest.MonkeyPatch) -> None:
    many = {f"docs/{n:04}.md": "x" for n in range(300)}
    assert len(read(many)) == module.PAGES
    assert set(read({"docs/a.md": "x", "docs/b.md": "y"}, sizes={"docs/a.md": 10**7})) == {"docs/b.md"}
    monkeypatch.setattr(module, "ALL_BYTES", 10)
    assert set(read({"docs/a.md": "x" * 6, "docs/b.md": "y" * 6, "docs/c.md": "z"})) == {
        "docs/a.md",
        "docs/c.md",
    }
    assert read({"docs/" + "a" * 600 + ".md": "x"}) == {}
    assert read({"docs/a.md": "a\r\nb\0"}) == {"docs/a.md": "a\nb"}
    assert read({}) == {}


def test_pages_stand_in_the_order_of_the_navigation() -> None:
    texts = {
        "mkdocs.yml": "nav:\n- Start: index.md\n- Use:\n  - Daily: use/daily.md\n  - use/rare.md\n  - Web: https://x.example\n",
        "README.md": "# Pay",
        "docs/index.md": "# Hello",
        "docs/use/rare.md": "Rare\n====\n",
        "docs/use/daily.md": "# D",
        "docs/other.md": "# Other",
    }
    pages = docs_beside(texts, "")
    assert [(page.path, page.title, page.section) for page in pages] == [
        ("README.md", "Pay", ""),
        ("docs/index.md", "Start", ""),
        ("docs/use/daily.md", "Daily", "Use"),
        ("docs/use/rare.md", "Rare", "Use"),
        ("docs/other.md", "Other", ""),
    ]


def test_each_thing_has_those_of_its_own_folder() -> None:
    texts = {
        "README.md": "# Top",
        "docs/a.md": "# A",
        "pay/README.md": "# Pay",
        "pay/docs/b.md": "# B",
        "handbook/mkdocs.yml": "docs_dir: pages",
        "handbook/pages/c.md": "# C",
    }
    assert paths(docs_beside(texts, "")) == ["README.md", "docs/a.md"]
    assert paths(docs_beside(texts, "pay")) == ["pay/README.md", "pay/docs/b.md"]
    assert paths(docs_beside(texts, "pay", techdocs="dir:.")) == ["pay/README.md", "pay/docs/b.md"]
    assert paths(docs_beside(texts, "pay", techdocs="dir:../handbook")) == [
        "pay/README.md",
        "handbook/pages/c.md",
    ]
    assert paths(docs_beside(texts, "pay", techdocs="url:https://x.example")) == [
        "pay/README.md",
        "pay/docs/b.md",
    ]
    assert paths(docs_beside(texts, "nowhere")) == []


@pytest.mark.parametrize(
    "nav", ["{", "nav: 3", "nav: [[[[[]]]]]", "nav: {a: {b: {c: docs.md}}}", "- x", "nav: [null, 1, {1: 2}]"]
)
def test_a_navigation_that_makes_no_sense_changes_nothing(nav: str) -> None:
    assert paths(docs_beside({"mkdocs.yml": nav, "docs/a.md": "a"}, "")) == ["docs/a.md"]


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ('---\ntitle: "Front"\nx: 1\n---\n# Other', "Front"),
        ("x\n\n# The **[big](y)** `one` #\n", "The big one"),
        ("```\nno\n```\n\nUnder\n=====\n", "Under"),
        ("nothing", "how to use"),
        ("# <b>x</b>", "x"),
        ("# ", "how to use"),
    ],
)
def test_a_page_has_a_title(text: str, title: str) -> None:
    assert title_of(text, "docs/how-to_use.md") == title


def test_a_folder_means_its_first_page() -> None:
    docs = Docs([Page("docs/index.md", "", ""), Page("docs/a/README.md", "", ""), Page("docs/b.md", "", "")])
    for path, found in (
        ("docs", "docs/index.md"),
        ("docs/a", "docs/a/README.md"),
        ("docs/b.md", "docs/b.md"),
    ):
        page = docs.page(path)
        assert page is not None
        assert page.path == found
    assert docs.page("x") is None
