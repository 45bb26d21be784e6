"""The Docs tab: the pages beside an entity's catalog file, linked with each other, safe, for those who may see them."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from access.models import User
from access.services import create_group, set_members
from catalog.services.render import render_dirty
from integrations.models import Connection
from integrations.records import Document, Record, Repository
from integrations.services.connections import show_to
from integrations.writing import RecordWriter
from tests.catalog.saying import claim, say

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]

REPO = "github.com/acme/pay"
DOCS = {
    "README.md": "# Pay\n\nSee [the guide](docs/guide.md#to-begin), [web](https://acme.example), [code](src/pay.py).",
    "docs/guide.md": "# Guide\n\n## To begin\n\nBack to [the top](../README.md) or [up](..), ![p](img/a.png)\n"
    "[bad](javascript:alert(1)) <script>alert(1)</script> [itself](#to-begin) [gone](gone.md)",
    "pay/docs/own.md": "# Own\n\nOf the part [rooted](/docs/guide.md).",
}
TAB = "/catalog/default/component/pay?tab=docs"


def component(name: str, file: str, **metadata: Any) -> Document:
    return Document(
        external_id=f"{REPO}:{file}#component:default/{name}",
        document={
            "apiVersion": "backstage.io/v1alpha1",
            "kind": "Component",
            "metadata": {"name": name, **metadata},
            "spec": {"type": "service", "lifecycle": "production", "owner": "team"},
        },
        file=file,
        about=[f"repo:{REPO}"],
    )


def repository(docs: dict[str, str] = DOCS) -> Repository:
    return Repository(
        external_id=REPO,
        name="pay",
        path="acme/pay",
        url="https://github.com/acme/pay",
        default_branch="main",
        head="0123456789abcdef0123",
        keys=[f"repo:{REPO}"],
        docs=docs,
    )


def bring(connection: Connection, resource: str, *records: Record) -> None:
    RecordWriter(connection=connection, resource=resource, by="test", now=timezone.now()).write(list(records))
    render_dirty(at=timezone.now())


@pytest.fixture
def git(core_pack: None) -> Connection:
    made = Connection.objects.create(slug="git", label="Git", connector="git", namespace="default")
    bring(made, "repositories", repository())
    bring(
        made,
        "documents",
        component("pay", "catalog-info.yaml"),
        component("part", "pay/catalog-info.yaml"),
        component(
            "guided", "pay/x/catalog-info.yaml", annotations={"backstage.io/techdocs-ref": "dir:../.."}
        ),
    )
    return made


@pytest.fixture
def viewer(browse: Callable[[User], Client], vic: User) -> Client:
    return browse(vic)


def page(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


def words(text: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def pages(text: str) -> list[str]:
    return re.findall(r'class="po-facet-item[^"]*" href="[^"]*" title="([^"]+)"', text)


def test_the_pages_beside_it_are_shown_and_lead_to_each_other(git: Connection, viewer: Client) -> None:
    first = page(viewer, TAB)
    assert pages(first) == ["README.md", "docs/guide.md"]
    assert "as of 0123456789ab" in words(first)
    assert 'href="/catalog/default/component/pay?tab=docs&amp;page=docs%2Fguide.md#md-to-begin"' in first
    assert 'href="https://github.com/acme/pay/blob/main/src/pay.py"' in first
    assert 'href="https://github.com/acme/pay/blob/main/README.md"' in first  # of the page itself
    guide = page(viewer, f"{TAB}&page=docs/guide.md")
    assert 'id="md-to-begin"' in guide
    assert guide.count("page=README.md") == 3  # in the list, the link to the file, and that to the folder
    assert 'href="https://github.com/acme/pay/blob/main/docs/img/a.png"' in guide
    assert 'href="https://github.com/acme/pay/blob/main/docs/gone.md"' in guide
    assert 'href="#md-to-begin"' in guide


def test_a_name_with_signs_of_addresses_leads_to_its_file(git: Connection, viewer: Client) -> None:
    bring(git, "repositories", repository({"docs/how to?.md": "# How"}))
    assert 'href="https://github.com/acme/pay/blob/main/docs/how%20to%3F.md"' in page(viewer, TAB)


def test_nothing_in_them_can_act(git: Connection, viewer: Client) -> None:
    guide = page(viewer, f"{TAB}&page=docs/guide.md")
    assert "<script>alert" not in guide
    assert not re.search(r'(href|src)="\s*javascript', guide)
    assert "<img" not in guide


def test_each_part_of_a_repository_has_its_own(git: Connection, viewer: Client) -> None:
    part = page(viewer, "/catalog/default/component/part?tab=docs")
    assert "Of the part" in words(part)
    assert (
        "page=" not in part.partition("po-md")[2].partition("</section>")[0]
    )  # the guide is not one of its pages
    assert pages(page(viewer, "/catalog/default/component/guided?tab=docs")) == ["README.md", "docs/guide.md"]
    assert "Pay" in words(page(viewer, "/catalog/default/repository/acme-pay?tab=docs"))


def test_what_is_not_there_is_said(git: Connection, viewer: Client) -> None:
    assert "There is no page “nothing.md” in these docs." in words(page(viewer, f"{TAB}&page=nothing.md"))
    assert "There is no page" in words(page(viewer, f"{TAB}&page=../../etc/passwd"))
    say("yaml:a", claim("component:bare", {"type": "x", "lifecycle": "x", "owner": "team"}))
    said = words(page(viewer, "/catalog/default/component/bare?tab=docs"))
    assert "No documentation lies beside its catalog file." in said


def test_what_changes_or_goes_is_seen_at_the_next_sync(git: Connection, viewer: Client) -> None:
    bring(git, "repositories", repository({"docs/new.md": "# New"}))
    assert "New" in words(page(viewer, TAB))
    assert pages(page(viewer, TAB)) == []
    bring(git, "repositories", repository({}))
    assert "No documentation lies" in words(page(viewer, TAB))


def test_what_a_hidden_connection_read_is_for_its_groups(
    git: Connection, browse: Callable[[User], Client], vic: User, ben: User
) -> None:
    say("yaml:a", claim("component:pay", {"type": "x", "lifecycle": "x", "owner": "team"}))
    group = create_group(name="Insiders")
    set_members(group=group, members=[ben])
    show_to(git, ["Insiders"])
    assert "the guide" in words(page(browse(ben), TAB))
    said = words(page(browse(vic), TAB))
    assert "the guide" not in said
    assert "No documentation lies" in said


def test_who_may_not_see_the_entity_sees_no_page(
    git: Connection, browse: Callable[[User], Client], cleo: User
) -> None:
    assert browse(cleo).get(TAB).status_code == 404
