"""A GitHub that answers with what others recorded of the real one, and as it does: with ETags, pages and limits."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.integrations.packages import npm_package, sdist
from tests.integrations.servers import serve

Row = dict[str, Any]
REPO = "Codertocat/Hello-World"
CATALOG = """
apiVersion: backstage.io/v1alpha1
kind: Component
metadata: {name: hello}
spec: {type: service, lifecycle: production, owner: github}
"""


@cache
def _examples() -> dict[str, list[Row]]:
    folder = npm_package(
        "@octokit/webhooks-examples",
        "7.6.1",
        "sha512-De6U3XB6O3DtCa7bKgCMzTHdeopqqZ6SNivMYJnK65ierKL1AnNIA0tkRYCRS7lwGT792d+Ps1WbfHlso6MynQ==",
    )
    return {
        event["name"]: event["examples"]
        for event in json.loads((folder / "api.github.com/index.json").read_bytes())
    }


def examples(event: str) -> list[Row]:
    """The example payloads of an event."""
    return deepcopy(_examples()[event])


@cache
def recordings() -> list[tuple[str, str, int, Any]]:
    """The exchanges that PyGithub recorded: method, path, status, body."""
    folder = sdist(
        "PyGithub",
        "2.10.0",
        "sha512-U1+ZnWIEkRMyHKpa4K9OzxGlByoLssSBH8wQqzAPk+YOq8UUcMooNGV08E4s6G+C0uS87th2s4VynjakFpsb0w==",
        only=["tests/ReplayData/"],
    )
    found = []
    for path in sorted((folder / "tests/ReplayData").glob("*.txt")):
        lines = path.read_text(errors="replace").split("\n")
        for at, line in enumerate(lines):
            if line == "https" and at + 9 < len(lines) and lines[at + 7].isdigit():
                with suppress(json.JSONDecodeError):  # a few are cut short
                    body = json.loads(lines[at + 9])
                    found.append((lines[at + 1], lines[at + 4], int(lines[at + 7]), body))
    return found


@dataclass
class GitHub:
    """What it has, by path, and what it was asked.

    :ivar has: objects and lists; a list is given out in pages, under a name where it is `(name, list)`.
    :ivar refuses: status, headers and message by path, or for all with `*`.
    :ivar asked: method, path with query and status of each answer.
    """

    has: dict[str, Any]
    url: str = ""
    refuses: dict[str, tuple[int, dict[str, str], str]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    posted: list[tuple[str, Any]] = field(default_factory=list)
    authorized: list[str] = field(default_factory=list)

    @property
    def settings(self) -> Row:
        return {"base_url": self.url, "token": "open-sesame", "owners": ["Codertocat"], "days": 3650}

    def statuses(self, status: int) -> list[str]:
        """What was answered with a status."""
        return [path for _method, path, given in self.asked if given == status]

    def handle(self, request: BaseHTTPRequestHandler) -> tuple[int, Mapping[str, str], bytes]:
        length = int(request.headers.get("content-length") or 0)
        given = request.rfile.read(length)
        status, headers, body = self._answer(request, json.loads(given) if given else None)
        if status == 200:
            etag = f'W/"{hashlib.sha256(body).hexdigest()}"'
            headers = {**headers, "ETag": etag}
            if request.headers.get("if-none-match") == etag:
                status, body = 304, b""
        self.asked.append((request.command, request.path, status))
        self.authorized.append(request.headers.get("authorization", ""))
        limits = {
            "X-RateLimit-Limit": "5000",
            "X-RateLimit-Remaining": "4999",
            "X-RateLimit-Reset": str(int(time.time()) + 60),
        }
        return status, {"Content-Type": "application/json; charset=utf-8", **limits, **headers}, body

    def _answer(self, request: BaseHTTPRequestHandler, given: Any) -> tuple[int, dict[str, str], bytes]:
        address = urlsplit(request.path)
        refusal = self.refuses.get(address.path) or self.refuses.get("*")
        if refusal:
            return refusal[0], refusal[1], json.dumps({"message": refusal[2]}).encode()
        if request.command == "POST":
            self.posted.append((address.path, given))
        found = self.has.get(f"{request.command} {address.path}", self.has.get(address.path))
        if found is None:
            return 404, {}, b'{"message": "Not Found", "documentation_url": "https://docs.github.com/rest"}'
        if isinstance(found, int):
            return found, {}, b""
        headers = dict(self.headers)
        name, rows = found if isinstance(found, tuple) else ("", found)
        if isinstance(rows, list):
            query = {key: values[0] for key, values in parse_qs(address.query).items()}
            size, page = int(query.get("per_page", 30)), int(query.get("page", 1))
            if page * size < len(rows):
                rest = "&".join(f"{key}={value}" for key, value in query.items() if key != "page")
                headers["Link"] = f'<{self.url}{address.path}?{rest}&page={page + 1}>; rel="next"'
            rows = rows[(page - 1) * size : page * size]
            found = {"total_count": len(rows), name: rows} if name else rows
        return 200 if request.command == "GET" else 201, headers, json.dumps(found).encode()


def world() -> dict[str, Any]:
    """One repository with one of everything, in the objects of the example payloads."""
    repo = examples("push")[4]["repository"]
    repo |= {"pushed_at": "2021-12-16T19:37:22Z", "owner": {**repo["owner"], "type": "Organization"}}
    at = f"/repos/{REPO}"
    run = examples("workflow_run")[1]["workflow_run"] | {"conclusion": "failure", "status": "completed"}
    job = examples("workflow_job")[1]["workflow_job"]
    deployment = examples("deployment")[0]["deployment"]
    team = examples("team")[2]["team"]
    release = examples("release")[0]["release"]
    user = repo["owner"] | {"type": "User", "name": "Ana Ruiz", "email": "ana@acme.example"}
    files = {
        "catalog-info.yaml": CATALOG,
        "CODEOWNERS": "* @Codertocat/github\n",
        "src/main.go": "package main",
    }
    tree = [
        {"path": path, "mode": "100644", "type": "blob", "size": len(text), "sha": "0" * 40, "url": ""}
        for path, text in files.items()
    ]
    has: dict[str, Any] = {
        "/user": user,
        "/users/Codertocat": repo["owner"],
        "/orgs/Codertocat/repos": [repo],
        "/orgs/Codertocat/teams": [team],
        "/orgs/Codertocat/teams/github": team,
        "/orgs/Codertocat/teams/github/members": [user],
        "/orgs/Codertocat/teams/github/repos": [{**repo, "permissions": {"admin": True}}],
        "/orgs/Codertocat/members": [user],
        at: repo,
        f"{at}/git/trees/{repo['default_branch']}": {"sha": "0" * 40, "tree": tree, "truncated": False},
        f"{at}/commits": [],
        f"{at}/actions/workflows": ("workflows", [examples("workflow_run")[1]["workflow"]]),
        f"{at}/actions/runs": ("workflow_runs", [run]),
        f"{at}/actions/runs/{run['id']}": run,
        f"{at}/actions/runs/{run['id']}/jobs": ("jobs", [job]),
        f"{at}/pulls": [examples("pull_request")[0]["pull_request"]],
        f"{at}/releases": [release],
        f"{at}/releases/{release['id']}": release,
        f"{at}/tags": [{"name": "nightly", "commit": {"sha": "1" * 40, "url": ""}}],
        f"{at}/git/commits/{'1' * 40}": {"sha": "1" * 40, "committer": {"date": "2020-01-02T03:04:05Z"}},
        f"{at}/deployments": [deployment],
        f"{at}/deployments/{deployment['id']}/statuses": [
            examples("deployment_status")[0]["deployment_status"]
        ],
        f"{at}/environments": ("environments", [{"id": 161088068, "name": "staging"}]),
    }
    for path, text in files.items():
        content = base64.b64encode(text.encode()).decode()
        has[f"{at}/contents/{path}"] = {
            "type": "file", "encoding": "base64", "size": len(text), "path": path, "content": content,
        }  # fmt: skip
    return has


class Description:
    """GitHub's own description of its API."""

    def __init__(self) -> None:
        folder = npm_package(
            "@octokit/openapi",
            "23.0.2",
            "sha512-pV8M7L9GY23AybNvTmo2nyjmpmnt6+2sRE/tqr0ZLQcPS4lnw7u5eZGNmwRNkBC3D7gZXbFx5AHzLUVRBXGDhg==",
            only=["generated/api.github.com.json"],
        )
        self._said = json.loads((folder / "generated/api.github.com.json").read_bytes())

    def route(self, method: str, path: str) -> str:
        """The route that a request takes, with the names of its parts; empty if there is none."""
        parts = path.partition("?")[0].strip("/").split("/")
        fitting = []
        for template, operations in self._said["paths"].items():
            names = template.strip("/").split("/")
            # Two take what holds slashes: the path of a file, and a branch.
            if names[-1] == "{path}" and len(parts) > len(names):
                names += ["{path}"] * (len(parts) - len(names))
            is_fitting = len(names) == len(parts) and all(
                name == part or name.startswith("{") for name, part in zip(names, parts, strict=True)
            )
            if is_fitting and method.lower() in operations:
                fitting.append((sum(name.startswith("{") for name in names), template))
        return min(fitting, default=(0, ""))[1]

    def problem(self, method: str, path: str) -> str:
        """What is wrong with a request; empty if nothing is."""
        route = self.route(method, path)
        if not route:
            return f"{method} {path}: no such route"
        known = {}
        for parameter in self._said["paths"][route][method.lower()].get("parameters", ()):
            if reference := parameter.get("$ref"):
                parameter = self._said["components"]["parameters"][reference.rpartition("/")[2]]
            if parameter["in"] == "query":
                known[parameter["name"]] = parameter["schema"]
        for name, values in parse_qs(urlsplit(path).query).items():
            choices = known.get(name, {}).get("enum")
            if name not in known or (choices and values[0] not in choices):
                return f"{method} {path}: {route} does not take {name}={values[0]}"
        return ""


@contextmanager
def play(has: dict[str, Any] | None = None) -> Iterator[GitHub]:
    """A GitHub on a port of its own.

    :raises ServerMissing: if the recordings cannot be had.
    """
    server = GitHub(world() if has is None else has)
    with serve(lambda request: server.handle(request)) as url:
        server.url = url
        yield server
