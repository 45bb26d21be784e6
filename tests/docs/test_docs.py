"""What the documentation says is so: its examples run, its lists are complete, its links lead somewhere."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from django.core.management import call_command, get_commands
from django.db import connection
from django.test import Client
from django.utils import timezone

from access.models import Role, User
from access.services import create_token, undo
from access.verbs import EVERYTHING, VERBS
from catalog.models import Rank, Source, SourceType
from catalog.services.ingest import ClaimIn, apply_claims
from portal.packs import apply_packs, installed_packs
from portal.widgets import widget_types
from tests.catalog_data import forget_definitions
from tests.docs.pages import DOCS, ROOT, block, first_cells, page, second_cells, section

PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
OURS = ("base", "access", "catalog", "integrations", "portal", "plugins", "bin")
# What a process tells its own children, and nobody sets.
INNER = {"PORTICO_SUPERVISOR"}


# --- links ----------------------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """The places of a page that a link may name."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(path: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _hash, anchor = unquote(target).partition("#")
        leads_to = (path.parent / name).resolve() if name else path
        assert leads_to.exists(), f"{target} leads nowhere"
        if DOCS in path.parents:
            assert DOCS in leads_to.parents, (
                f"{target} leaves the documentation, which stands alone as a site"
            )
        if anchor:
            assert anchor in anchors(leads_to), f"{target} names no heading"


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r'"([\w/-]+\.md)"', (ROOT / "zensical.toml").read_text()))
    assert listed - {"adr/index.md"} == {path.name for path in DOCS.glob("*.md")}
    index = page("adr/index.md")
    assert all(f"({path.name})" in index for path in (DOCS / "adr").glob("0*.md"))


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("zensical")
    if not program.exists():
        pytest.skip("needs zensical, which bin/test installs")
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    done = subprocess.run(
        [program, "build", "--strict"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "arning" not in done.stdout + done.stderr


# --- lists ----------------------------------------------------------------------------------------------------


def environment_of_the_code() -> set[str]:
    """Every variable of ours that the code or the tests read."""
    found = set()
    for folder in (*OURS, "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.parts[-2:] in (("docs", "test_docs.py"), ("portal", "test_environment.py")):
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    found |= {
                        a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)
                    }
                if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                    found.add(node.slice.value)
    return {name for name in map(str, found) if re.fullmatch(r"PORTICO_[A-Z_]+|DATABASE_URL|REDIS_URL", name)}


def test_every_variable_is_documented_and_every_documented_one_exists() -> None:
    documented = set(first_cells(section("operator-guide.md", "Environment")))
    assert documented == environment_of_the_code() - INNER


def test_every_command_is_documented_and_every_documented_one_exists() -> None:
    ours = {name for name, app in get_commands().items() if app in OURS}
    documented = {cell.split()[0] for cell in first_cells(section("operator-guide.md", "Commands"))}
    assert documented == ours


def test_every_widget_and_its_settings_are_documented() -> None:
    rows = {}
    for line in section("packs-and-pages.md", "Widgets").splitlines():
        if names := first_cells(line):
            rows[names[0]] = set(re.findall(r"`([^`]+)`", line.split(" | ")[2]))
    assert rows == {slug: set(widget.Config.model_fields) for slug, widget in widget_types().items()}


def test_every_sort_of_change_that_can_be_undone_is_documented() -> None:
    assert sorted(second_cells(section("user-guide.md", "Undo"))) == sorted(undo._undos)


def test_every_verb_is_documented() -> None:
    assert set(first_cells(section("packs-and-pages.md", "Roles"))) == set(VERBS) - {EVERYTHING}


# --- examples -------------------------------------------------------------------------------------------------


def fits(expected: Any, got: Any) -> bool:
    """Whether an answer is what a page shows: "…" stands for anything, and what is left out may be there."""
    if expected == "…":
        return True
    if isinstance(expected, dict):
        return isinstance(got, dict) and all(
            key in got and fits(value, got[key]) for key, value in expected.items()
        )
    if isinstance(expected, list):
        if expected == ["…"]:
            return isinstance(got, list) and bool(got)
        return isinstance(got, list) and len(got) == len(expected) and all(map(fits, expected, got))
    return bool(expected == got)


def curl(command: str, variables: dict[str, str]) -> Any:
    """Do what a curl command says, by Django's test client; gives the response."""
    for name, value in variables.items():
        command = command.replace(f"${name}", value.replace('"', '\\"'))
    words = shlex.split(command)
    assert words.pop(0) == "curl"
    method, data, headers, url = "GET", "", {}, ""
    while words:
        match words.pop(0):
            case "-H":
                name, value = words.pop(0).split(": ", 1)
                headers[name] = value
            case "-X":
                method = words.pop(0)
            case "-d":
                data = words.pop(0)
            case "-i":
                pass
            case word:
                url = word
    kind = headers.pop("Content-Type", "application/json")
    return Client().generic(method, url, data, content_type=kind, headers=headers)


@pytest.mark.django_db(transaction=True)
def test_the_examples_of_the_api_answer_as_shown(core_pack: None, ana: User) -> None:
    repository = ClaimIn(
        external_id="pay",
        kind="repository",
        document={
            "apiVersion": "portico/v1",
            "kind": "Repository",
            "metadata": {},
            "spec": {"path": "acme/pay"},
        },
        rank=Rank.CONNECTION,
        as_of=timezone.now(),
        suggested_name="acme/pay",
        namespace="default",
        keys=("repo:git.acme.example/acme/pay",),
    )
    source = Source.objects.create(
        key="connection:git/repositories", type=SourceType.CONNECTION, name="git", label="Git"
    )
    apply_claims(source=source, claims=[repository], at=timezone.now(), by="tests")
    variables = {
        "PORTAL": "",
        "TOKEN": create_token(user=ana, name="docs", role="editor").text,
        "ADMIN": create_token(user=ana, name="docs").text,
    }
    text = page("api.md") + page("backstage-api.md")
    examples = re.findall(r"^```bash\n(.*?)^```\n\n```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(examples) == text.count("```bash")
    held = False
    for command, shown in examples:
        answer = curl(command, variables)
        expected, got = json.loads(shown), json.loads(answer.getvalue())
        end = time.monotonic() + 60
        while "/feed" in command and not got["results"] and not held and time.monotonic() < end:
            time.sleep(0.2)  # the feed waits for every transaction that began earlier, of other databases too
            got = curl(command, variables).json()
        if "/feed" in command and not got["results"] and _is_held():
            held, variables["NEXT"] = True, got["next"]
            continue
        assert fits(expected, got), (command, answer.status_code, got)
        if "status" in expected and "detail" in expected:
            assert answer.status_code == expected["status"]
        else:
            assert answer.status_code < 300, command
        variables["ETAG"] = answer.headers.get("ETag", "")
        variables["NEXT"] = str(got.get("next"))
    if held:
        pytest.skip("a transaction of another database was open for a minute; the feed was not compared")


def _is_held() -> bool:
    """Whether a transaction that somebody else began a minute ago still runs on this server."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname <> current_database() AND "
            "backend_xid IS NOT NULL AND xact_start < now() - interval '55 seconds')"
        )
        return bool(cursor.fetchone()[0])


@pytest.mark.django_db
def test_every_list_of_the_api_takes_the_parameters_that_are_documented(core_pack: None, ana: User) -> None:
    schema = yaml.safe_load(Client().get("/api/v1/schema/", headers=bearer(ana)).content)
    lists = {
        path.removeprefix("/api/v1/"): {
            p["name"] for p in route["get"].get("parameters", ()) if p["in"] == "query"
        }
        for path, route in schema["paths"].items()
        if "get" in route and "{" not in path and "cursor" in str(route["get"].get("parameters"))
    }
    documented = {}
    for line in section("api.md", "Lists in pages").splitlines():
        for name in first_cells(line):
            documented[name] = set(re.findall(r"`(\w+)`", line.split(" | ")[1])) | {
                "limit",
                "cursor",
                "fields",
            }
    assert set(documented) == set(lists)
    for name, parameters in documented.items():
        if "users/" not in name:  # whose row stands for several lists
            assert parameters >= lists[name], name


def bearer(user: User) -> dict[str, str]:
    return {"Authorization": f"Bearer {create_token(user=user, name='docs').text}"}


@pytest.mark.django_db
def test_the_example_of_an_import_says_what_is_shown(
    core_pack: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "catalog.yaml").write_text(block("import.md", "catalog.yaml"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    def run(*options: str) -> str:
        out = StringIO()
        call_command("import_catalog", "catalog.yaml", *options, stdout=out)
        return out.getvalue().replace(f"{tmp_path}/", "")

    assert run() == block("import.md", "problems")
    assert fits(json.loads(block("import.md", "summary")), json.loads(run("--json").splitlines()[-1]))


@pytest.mark.django_db
def test_the_example_of_a_pack_takes_the_place_of_the_core(
    core_pack: None, ana: User, tmp_path: Path, settings: Any
) -> None:
    pack = tmp_path / "acme-pack"
    pack.mkdir()
    for name in ("database.yaml", "pages.yaml", "roles.yaml"):
        (pack / name).write_text(block("packs-and-pages.md", f"acme-pack/{name}"), encoding="utf-8")
    settings.PORTICO_PACKS = [pack]
    apply_packs(installed_packs(), by="tests")
    forget_definitions()
    client = Client()
    client.force_login(ana)
    assert "Without backup" in client.get("/").content.decode()
    database = {
        "apiVersion": "acme.example/v1",
        "kind": "Database",
        "metadata": {"name": "ledger"},
        "spec": {"engine": "postgresql"},
    }
    saved = client.post("/api/v1/entities/", database, content_type="application/json", headers=bearer(ana))
    assert saved.json()["accepted"] == 1, saved.json()
    shown = client.get("/catalog/default/database/ledger").content.decode()
    assert "What depends on it" in shown
    assert Role.objects.filter(name="on-call").exists()
