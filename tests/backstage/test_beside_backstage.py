"""The same requests to a real Backstage and to Portico, with the same catalog: the answers are equal.

What differs on purpose is listed in the documentation, and left out here: where files lie, their Location entities,
uids and etags, and the words of errors.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from django.conf import settings
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.backstage.node import ROOT, node_programs, packages
from tests.backstage.traps import DOCUMENTS, Question, questions
from tests.e2e.stack import redis_program, run_portal
from tests.integrations.servers import free_port, program, required, wait_for

pytestmark = [pytest.mark.full, pytest.mark.server]

BACKEND = ROOT / "tests" / "perf" / "backstage"


@contextmanager
def run_backstage(folder: Path, file: Path) -> Iterator[str]:
    """The address of a catalog backend of Backstage that has read a file."""
    with required():
        (node, _npm), home = node_programs(22), packages(BACKEND)
    known = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD"}
    database = settings.DATABASES["default"]
    server = {name: database[key] for name, key in known.items() if database.get(key)}
    port, prefix = free_port(), f"bs{os.getpid()}_"
    address = f"http://127.0.0.1:{port}"
    kinds = sorted({document["kind"] for document in DOCUMENTS})
    config = {
        "app": {"baseUrl": address},
        "backend": {
            "baseUrl": address,
            "listen": {"host": "127.0.0.1", "port": port},
            "auth": {"dangerouslyDisableDefaultAuthPolicy": True},
            "database": {"client": "pg", "prefix": prefix, "connection": {**server, "database": "postgres"}},
        },
        "catalog": {
            "rules": [{"allow": [*kinds, "Location"]}],
            "locations": [{"type": "file", "target": str(file)}],
        },
    }
    (folder / "app-config.json").write_text(json.dumps(config))
    (folder / "package.json").write_text('{"name": "beside", "private": true, "version": "0.0.0"}')
    command = [node, BACKEND / "server.js", "--config", "app-config.json"]
    variables = {"NODE_ENV": "production", "NODE_PATH": str(home / "node_modules")}

    def is_ready() -> bool:
        try:
            answer = ask(f"{address}/api/catalog/", {}, ("GET", "entities/by-query?limit=0", None))
        except OSError:
            return False
        return answer == (200, {"items": [], "totalItems": len(DOCUMENTS) + 1, "pageInfo": {}})

    try:
        with program(command, folder=folder, ready=is_ready, **variables):
            yield f"{address}/api/catalog/"
    finally:
        with psycopg.connect(make_conninfo(**server, dbname="postgres"), autocommit=True) as connection:
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            connection.execute(drop.format(sql.Identifier(f"{prefix}catalog")))


def ask(address: str, headers: dict[str, str], question: Question) -> tuple[int, Any]:
    """Status and answer."""
    method, path, body = question
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        address + path, data, {**headers, "Content-Type": "application/json"}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            status, text = error.code, error.read()
    return status, json.loads(text) if text else None


def is_location(one: Any) -> bool:
    """Whether this is the entity that Backstage makes of a registered location."""
    metadata = one.get("metadata") if isinstance(one, dict) else None
    return isinstance(metadata, dict) and str(metadata.get("name")).startswith("generated-")


def comparable(answer: Any) -> Any:
    """An answer without what differs on purpose."""
    if isinstance(answer, list):
        return [comparable(one) for one in answer if not is_location(one)]
    if not isinstance(answer, dict):
        return answer
    if "error" in answer and "response" in answer:
        return {"error": answer["error"]["name"], "response": answer["response"]}
    if "errors" in answer:
        return {"errors": bool(answer["errors"])}
    if "totalItems" in answer:
        hidden = sum(map(is_location, answer["items"]))
        answer = {
            **answer,
            "totalItems": answer["totalItems"] - hidden,
            "pageInfo": sorted(answer["pageInfo"]),
        }
    if isinstance(metadata := answer.get("metadata"), dict):
        metadata = {key: value for key, value in metadata.items() if key not in ("uid", "etag")}
        own = {
            key: value
            for key, value in metadata.pop("annotations", {}).items()
            if not key.startswith("backstage.io/")
        }
        answer = {**answer, "metadata": {**metadata, **({"annotations": own} if own else {})}}
    return {key: comparable(value) for key, value in answer.items()}


def without_ties(question: Question, answer: Any) -> Any:
    """What is sorted by a field that many share: the values in their order, and the entities by name."""
    path = question[1]
    items = answer.get("items") if isinstance(answer, dict) else answer
    order = path.partition("order=")[2] or path.partition("orderField=")[2]
    field = order.partition("&")[0].partition(",")[0].rpartition(":")[2]
    if not isinstance(items, list) or field in ("", "metadata.name"):
        return answer
    values = []
    for one in items:
        value = one
        for key in field.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        values.append(str(value).lower())
    return values, sorted(items, key=lambda one: json.dumps(one, sort_keys=True))


def test_the_answers_are_equal(tmp_path: Path, require_program: Callable[..., str]) -> None:
    file = tmp_path / "catalog.yaml"
    file.write_text(yaml.safe_dump_all(DOCUMENTS, allow_unicode=True))
    folders = tmp_path / "backstage", tmp_path / "portal"
    for folder in folders:
        folder.mkdir()
    tmp_path.chmod(0o711)
    asked = list(questions())
    assert len(asked) > 200
    running = run_portal(
        folders[1], database=settings.DATABASES["default"], redis=redis_program(require_program)
    )
    with run_backstage(folders[0], file) as theirs, running as portal:
        portal.manage("import_catalog", str(file))
        portal.wait_until_synced()
        token = portal.manage("create_token", "--user", "admin").strip().splitlines()[-1]
        ours, headers = f"{portal.url}/api/catalog/", {"Authorization": f"Bearer {token}"}
        related = ("GET", "entities?filter=kind=component,relations.dependsOn", None)
        wait_for(lambda: len(ask(theirs, {}, related)[1]) == 2, "Backstage to relate what it has read")
        differing = []
        for question in asked:
            found = []
            for address, given in ((theirs, {}), (ours, headers)):
                status, answer = ask(address, given, question)
                found.append((status, without_ties(question, comparable(answer))))
            if found[0] != found[1]:
                differing.append(f"{question}\nBackstage: {found[0]}\nPortico:   {found[1]}")
        assert not differing, f"{len(differing)} of {len(asked)} differ:\n" + "\n\n".join(differing)
