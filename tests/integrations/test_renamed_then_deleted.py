"""A repository that is renamed upstream and then deleted: what its addresses say, and what stays, by real syncs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from access.models import User
from catalog.models import Activity, Entity, EntityKey, Revision
from catalog.services.render import render_dirty
from integrations import sync
from integrations.models import Connection, SyncRun
from integrations.services.connections import create_connection
from integrations.services.runs import request_sync
from tests.integrations.company import Company, play

pytestmark = pytest.mark.django_db
NEWCOMER = 119


@pytest.fixture
def company(
    tmp_path: Path, core_pack: None, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Company]:
    settings.PORTICO_OUTBOUND_ALLOW = ["127.0.0.1"]
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with play(tmp_path) as played:
        played.deleted = {NEWCOMER}
        yield played


@pytest.fixture
def github(company: Company) -> Connection:
    connector, config = company.connections()["github"]
    return create_connection(
        slug="github", label="GitHub", connector=connector, config=config, network={"proxy": company.url}
    )


def synced(connection: Connection) -> SyncRun:
    run = request_sync(connection=connection, by="ana")
    sync.execute_run(run_id=run.pk, now=timezone.now())
    render_dirty(at=timezone.now())
    run.refresh_from_db()
    assert run.state == "synced", run.message
    return run


def test_history_follows_and_every_address_says_when_and_by_which_run(
    company: Company,
    github: Connection,
    vic: User,
    cleo: User,
    browse: Callable[[User], Client],
    as_token: Callable[..., dict[str, str]],
) -> None:
    synced(github)
    old, new = "/catalog/default/repository/acme-billing", "/catalog/default/repository/acme-invoicing"
    repository = Entity.objects.get(ref="repository:default/acme-billing")
    component = Entity.objects.get(ref="component:default/acme-billing")
    client = browse(vic)
    headers = as_token(vic)

    # Renamed: the same thing, and either address leads to it.
    company.is_later = True
    renamed_by = synced(github)
    assert Entity.objects.get(uid=repository.uid).title == "invoicing"
    assert Activity.objects.get(type="change").subject_uid == repository.uid
    revision = Revision.objects.filter(entity_uid=repository.uid).latest("number")
    assert (revision.action, revision.run) == ("changed", renamed_by.pk)
    moved = {"path": "spec.path", "old": "acme/billing", "new": "acme/invoicing"}
    assert moved in revision.diff
    page = client.get(new, follow=True)
    assert page.redirect_chain == [(old, 302)]
    assert "invoicing" in page.content.decode()
    history = client.get(f"{old}?tab=history").content.decode()
    assert f"/connections/github/runs/{renamed_by.pk}" in history
    assert "acme/billing" in history
    for address in ("https://github.com/acme/billing", "git@github.com:acme/billing.git"):
        found = client.get(f"/to/{address}", follow=True)
        assert found.redirect_chain[0][0] == "/catalog/default/component/acme-billing"
        assert "is called invoicing now" in found.content.decode()

    # Deleted: each address says when and by which run, and what was before is still there.
    company.deleted = {NEWCOMER, 108}
    deleted_by = synced(github)
    run_page = f"/connections/github/runs/{deleted_by.pk}"
    for path in (old, new, "/catalog/default/component/acme-billing"):
        page = client.get(path)
        text = page.content.decode()
        assert page.status_code == 410
        assert f"by sync run {deleted_by.pk} of GitHub" in text
        assert run_page in text
        assert "Renamed" in text or "Created" in text
    for path in (old, "/catalog/default/component/acme-billing"):
        activity = client.get(f"{path}?tab=activity")
        assert activity.status_code == 410
        assert "Round half to even" in activity.content.decode()
    assert client.get(run_page).status_code == 200
    for address in ("https://github.com/acme/billing", "https://github.com/acme/invoicing"):
        found = client.get(f"/to/{address}", follow=True)
        assert found.status_code == 410
        assert f"by sync run {deleted_by.pk} of GitHub" in found.content.decode()

    # Programs are told the same.
    for path in ("default/repository/acme-billing", "default/repository/acme-invoicing", str(repository.uid)):
        answer = client.get(f"/api/v1/entities/{path}/", headers=headers)
        assert answer.status_code == 410
        assert answer["Content-Type"] == "application/problem+json"
        problem = answer.json()
        last = Revision.objects.filter(entity_uid=repository.uid).latest("number")
        assert problem["code"] == "gone"
        assert problem["uid"] == str(repository.uid)
        assert problem["gone_at"] == last.at.isoformat()
        assert f"since {timezone.localtime(last.at):%-d %b %Y, %H:%M}," in problem["detail"]
        assert problem["gone_by"] == "GitHub"
        assert problem["sync_run"] == f"/api/v1/sync-runs/{deleted_by.pk}/"
        assert client.get(problem["sync_run"], headers=headers).json()["id"] == deleted_by.pk
    told = client.get(problem["history"], headers=headers).json()["results"]
    assert [row["action"] for row in told] == ["deleted", "changed", "created"]
    assert [row["run"] for row in told[:2]] == [deleted_by.pk, renamed_by.pk]

    # Who may not see it is told nothing of it.
    assert browse(cleo).get(old).status_code == 404
    assert client.get(f"/api/v1/entities/{repository.uid}/", headers=as_token(cleo)).status_code == 404

    # Restored upstream it is what it was.
    company.deleted = {NEWCOMER}
    synced(github)
    assert Entity.objects.get(ref="repository:default/acme-billing", deleted_at=None).uid == repository.uid
    assert Entity.objects.get(ref="component:default/acme-billing", deleted_at=None).uid == component.uid
    assert client.get(new, follow=True).status_code == 200


def test_a_name_that_another_thing_takes_over_is_that_things(
    company: Company, github: Connection, vic: User, browse: Callable[[User], Client]
) -> None:
    """A new repository at the old address has the address; the renamed one keeps its page."""
    synced(github)
    repository = Entity.objects.get(ref="repository:default/acme-billing")
    company.is_later, company.deleted = True, set()
    synced(github)
    assert Entity.objects.get(ref="repository:default/acme-billing").uid == repository.uid
    found = browse(vic).get("/to/https://github.com/acme/billing", follow=True)
    newcomer = EntityKey.objects.get(key="component:github.com/acme/billing", is_identity=True).entity
    assert newcomer.uid != Entity.objects.get(ref="component:default/acme-billing").uid
    assert found.redirect_chain[0][0] == f"/catalog/default/component/{newcomer.name}"
