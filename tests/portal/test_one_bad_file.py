"""One file with faults of three sorts among good documents: the good are served at once, each fault is told wherever
somebody looks for it: at the entity, at the file, and by the API."""

from __future__ import annotations

import html
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from access.models import User
from catalog.models import Entity
from integrations.models import CatalogLocation
from integrations.services.locations import import_paths, refresh_location

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]

OTHERS = 40


def document(
    name: str, *, kind: str = "Component", owner: str = "owner: crew, ", type_: str = "service"
) -> str:
    return (
        f"apiVersion: backstage.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\n"
        f"spec: {{{owner}type: {type_}, lifecycle: production}}\n"
    )


CREW = "apiVersion: backstage.io/v1alpha1\nkind: Group\nmetadata: {name: crew}\nspec: {type: team, children: []}\n"
FAULTS = {
    # The entity, its document, and what is said of it.
    "disallowed": (document("disallowed", kind="Komponent"), "Komponent"),
    "ownerless": (document("ownerless", owner=""), "spec.owner"),
    "broken": (document("broken").replace("lifecycle:", "lifecycle: [,"), ""),
}


def write(file: Path, faulty: dict[str, str], type_: str) -> None:
    others = [document(f"good-{n:02}", type_=type_) for n in range(OTHERS)]
    middle = OTHERS // 2
    parts = [CREW, *others[:middle], *faulty.values(), *others[middle:]]
    file.write_text("---\n".join(parts))


@pytest.fixture
def file(tmp_path: Path, settings: Any) -> Path:
    """A file that was good, with all its entities."""
    settings.PORTICO_FILES_ALLOW = [tmp_path]
    made = tmp_path / "catalog-info.yaml"
    write(made, {name: document(name) for name in FAULTS}, "service")
    import_paths(addresses=[str(made)], by="tests")
    assert Entity.objects.filter(deleted_at=None).count() == OTHERS + len(FAULTS) + 1
    return made


def read_again() -> None:
    """Read the one location again."""
    refresh_location(location_id=CatalogLocation.objects.get().pk, now=timezone.now())


def problems_of(ask: Callable[[str], Any], ref: str) -> list[dict[str, Any]]:
    """What the API tells as wrong with an entity."""
    return [p for p in ask("/api/v1/problems/?limit=100")["results"] if p["subject"] == ref]


def test_the_good_are_served_and_each_fault_is_told_everywhere(
    file: Path, ana: User, as_token: Callable[..., dict[str, str]]
) -> None:
    client, headers = Client(), as_token(ana)

    def ask(path: str) -> Any:
        return json.loads(client.get(path, headers=headers).getvalue())

    listed = "/api/v1/entities/?q=kind:component+type:library&limit=1000"
    as_backstage = "/api/catalog/entities/by-query?filter=kind=component,spec.type=library&limit=1000"
    assert (
        ask(listed)["total"] == len(ask(as_backstage)["items"]) == 0
    )  # the first request makes the process ready
    write(file, {name: text for name, (text, _said) in FAULTS.items()}, "library")
    begun = time.monotonic()
    read_again()
    served, of_backstage = ask(listed), ask(as_backstage)
    assert time.monotonic() - begun < 2
    assert served["total"] == OTHERS
    assert len(of_backstage["items"]) == OTHERS
    assert all(
        {"type": "ownedBy", "targetRef": "group:default/crew"} in one["relations"]
        for one in of_backstage["items"]
    )
    # By the API: each fault with file, document, line and what is wrong.
    problems = [p for p in ask("/api/v1/problems/?limit=100")["results"] if p["type"] == "refused-document"]
    places = {p["detail"]["place"]["document"]: p for p in problems}
    first = OTHERS // 2 + 2
    assert set(places) == {first, first + 1, first + 2}
    for number, (_text, said) in zip(sorted(places), FAULTS.values(), strict=True):
        assert places[number]["detail"]["place"]["file"] == str(file)
        assert places[number]["detail"]["place"]["line"] > 1
        assert said in places[number]["message"]
    # At the file: all three on the page of catalog files.
    client.force_login(ana)
    page = client.get("/connections/import").content.decode()
    said_there = html.unescape(page)
    for problem in problems:
        assert problem["message"] in said_there
    # At the entity: what was last said of it, and why that is old.
    for name, (_text, said) in FAULTS.items():
        entity = client.get(f"/catalog/default/component/{name}?tab=source")
        assert entity.status_code == 200, name
        assert "stale" in entity.content.decode().lower(), name
        assert said in entity.content.decode(), name
        told = [p for p in problems_of(ask, f"component:default/{name}") if p["type"] == "stale"]
        assert len(told) == 1, name
        assert said in told[0]["message"], name


def test_when_it_is_mended_nothing_is_told_any_more(file: Path, ana: User) -> None:
    good = file.read_text()
    write(file, {name: text for name, (text, _said) in FAULTS.items()}, "library")
    read_again()
    file.write_text(good)
    read_again()
    client = Client()
    client.force_login(ana)
    told = client.get("/api/v1/problems/?limit=100").json()["results"]
    assert not {problem["type"] for problem in told} & {"refused-document", "stale"}
    for name in FAULTS:
        assert "stale" not in client.get(f"/catalog/default/component/{name}?tab=source").content.decode()


def test_what_was_never_good_is_told_at_the_file_and_what_names_it_at_the_entity(
    tmp_path: Path, ana: User, settings: Any, as_token: Callable[..., dict[str, str]]
) -> None:
    settings.PORTICO_FILES_ALLOW = [tmp_path]
    made = tmp_path / "new.yaml"
    made.write_text(
        "---\n".join([document("good", owner="owner: ghosts, "), *(t for t, _said in FAULTS.values())])
    )
    client, headers = Client(), as_token(ana)

    def ask(path: str) -> Any:
        return client.get(path, headers=headers).json()

    begun = time.monotonic()
    summary = import_paths(addresses=[str(made)], by="tests")
    good = ask("/api/v1/entities/default/component/good/")
    assert time.monotonic() - begun < 2
    assert (summary.accepted, summary.refused) == (1, 3)
    assert good["spec"]["owner"] == "ghosts"
    assert [p["type"] for p in problems_of(ask, "component:default/good")] == ["missing-target"]
    client.force_login(ana)
    page = client.get("/catalog/default/component/good?tab=problems").content.decode()
    assert "ghosts" in page
    refused = [p for p in ask("/api/v1/problems/?limit=100")["results"] if p["type"] == "refused-document"]
    assert len(refused) == len(FAULTS)
    page = html.unescape(client.get("/connections/import").content.decode())
    assert all(problem["message"] in page for problem in refused)
    # Where the entity would be, what leads to the document that was refused, and why.
    for name in FAULTS:
        gone = client.get(f"/catalog/default/component/{name}")
        assert gone.status_code == 404
        assert "/why?of=" in gone.content.decode()
    for said in (
        html.unescape(client.get("/why?of=component:default/ownerless").content.decode()),
        json.dumps(ask("/api/v1/why/?of=component:default/ownerless")),
    ):
        assert "new.yaml" in said
        assert "spec.owner" in said
    why = html.unescape(client.get(f"/why?of={made}").content.decode())
    assert "Komponent" in why
