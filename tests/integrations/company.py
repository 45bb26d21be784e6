"""A company whose tools hold every trap of `ties/company.yaml`: each answers as the real one does.

All of it is one server, to which every connection is led by a proxy of its own settings; so the tools have the names
that a company's have. Git's repositories are served by Git itself.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.integrations.conftest import GitServer, serve_git
from tests.integrations.servers import git, serve

Row = dict[str, Any]
Given = tuple[int, Mapping[str, str], bytes]

BASE = "https://github.com/acme/base-images"
BASE_COMMIT = "ba5e" * 10


def component(name: str, *, namespace: str = "", **annotations: str) -> str:
    """A catalog file."""
    meta: Row = {"name": name, **({"namespace": namespace} if namespace else {})}
    if annotations:
        meta["annotations"] = {at.replace("__", "/").replace("_", "-"): v for at, v in annotations.items()}
    spec = {"type": "service", "lifecycle": "production", "owner": "group:default/payments"}
    document = {"apiVersion": "backstage.io/v1alpha1", "kind": "Component", "metadata": meta, "spec": spec}
    return json.dumps(document)


PAY = component("pay", **{"backstage.io/kubernetes-id": "pay"})
GO = {"go.mod": "module x\n", "main.go": "package main\n"}
JS = {"package.json": "{}", "index.js": "1\n"}
PY = {"pyproject.toml": "", "x.py": "1\n"}


@dataclass(frozen=True)
class Repo:
    """A repository of a GitHub."""

    id: int
    path: str
    files: dict[str, str] = field(default_factory=lambda: dict(GO))
    workflow: int = 0
    is_fork: bool = False
    host: str = "github.com"
    pull: int = 0


BILLING = Repo(108, "acme/billing", workflow=508, pull=7001)
TOOLS = Repo(109, "acme/tools", PY, 509)
FIRST = [
    Repo(101, "acme/pay", {"catalog-info.yaml": PAY, **GO}, 501),
    Repo(102, "acme/api", {"CODEOWNERS": "* @acme/payments\n", **JS}, 503),
    Repo(103, "umbrella/api", {"CODEOWNERS": "* @umbrella/payments\n", **JS}, 504),
    Repo(104, "jo/pay", {"catalog-info.yaml": PAY, **GO}, 502, is_fork=True),
    Repo(
        105,
        "acme/shop",
        {
            "services/cart/catalog-info.yaml": component("cart", namespace="shop"),
            "services/cart/go.mod": "",
            "services/cart-admin/catalog-info.yaml": component("cart-admin"),
            "services/cart-admin/go.mod": "",
            "libs/ui/package.json": "{}",
        },
        505,
    ),
    Repo(106, "acme/service-template", JS),
    Repo(107, "acme/base-images", {"python/Dockerfile": "FROM debian\n"}),
    BILLING,
    TOOLS,
    Repo(
        110,
        "acme/catalog",
        {
            "gateway/catalog-info.yaml": component("gateway", **{"github.com/project-slug": "acme/gateway"}),
            "copied/catalog-info.yaml": PAY,
        },
        510,
    ),
    Repo(111, "acme/gateway", workflow=511),
    Repo(112, "acme/handbook", {"vendor/example.org/y/go.mod": "", "docs/node_modules/z/package.json": "{}"}),
    Repo(113, "acme/postgres"),
    Repo(114, "acme/ci-library", PY),
    Repo(115, "acme/utils-js", JS),
    Repo(116, "acme/utils-py", PY),
    Repo(117, "acme/fluent-bit"),
    Repo(120, "acme/tracker", JS),
    Repo(201, "acme/pay", GO, 501, host="ghe.corp.example"),
]
# Later one is renamed, a new one takes its old address, and one moves to another organisation.
THEN = [
    *(repo for repo in FIRST if repo not in (BILLING, TOOLS)),
    Repo(108, "acme/invoicing", workflow=508, pull=7001),
    Repo(109, "umbrella/tools", PY, 509),
    Repo(119, "acme/billing", workflow=519),
]
PEOPLE = {
    "ana": (9001, "Ana Ruiz", "ana@acme.example"),
    "aruiz": (9002, "Ana Ruiz", "ana.ruiz@umbrella.example"),
    "deploy-bot": (9003, "", "ops@acme.example"),
    "release-bot": (9004, "", "ops@acme.example"),
}

BUILDERS: dict[int, tuple[str, list[list[str]]]] = {  # name, and the sources of each of its latest builds
    1: ("pay-linux", [["git@github.com:acme/pay.git"]]),
    2: ("pay-mac", [["ssh://git@github.com:22/Acme/Pay"]]),
    3: ("pay-win", [["https://GitHub.com/acme/pay/"]]),
    4: ("pay-arm", [["ssh://git@ssh.github.com:443/acme/pay.git"]]),
    5: ("acme/api", [["https://github.com/acme/gateway.git"]]),
    6: ("pay-port", [["https://github.com:8443/acme/pay"]]),
    7: ("pay-host", [["https://github.com.evil.example/acme/pay"]]),
    8: ("pay-admin", [["https://github.com/acme/pay-admin"]]),
    9: ("pay-alias", [["https://git.corp.example/acme/pay"]]),
    10: ("gateway", [["https://github.com/acme/gateway", "https://github.com/acme/ci-library"]]),
    11: ("umbrella-api", [["https://github.com/acme/ci-library", "https://github.com/umbrella/api"]]),
    12: ("books", [["https://git.acme.example/platform/ledger", "https://github.com/acme/ci-library"]]),
    13: ("ci-library", [["https://github.com/acme/ci-library"]]),
    14: ("utils", [["https://github.com/acme/utils-js"], ["https://github.com/acme/utils-py"]]),
    15: ("gone", [["https://github.com/acme/gone"]]),
    16: ("ledger", [[""]]),
    17: ("old-billing", [["https://github.com/acme/billing"]]),
    18: ("starter", [["https://github.com/your-org/your-repo"]]),
}


def sha(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


@dataclass
class Registry:
    """What an OCI registry holds: tags by repository, and content by digest."""

    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    content: dict[str, bytes] = field(default_factory=dict)

    def put(self, said: Any) -> str:
        body = json.dumps(said).encode()
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        self.content[digest] = body
        return digest

    def push(
        self,
        name: str,
        tag: str,
        *,
        source: str = "",
        revision: str = "",
        built: datetime,
        labelled: datetime | None = None,
        platforms: tuple[str, ...] = (),
        base: str = "",
    ) -> str:
        """Push an image.

        :param labelled: when its labels say that it was made, if they do.
        :returns: the digest of its first platform's part.
        """
        title = "org.opencontainers.image"
        labels = {f"{title}.source": source, f"{title}.revision": revision}
        if labelled:
            labels[f"{title}.created"] = labelled.isoformat()
        labels = {key: value for key, value in labels.items() if value}
        parts = []
        for platform in platforms or ("linux/amd64",):
            system, _slash, machine = platform.partition("/")
            config = {"os": system, "architecture": machine, "created": built.isoformat()}
            blob = self.put({**config, "config": {"Labels": labels}, "made": source or revision or name})
            layers = [{"digest": sha(base or "os"), "size": 9}, {"digest": sha(source or name), "size": 1}]
            parts.append(
                self.put(
                    {
                        "schemaVersion": 2,
                        "mediaType": "application/vnd.oci.image.manifest.v1+json",
                        "config": {"digest": blob, "size": 1},
                        "layers": layers,
                    }
                )
            )
        head = parts[0]
        if platforms:
            index = [
                {"digest": part, "platform": dict(zip(("os", "architecture"), one.split("/"), strict=True))}
                for part, one in zip(parts, platforms, strict=True)
            ]
            index.append(
                {"digest": sha("attestation"), "platform": {"os": "unknown", "architecture": "unknown"}}
            )
            kind = "application/vnd.oci.image.index.v1+json"
            head = self.put({"schemaVersion": 2, "mediaType": kind, "manifests": index})
        self.tags.setdefault(name, {})[tag] = head
        return parts[0]

    def handle(self, path: str) -> Given:
        if path in ("/v2/", "/v2"):
            return told({})
        if path == "/v2/_catalog":
            return told({"repositories": sorted(self.tags)})
        name, kind, reference = re.fullmatch(r"/v2/(.+)/(tags|manifests|blobs)/(.+)", path).groups()  # type: ignore[union-attr]
        if kind == "tags":
            return told({"name": name, "tags": sorted(self.tags[name])})
        digest = self.tags[name].get(reference, reference)
        return 200, {"Docker-Content-Digest": digest}, self.content[digest]


def told(said: Any, status: int = 200) -> Given:
    return status, {"Content-Type": "application/json"}, json.dumps(said).encode()


@dataclass
class Company:
    """The tools of the company.

    :ivar is_later: whether the repositories have been renamed and moved.
    :ivar deleted: the numbers of repositories that are not there.
    """

    folder: Path
    url: str = ""
    git_url: str = ""
    is_later: bool = False
    deleted: set[int] = field(default_factory=set)
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    asked: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def connections(self) -> dict[str, tuple[str, Row]]:
        """Connector and settings of each."""
        kube = {"token": "t"}
        return {
            "github": ("github", {"base_url": "http://api.github.com", "token": "t", "forks": True,
                                  "owners": ["jo", "acme", "umbrella"]}),
            "ghe": ("github", {"base_url": "http://ghe.corp.example/api/v3", "token": "t", "owners": ["acme"],
                               "people": False}),
            "git": ("git", {"repositories": [f"http://git.acme.example/{path}" for path in self.commits]}),
            "builds": ("buildbot", {"base_url": "http://ci.acme.example"}),
            "registry": ("oci", {"base_url": "http://registry.acme.example"}),
            "partner": ("oci", {"base_url": "http://registry.partner.example"}),
            "npm": ("npm", {"base_url": "http://npm.acme.example", "packages": sorted(self.packages)}),
            "pypi": ("pypi", {"base_url": "http://pypi.acme.example/simple", "packages": ["*"]}),
            "export": ("records", {"location": "http://export.acme.example/all.jsonl"}),
            "prod": ("kubernetes", {"base_url": "http://prod.acme.example", "cluster": "prod", **kube}),
            "stage": ("kubernetes", {"base_url": "http://stage.acme.example", "cluster": "stage", **kube}),
            "alerts": ("alertmanager", {"base_url": "http://alerts.acme.example"}),
            "metrics": ("prometheus", {"base_url": "http://metrics.acme.example"}),
        }  # fmt: skip

    def handle(self, request: BaseHTTPRequestHandler) -> Given:
        address = urlsplit(request.path)
        host, path = address.netloc or request.headers.get("host", ""), unquote(address.path)
        query = parse_qs(address.query)
        self.asked.append(f"{request.command} {host}{path}")
        try:
            match host.removesuffix(":80"):
                case "api.github.com":
                    return self._github("github.com", path)
                case "ghe.corp.example":
                    return self._github("ghe.corp.example", path.removeprefix("/api/v3"))
                case "ci.acme.example":
                    return told(self._buildbot(path, query))
                case "registry.acme.example":
                    return self.registry.handle(path)
                case "registry.partner.example":
                    return self.partner.handle(path)
                case "npm.acme.example":
                    return told(self._npm(path[1:]))
                case "pypi.acme.example":
                    return self._pypi(path)
                case "export.acme.example":
                    return 200, {}, "\n".join(map(json.dumps, self._export())).encode()
                case "prod.acme.example" | "stage.acme.example":
                    return told(self._kubernetes(host.partition(".")[0], path))
                case "alerts.acme.example":
                    return told(self._alertmanager(path))
                case "metrics.acme.example":
                    return told(self._prometheus(path))
        except (KeyError, AttributeError):
            pass
        self.missing.append(f"{request.command} {host}{path}")
        return told({"message": "Not Found"}, 404)

    # --- Git ------------------------------------------------------------------------------------------------

    @cached_property
    def commits(self) -> dict[str, list[str]]:
        """The commits of each repository of the company's own Git host, the oldest first."""
        bare, work = self.folder / "served", self.folder / "work"
        for name, files in {"ledger": GO, "orders": JS, "mirror": {"catalog-info.yaml": PAY, **GO}}.items():
            (work / name).mkdir(parents=True)
            git(work / name, "init", "-q", "-b", "main")
            for path, text in files.items():
                (work / name / path).write_text(text)
            git(work / name, "add", ".")
            git(work / name, "commit", "-qm", f"Begin {name}")
        paths = {
            "jo/ledger": "ledger",
            "apps/orders": "orders",
            "mirror/pay": "mirror",
            "platform/ledger": "ledger",
        }
        found = {}
        for path, name in paths.items():
            if path == "platform/ledger":  # what the fork does not have
                git(work / name, "commit", "-q", "--allow-empty", "-m", "Close the books")
            (bare / path).parent.mkdir(parents=True, exist_ok=True)
            git(work / name, "clone", "-q", "--bare", str(work / name), str(bare / path))
            found[path] = git(work / name, "rev-list", "--reverse", "main").split()
        return found

    # --- GitHub -----------------------------------------------------------------------------------------------

    def _github(self, host: str, path: str) -> Given:
        there = THEN if self.is_later else FIRST
        repos = [repo for repo in there if repo.host == host and repo.id not in self.deleted]
        if found := re.fullmatch(r"/users/([^/]+)", path):
            return told(self._account(host, found[1]))
        if found := re.fullmatch(r"/(?:orgs|users)/([^/]+)/repos", path):
            return told([self._repo(repo) for repo in repos if repo.path.startswith(f"{found[1]}/")])
        if found := re.fullmatch(r"/orgs/([^/]+)/teams", path):
            number = {"acme": 801, "umbrella": 802}[found[1]]
            return told([{"id": number, "slug": "payments", "name": "Payments"}])
        if re.fullmatch(r"/orgs/[^/]+/teams/payments/repos", path):
            return told([])
        if found := re.fullmatch(r"/orgs/([^/]+)/(teams/payments/)?members", path):
            names = {"acme": ["ana", "deploy-bot", "release-bot"], "umbrella": ["aruiz"]}[found[1]]
            return told([{"login": name} for name in names])
        whole, rest = re.fullmatch(r"/repos/([^/]+/[^/]+)/(.+)", path).groups()  # type: ignore[union-attr]
        repo = next(repo for repo in repos if repo.path == whole)
        if rest.startswith("git/trees/"):
            tree = [
                {"path": name, "type": "blob", "mode": "100644", "size": len(text)}
                for name, text in repo.files.items()
            ]
            return told({"tree": tree, "truncated": False})
        if rest.startswith("contents/"):
            text = repo.files[rest.removeprefix("contents/")]
            content = base64.b64encode(text.encode()).decode()
            return told({"type": "file", "encoding": "base64", "size": len(text), "content": content})
        if rest == "actions/workflows":
            rows = [
                {"id": repo.workflow, "name": "CI", "path": ".github/workflows/ci.yaml", "state": "active",
                 "html_url": f"https://{host}/{repo.path}/actions/workflows/ci.yaml"}
            ]  # fmt: skip
            return told({"workflows": rows if repo.workflow else []})
        if rest == "pulls" and repo.pull:
            page = f"https://{host}/{repo.path}/pull/1"
            at = self.now.isoformat()
            row = {"id": repo.pull, "number": 1, "html_url": page, "title": "Round half to even", "state": "open",
                   "created_at": at, "updated_at": at, "closed_at": None, "merged_at": None, "user": {"login": "ana"},
                   "head": {"sha": "c" * 40, "ref": "round"}, "base": {"ref": "main"}}  # fmt: skip
            return told([row])
        named = {"actions/runs": "workflow_runs", "environments": "environments"}
        return told({named[rest]: []} if rest in named else [])

    def _account(self, host: str, name: str) -> Row:
        if name in PEOPLE:
            number, title, email = PEOPLE[name]
            page = f"https://{host}/{name}"
            return {
                "type": "User",
                "login": name,
                "id": number,
                "name": title,
                "email": email,
                "html_url": page,
            }
        return {"login": name, "type": "User" if name == "jo" else "Organization"}

    def _repo(self, repo: Repo) -> Row:
        owner, _slash, name = repo.path.partition("/")
        return {
            "id": repo.id, "name": name, "full_name": repo.path, "html_url": f"https://{repo.host}/{repo.path}",
            "owner": {"login": owner, "type": "User" if owner == "jo" else "Organization"}, "fork": repo.is_fork,
            "archived": False, "default_branch": "main", "pushed_at": self.now.isoformat(), "topics": [],
        }  # fmt: skip

    # --- CI ---------------------------------------------------------------------------------------------------

    def _buildbot(self, path: str, query: Mapping[str, list[str]]) -> Row:
        if path == "/api/v2/builders":
            rows = [{"builderid": n, "name": name, "masterids": [1]} for n, (name, _b) in BUILDERS.items()]
            return {"builders": rows}
        if found := re.fullmatch(r"/api/v2/builders/(\d+)/builds", path):
            number = int(found[1])
            count = len(BUILDERS[number][1])
            return {
                "builds": [{"buildrequestid": number * 100 + at, "properties": {}} for at in range(count)]
            }
        if path == "/api/v2/buildrequests":
            ids = map(int, query["buildrequestid"])
            return {"buildrequests": [{"buildrequestid": n, "buildsetid": n} for n in ids]}
        if path == "/api/v2/buildsets":
            sets = []
            for number in map(int, query["bsid"]):
                sources = BUILDERS[number // 100][1][number % 100]
                stamps = [{"codebase": str(at), "repository": one} for at, one in enumerate(sources)]
                sets.append({"bsid": number, "sourcestamps": stamps})
            return {"buildsets": sets}
        return {"/api/v2/builds": {"builds": []}}[path]

    # --- registries -------------------------------------------------------------------------------------------

    @cached_property
    def registry(self) -> Registry:
        """The company's own."""
        made, old = Registry(), self.now - timedelta(days=40)
        ledger, fork = self.commits["platform/ledger"], self.commits["jo/ledger"]
        assert fork == ledger[:1]
        push = lambda name, tag="1.0", **more: made.push(name, tag, built=self.now, **more)  # noqa: E731
        self.part = push(
            "pay", source="https://github.com/acme/pay", platforms=("linux/amd64", "linux/arm64")
        )
        push("api", source="https://github.com/acme/api", labelled=self.now)
        push("umbrella/api", source="git@github.com:umbrella/api.git")
        push("shop/cart", source="https://github.com/acme/shop")
        push("shop/admin", source="https://github.com/acme/shop/tree/main/services/cart-admin")
        made.push("base/python", "3", source=BASE, revision=BASE_COMMIT, built=old, labelled=old)
        push("apps/report", source=BASE, revision=BASE_COMMIT, labelled=old, base=BASE)
        push("apps/chart", source=BASE, revision=ledger[1], base=BASE)
        push("library/postgres", "16", source="https://github.com/docker-library/postgres")
        push("mirror/proxyv2", source="https://github.com/istio/istio")
        push("mirror/fluent-bit", source="https://github.com/fluent/fluent-bit")
        push("ledger", revision=ledger[1])
        push("ledger-debug", revision=ledger[0])
        push("short", revision=ledger[1][:7])
        push("legacy/billing", source="https://github.com/acme/billing")
        for number, name in enumerate(["pay", "api", "pay", "api"]):
            at = old + timedelta(days=number)
            made.push("shared/app", f"{name}-{number}", source=f"https://github.com/acme/{name}", built=at)
        push("pay/worker")
        push("gateway")
        push("gone", source="https://github.com/acme/gone")
        return made

    @cached_property
    def partner(self) -> Registry:
        """A partner's, with a copy of one image."""
        made = Registry(content=dict(self.registry.content))
        made.tags["acme/pay"] = dict(self.registry.tags["pay"])
        made.push("api", "1.0", source="https://gitlab.partner.example/shop/api", built=self.now)
        return made

    @cached_property
    def packages(self) -> dict[str, Row]:
        """The packages of the npm registry: what package.json says."""
        links = {
            "@acme/pay": "git+https://github.com/acme/pay.git",
            "pay": "git+https://github.com/someone/pay.git",
            "@acme/ui": ("https://github.com/acme/shop", "libs/ui"),
            "@acme/cart-client": ("https://github.com/acme/shop.git", "services/cart"),
            "@acme/cart-admin-client": ("https://github.com/acme/shop.git", "services/cart-admin"),
            "@acme/api": "github:acme/api",
            "@acme/orders": "https://github.com/acme/service-template",
            "@acme/homepage": "https://github.com/acme",
            "@acme/forked": "https://github.com/jo/pay",
            "@acme/lodash": "lodash/lodash",
            "@acme/starter": "https://github.com/your-org/your-repo",
            "@acme/gone": "https://github.com/acme/gone",
            "acme-utils": "https://github.com/acme/utils-js",
            "foo-bar": "https://github.com/acme/utils-js",
            "foo_bar": "https://github.com/acme/gateway",
        }
        found: dict[str, Row] = {}
        for name, link in links.items():
            url, folder = (link, "") if isinstance(link, str) else link
            repository = {"type": "git", "url": url, **({"directory": folder} if folder else {})}
            found[name] = {"name": name, "version": "1.0.0", "repository": repository, "dist": {}}
        found["@acme/orders"]["gitHead"] = self.commits["apps/orders"][0]
        return found

    def _npm(self, name: str) -> Row:
        manifest = self.packages[name]
        times = {"1.0.0": self.now.isoformat()}
        return {
            "name": name,
            "dist-tags": {"latest": "1.0.0"},
            "versions": {"1.0.0": manifest},
            "time": times,
        }

    def _pypi(self, path: str) -> Given:
        links = {
            "acme-utils": {"Source": "https://github.com/acme/utils-py"},
            "Foo_Bar": {"Repository": "https://github.com/acme/tools"},
            "foobar": {},
            "acme-sdk": {"Homepage": "https://github.com/acme"},
            "tracked": {"Bug Tracker": "https://github.com/acme/tracker/issues"},
        }
        if path == "/simple/":
            return told({"projects": [{"name": name} for name in links]})
        normal = {re.sub("[-_.]+", "-", name).lower(): name for name in links}
        if found := re.fullmatch(r"/simple/([^/]+)/", path):
            url = f"http://pypi.acme.example/files/{found[1]}-1.0-py3-none-any.whl"
            assert found[1] in normal
            file = {"filename": url.rpartition("/")[2], "url": url, "hashes": {}, "core-metadata": True}
            return told({"name": found[1], "files": [file], "versions": ["1.0"]})
        found = re.fullmatch(r"/files/(.+)-1\.0-py3-none-any\.whl\.metadata", path)
        name = normal[found[1]]  # type: ignore[index]
        lines = [f"Name: {name}", "Version: 1.0"]
        lines += [f"Project-URL: {label}, {url}" for label, url in links[name].items()]
        return 200, {"Content-Type": "text/plain"}, "\n".join(lines).encode()

    def _export(self) -> list[Row]:
        """What other tools have, as one writes it for us."""
        image = {"type": "artifact", "artifact_type": "image", "ecosystem": "oci"}
        return [
            {"type": "artifact", "artifact_type": "package", "ecosystem": "pypi", "external_id": "n1",
             "name": "Foo.Bar", "keys": ["pypi:Foo.Bar"]},
            {**image, "external_id": "s1", "name": "api", "keys": ["image:registry.acme.example:443/api:1.0"]},
            {**image, "external_id": "s2", "name": "pay", "keys": ["image:registry.acme.example:5000/pay"]},
            {**image, "external_id": "s3", "name": "tool", "keys": ["image:docker.io/acme/tool"],
             "about": ["repo:git@ghe.corp.example:acme/pay.git"]},
            {"type": "pipeline", "external_id": "j1", "name": "pay", "keys": ["pipeline:jenkins.acme.example/pay"],
             "about": ["repo:https://ghe.corp.example:443/Acme/Pay.git"]},
            {"type": "user", "external_id": "person-1", "name": "ruiz", "email": "Ana@acme.example",
             "keys": ["user:Ana@acme.example"]},
            {"type": "user", "external_id": "person-2", "name": "ana", "email": "ana@partner.example",
             "keys": ["user:ana@partner.example"]},
        ]  # fmt: skip

    # --- clusters and monitoring ------------------------------------------------------------------------------

    def _kubernetes(self, cluster: str, path: str) -> Row:
        if path == "/version":
            return {"gitVersion": "v1.33.2", "minor": "33"}
        if path == "/api/v1/namespaces":
            names = ["payments", "umbrella", "tools", "sandbox"] if cluster == "prod" else ["payments"]
            return {"metadata": {}, "items": [{"metadata": {"name": name}} for name in names]}
        registry = "registry.acme.example"
        named = {"backstage.io/kubernetes-id": "pay", "app": "pay"}
        pay = [f"{registry}/pay:1.0", "docker.io/istio/proxyv2:1.22", "docker.io/fluent/fluent-bit:3"]
        lying = {"app.kubernetes.io/part-of": "pay", "app.kubernetes.io/name": "pay", "app": "api"}
        there: list[tuple[str, str, str, list[str], Row]] = [
            ("Deployment", "payments", "pay", pay, named),
            ("Deployment", "payments", "pay-dr", ["mirror.acme.example/dr/pay:1.0"], {"app": "dr"}),
            ("StatefulSet", "payments", "db", ["postgres:16"], {"app": "postgres"}),
            ("StatefulSet", "payments", "cache", [f"{registry}/library/postgres:16"], {}),
            ("Deployment", "umbrella", "api", [f"{registry}/umbrella/api:1.0"], {"app": "api"}),
            ("StatefulSet", "umbrella", "api", ["registry.partner.example/api:1.0"], {"app": "api"}),
            ("Deployment", "tools", "grafana", ["grafana/grafana:11"], lying),
            ("Deployment", "tools", "proxy", [f"{registry}/mirror/proxyv2:1.0"], {}),
            ("Deployment", "tools", "report", [f"{registry}/apps/report:1.0"], {}),
            ("Deployment", "tools", "tool", ["acme/tool:1"], {}),
            ("Deployment", "tools", "unknown", [f"{registry}/unknown:1"], {}),
            ("Deployment", "sandbox", "pay", ["acme/pay:dev"], {"app.kubernetes.io/name": "pay"}),
        ]
        if cluster == "stage":
            there = [("Deployment", "payments", "pay", [f"{registry}/pay:1.0"], named)]
        plural = path.rpartition("/")[2]
        if plural == "pods":
            return {"metadata": {}, "items": [self._pod()] if cluster == "prod" else []}
        kinds = {
            "deployments": "Deployment",
            "statefulsets": "StatefulSet",
            "daemonsets": "",
            "cronjobs": "",
            "jobs": "",
        }
        wanted = kinds[plural]
        return {"metadata": {}, "items": [_workload(*one[1:]) for one in there if one[0] == wanted]}

    def _pod(self) -> Row:
        """What the node knows of the image that it pulled through a mirror: the digest of its platform's part."""
        assert self.registry
        owner = {"kind": "ReplicaSet", "name": "pay-dr-5d8", "controller": True}
        meta = {"namespace": "payments", "labels": {"pod-template-hash": "5d8"}, "ownerReferences": [owner]}
        image = "mirror.acme.example/dr/pay:1.0"
        told = {"name": "c0", "image": image, "imageID": f"mirror.acme.example/dr/pay@{self.part}"}
        spec = {"containers": [{"name": "c0", "image": image}]}
        return {"metadata": meta, "spec": spec, "status": {"phase": "Running", "containerStatuses": [told]}}

    def _alertmanager(self, path: str) -> Any:
        if path == "/api/v2/status":
            return {"uptime": "2026-01-01T00:00:00Z", "versionInfo": {"version": "0.28"}}
        names = {"a1": "pay", "a2": "cart", "a3": "shop/cart"}
        return [
            {"fingerprint": id_, "labels": {"alertname": "Down", "service": name, "namespace": "shop"},
             "annotations": {}, "status": {"state": "active"}, "startsAt": self.now.isoformat()}
            for id_, name in names.items()
        ]  # fmt: skip

    def _prometheus(self, path: str) -> Row:
        if path == "/api/v1/status/runtimeinfo":
            return {"data": {"startTime": "2026-01-01T00:00:00Z"}}
        alerts = [
            {"labels": {"alertname": "Slow", "job": name}, "annotations": {}, "state": "firing",
             "activeAt": self.now.isoformat()}
            for name in ("pay", "node-exporter")
        ]  # fmt: skip
        rule = {"name": "Slow", "query": "up", "alerts": alerts}
        return {"data": {"groups": [{"lastEvaluation": self.now.isoformat(), "rules": [rule]}]}}


def _workload(namespace: str, name: str, images: list[str], labels: Row) -> Row:
    containers = [{"name": f"c{at}", "image": image} for at, image in enumerate(images)]
    template = {"metadata": {"labels": labels}, "spec": {"containers": containers}}
    meta = {"namespace": namespace, "name": name, "labels": labels, "generation": 1}
    status = {"observedGeneration": 1, "readyReplicas": 1}
    return {"metadata": meta, "spec": {"replicas": 1, "template": template}, "status": status}


@contextmanager
def play(folder: Path) -> Iterator[Company]:
    """The company's tools, on ports of their own."""
    company = Company(folder)
    assert company.commits
    with serve(company.handle) as url, serve_git(GitServer(folder / "served")) as served:
        company.url, company.git_url = url, served.url
        yield company
