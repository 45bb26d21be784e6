"""Sections of docs are passages, for those who see the entity, and of what changed alone."""

from __future__ import annotations

import pytest
from django.core.cache import cache
from django.utils import timezone

from access.models import User
from access.permissions import visible
from access.services import create_group, set_members
from catalog.models import Passage
from catalog.services.render import render_dirty
from integrations.models import Connection, SyncRun
from integrations.services import docs
from integrations.services.connections import show_to
from integrations.services.docs import read_docs
from tests.catalog.saying import claim, say
from tests.portal.test_docs_tab import DOCS, bring, component, git, repository

__all__ = ["git"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]


@pytest.fixture(autouse=True)
def nothing_is_kept() -> None:
    cache.clear()


def keys(name: str, kind: str = "component") -> list[str]:
    found = Passage.objects.filter(entity__ref=f"{kind}:default/{name}", sort="page").order_by("position")
    return list(found.values_list("key", flat=True))


def again() -> int:
    """As after a run."""
    SyncRun.objects.create(
        connection=Connection.objects.get(),
        state="synced",
        queued_at=timezone.now(),
        finished_at=timezone.now(),
    )
    return read_docs()


def test_each_section_is_one_and_each_folder_is_found_once(git: Connection) -> None:
    assert read_docs() == 3
    assert keys("pay") == ["README.md#pay", "docs/guide.md#guide", "docs/guide.md#to-begin"]
    assert keys("part") == ["pay/docs/own.md#own"]
    assert keys("acme-pay", "repository") == []  # the component at the top has them
    one = Passage.objects.get(entity__ref="component:default/pay", key="docs/guide.md#to-begin")
    assert one.title == "Guide: To begin"
    assert one.text.startswith("Back to the top or up")
    assert "<script>" not in one.text


def test_a_repository_without_components_has_its_own(git: Connection) -> None:
    other = repository({"README.md": "# Lone"}).model_copy(
        update={
            "external_id": "github.com/acme/lone",
            "name": "lone",
            "path": "acme/lone",
            "keys": ["repo:github.com/acme/lone"],
        }
    )
    bring(git, "repositories", other)
    read_docs()
    assert keys("acme-lone", "repository") == ["README.md#lone"]


def test_only_what_changed_is_read_again(git: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_docs() == 3
    monkeypatch.setattr(docs, "_all_wanted", None)  # whoever looks fails
    assert read_docs() == 0
    monkeypatch.undo()
    assert again() == 0
    bring(git, "repositories", repository({**DOCS, "docs/guide.md": "# Guide\n\nMore"}))
    assert again() == 3
    assert keys("pay") == ["README.md#pay", "docs/guide.md#guide"]
    bring(git, "repositories", repository({}))
    assert again() == 3
    assert not Passage.objects.filter(sort="page").exists()
    assert again() == 0


def test_what_a_hidden_connection_read_is_no_passage_of_what_all_see(
    git: Connection, ben: User, vic: User
) -> None:
    say("yaml:a", claim("component:pay", {"type": "x", "lifecycle": "x", "owner": "team"}))
    read_docs()
    assert keys("pay")
    set_members(group=create_group(name="Insiders"), members=[ben])
    show_to(git, ["Insiders"])
    render_dirty(at=timezone.now())
    read_docs()
    assert keys("pay") == []
    assert keys("part") == ["pay/docs/own.md#own"]  # which only they see
    assert not visible(vic, Passage.objects.filter(sort="page")).exists()
    assert visible(ben, Passage.objects.filter(sort="page")).exists()


def test_of_what_one_file_declares_one_thing_has_them(git: Connection) -> None:
    bring(git, "documents", component("also", "pay/catalog-info.yaml"))
    read_docs()
    assert (keys("also"), keys("part")) == (["pay/docs/own.md#own"], [])
