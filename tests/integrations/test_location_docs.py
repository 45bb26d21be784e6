"""The docs beside catalog files that are imported: of a Git repository, of a folder of this machine."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client

from access.models import User
from catalog.models import Passage
from integrations.entity_docs import path_below
from integrations.models import CatalogLocation, LocationDocs
from integrations.readers import CatalogReader
from integrations.services.docs import read_docs

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("core_pack")]


@pytest.fixture(autouse=True)
def nothing_is_kept() -> None:
    cache.clear()


@pytest.fixture
def viewer(browse: Callable[[User], Client], vic: User) -> Client:
    return browse(vic)


def component(name: str, **annotations: str) -> str:
    said = "".join(f"\n    {key}: {value}" for key, value in annotations.items())
    return (
        f"apiVersion: backstage.io/v1alpha1\nkind: Component\nmetadata:\n  name: {name}\n"
        + (f"  annotations:{said}\n" if said else "")
        + "spec: {type: service, lifecycle: production, owner: team}\n"
    )


FILES = {
    "catalog-info.yaml": component("pay"),
    "README.md": "# Pay\n\nSee [how](docs/how.md).",
    "docs/how.md": "# How\n\n## Twice\n\nA second time.",
    "web/catalog-info.yaml": component("web"),
    "web/README.md": "# Web",
    "docs/secret.txt": "no page",
}


def words(client: Client, name: str, **params: str) -> str:
    answer = client.get(f"/catalog/default/component/{name}", {"tab": "docs", **params})
    assert answer.status_code == 200
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.content.decode())).split())


def read(address: Path | str) -> None:
    call_command("import_catalog", str(address), json=True)


def keys() -> set[str]:
    return {
        f"{ref} {key}" for ref, key in Passage.objects.filter(sort="page").values_list("entity__ref", "key")
    }


def test_those_of_a_git_repository(make_work: Any, tmp_path: Path, viewer: Client) -> None:
    work = make_work("pay")
    head = work.commit(FILES)
    address = f"git+file://{work.folder}"
    read(address)
    said = words(viewer, "pay")
    assert "See how ." in said
    assert f"as of {head[:12]}" in said
    assert "A second time." in words(viewer, "pay", page="docs/how.md#twice")
    assert "Web" in words(viewer, "web")
    assert read_docs() == 2
    assert keys() == {
        "component:default/pay README.md#pay",
        "component:default/pay docs/how.md#how",
        "component:default/pay docs/how.md#twice",
        "component:default/web web/README.md#web",
    }
    changed_at = LocationDocs.objects.get().changed_at
    newer = work.commit({"src/x.py": "1"})
    read(address)
    row = LocationDocs.objects.get()
    assert (row.changed_at, row.commit) == (changed_at, newer)  # the texts are not written again
    assert read_docs() == 0
    work.commit({"docs/how.md": "# How\n\nOnce."})
    read(address)
    assert "Once." in words(viewer, "pay", page="docs/how.md")
    assert read_docs() == 2
    assert "component:default/pay docs/how.md#twice" not in keys()


def test_those_of_a_folder(tmp_path: Path, viewer: Client) -> None:
    for path, text in FILES.items():
        (tmp_path / "shop" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "shop" / path).write_text(text)
    (tmp_path / "outside.md").write_text("# Not here")
    (tmp_path / "shop/docs/link.md").symlink_to(tmp_path / "outside.md")
    read(tmp_path / "shop")
    assert "See how ." in words(viewer, "pay")
    assert "A second time." in words(viewer, "pay", page="docs/how.md")
    assert "Web" in words(viewer, "web")
    assert "Pay" not in words(viewer, "web").partition("Web README.md")[0].rpartition("Source")[2]
    assert read_docs() == 2
    (tmp_path / "shop/README.md").unlink()
    (tmp_path / "shop/docs/how.md").unlink()
    (tmp_path / "shop/docs/link.md").unlink()
    read(tmp_path / "shop")
    assert "No documentation lies beside its catalog file." in words(viewer, "pay")
    assert read_docs() == 1
    assert keys() == {"component:default/web README.md#web"}


def test_what_cannot_be_read_takes_nothing_away(
    tmp_path: Path, viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "catalog-info.yaml").write_text(component("pay"))
    (tmp_path / "README.md").write_text("# Pay\n\nStays.")
    read(tmp_path)

    async def fail(*_args: Any) -> None:
        raise OSError("the disk is away")

    monkeypatch.setattr(CatalogReader, "docs_beside", fail)
    read(tmp_path)
    assert "Stays." in words(viewer, "pay")
    CatalogLocation.objects.all().delete()
    assert not LocationDocs.objects.exists()


def test_a_dry_run_keeps_none(tmp_path: Path) -> None:
    (tmp_path / "catalog-info.yaml").write_text(component("pay"))
    (tmp_path / "README.md").write_text("# Pay")
    call_command("import_catalog", str(tmp_path), json=True, dry_run=True)
    assert not LocationDocs.objects.exists()


@pytest.mark.parametrize(
    ("top", "file", "path"),
    [
        ("/srv/shop/", "/srv/shop/a.yaml", "a.yaml"),
        ("/srv/shop/", "/srv/shop/.backstage/a.yaml", ".backstage/a.yaml"),
        ("/srv/shop/", "/srv/shop/web/a.yaml", None),
        ("/srv/shop/", "/srv/other/a.yaml", None),
        ("git+https://h.example/p.git//", "git+https://h.example/p.git//x/a.yaml", "x/a.yaml"),
        ("git+https://h.example/p.git//", "git+https://h.example/q.git//x/a.yaml", None),
        ("git+https://h.example/p.git//#v1", "git+https://h.example/p.git//a.yaml#v1", "a.yaml"),
        ("git+https://h.example/p.git//#v1", "git+https://h.example/p.git//a.yaml", None),
        ("https://github.com/a/p/blob/main/", "https://github.com/a/p/blob/main/x/a.yaml", "x/a.yaml"),
        ("https://github.com/a/p/blob/main/", "https://github.com/a/p/blob/maine/a.yaml", None),
        ("https://github.com/a/p/blob/main/", "https://example.com/a.yaml", None),
    ],
)
def test_where_a_file_lies(top: str, file: str, path: str | None) -> None:
    assert path_below(top, file) == path
