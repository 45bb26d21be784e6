"""What means harm, brought in by every way there is, beside what is good."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.stack import Portal
from tests.integrations import github
from tests.integrations.ldap_server import BASE, PASSWORD, READER, run_slapd
from tests.integrations.servers import serve, wait_for

RUN = "alert(1)"
MARKUP = f'"\'><script>{RUN}</script><img src=x onerror="{RUN}"><svg onload="{RUN}">'
BIDI = "\u202egnp.exe\u202c \u200b\u2066\u200d\ufeffzero"
STACKED = "Z" + "\u0335\u0327\u0306\u0308\u0330" * 30
FORMULA = '=cmd|"/C calc"!A1'
LONG = "settlement" * 20
WORDS = [MARKUP, FORMULA, BIDI, STACKED, LONG, "@SUM(1+1)", "+1", "-1", "{{ 7 * 7 }} {% debug %} ${7*7}"]
LINKS = [
    f"javascript:{RUN}",
    f"JaVaScRiPt:{RUN}",
    f"java\tscript:{RUN}",
    f"data:text/html,<script>{RUN}</script>",
    f"data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' onload='{RUN}'/>",
    "vbscript:x",
    "https://wiki.acme.example/\"onmouseover='alert(1)'",
]
SVG = f'<svg xmlns="http://www.w3.org/2000/svg" onload="{RUN}"><script>{RUN}</script><foreignObject/></svg>'
MARKDOWN = f"""{MARKUP}

# {MARKUP}

[a](javascript:{RUN}) ![b](data:image/svg+xml;base64,{base64.b64encode(SVG.encode()).decode()})
[c][r] <javascript:{RUN}>

[r]: data:text/html,<script>{RUN}</script>

<a href="&#106;avascript:{RUN}">d</a> <iframe srcdoc="<script>{RUN}</script>"></iframe> {SVG}
<style>*{{display:none}}</style> <base href="//evil.example/"> <meta http-equiv="refresh" content="0;//evil.example/">
<form action="//evil.example/"><button>go</button></form> <math><mtext><script>{RUN}</script></mtext></math>

```html"><script>{RUN}</script>
{MARKUP}
```
"""
SECRET = "what GitHub signs with"
SLAPD = "/usr/sbin:/usr/bin"
GOOD = ["alpha", "omega"]  # what stands before and after the hostile ones, by each way


def component(name: str, words: str = "", link: str = "") -> dict[str, Any]:
    """A component; with words, it has them wherever it can."""
    document: dict[str, Any] = {
        "apiVersion": "backstage.io/v1alpha1",
        "kind": "Component",
        "metadata": {"name": name},
        "spec": {"type": "service", "lifecycle": "production", "owner": "crew"},
    }
    if words:
        document["metadata"] |= {
            "title": words,
            "description": f"{words}\n\n{MARKDOWN}",
            "links": [{"url": link, "title": words, "icon": SVG}],
            "annotations": {
                "acme.example/note": words,
                "acme.example/logo": link,
                "backstage.io/view-url": link,
                "backstage.io/edit-url": link,
                "backstage.io/source-location": f"url:{link}",
                "backstage.io/techdocs-ref": link,
            },
        }
        document["spec"] |= {"type": words[:60], "lifecycle": words[:60], "system": words}
    return document


def documents(way: str) -> list[dict[str, Any]]:
    """Good ones around one for each of the words, each with another of the links."""
    return [
        component(f"{way}-alpha"),
        *(
            component(f"{way}-{number}", words, LINKS[number % len(LINKS)])
            for number, words in enumerate(WORDS)
        ),
        {
            **component(f"{way}-api", MARKUP, LINKS[0]),
            "kind": "API",
            "spec": {"type": "openapi", "lifecycle": "x", "owner": MARKUP, "definition": MARKDOWN},
        },
        {
            "apiVersion": "backstage.io/v1alpha1",
            "kind": "User",
            "metadata": {"name": f"{way}-user", "title": MARKUP},
            "spec": {
                "profile": {"displayName": MARKUP, "picture": LINKS[4], "email": MARKUP},
                "memberOf": [MARKUP],
            },
        },
        {
            "apiVersion": "backstage.io/v1alpha1",
            "kind": "Group",
            "metadata": {"name": f"{way}-group", "title": BIDI},
            "spec": {
                "type": MARKUP[:60],
                "children": [MARKUP],
                "profile": {"displayName": MARKUP, "picture": LINKS[0]},
            },
        },
        component(f"{way}-omega"),
    ]


# --- what is refused, each in a file of its own ---------------------------------------------------------------

_HEAD = "apiVersion: backstage.io/v1alpha1\nkind: Component\nmetadata:\n  name: {}\n"
_TAIL = "spec: {type: service, lifecycle: production, owner: crew}\n"
_LAUGHS = "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
REFUSED = {
    "bomb": "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + _LAUGHS + _HEAD.format("bomb") + _TAIL,
    "deep": _HEAD.format("deep") + _TAIL + f"deep: {'[' * 5_000}{']' * 5_000}\n",
    "nul": _HEAD.format("nul") + '  title: "a\\0b"\n' + _TAIL,
    "huge": _HEAD.format("huge") + _TAIL + f"number: {'9' * 5_000}\n",
    "large": _HEAD.format("large") + f"  description: {'x' * 10_485_760}\n" + _TAIL,
    "object": _HEAD.format("object") + _TAIL + "run: !!python/object/apply:os.system [id]\n",
    "broken": f"{_HEAD.format('broken')}  title: [{MARKUP}\n",
    "wrong": _HEAD.format(json.dumps(MARKUP)) + _TAIL,
}


def write_catalog(folder: Path) -> None:
    """Catalog files: the good and the inert in one, what is to be refused around it."""
    folder.mkdir()
    for name, text in REFUSED.items():
        (folder / f"{name}.yaml").write_text(text)
    (folder / "m-catalog.yaml").write_text(yaml.safe_dump_all(documents("yaml"), allow_unicode=True))
    (folder / "a-good.yaml").write_text(_HEAD.format("first") + _TAIL)
    (folder / "z-good.yaml").write_text(_HEAD.format("last") + _TAIL)


def write_records(folder: Path) -> None:
    """Lines for the records connector: markup in every field, and lines that are to be refused."""
    folder.mkdir()
    now, repo, pipe = (
        "2026-11-30T10:00:00Z",
        "repo:git.acme.example/acme/evil",
        "pipeline:ci.acme.example/evil",
    )
    words = {"name": MARKUP, "title": MARKUP, "description": MARKDOWN, "url": LINKS[0], "tags": [MARKUP]}
    words |= {"labels": {MARKUP: MARKUP}, "raw": {MARKUP: MARKDOWN, "svg": SVG}}
    entities: list[Any] = [
        {"type": "team", "external_id": "alpha", "name": "records-alpha"},
        {"type": "team", "external_id": "t", **words, "members": [MARKUP]},
        {"type": "user", "external_id": "u", **words, "email": "evil@acme.example"},
        {
            "type": "repository", "external_id": "r", **words, "path": MARKUP, "keys": [repo], "default_branch": MARKUP,
            "readme": MARKDOWN, "readme_path": "README.md", "owners": ["@" + MARKUP], "owners_from": MARKUP,
            "languages": {MARKUP: 3}, "build_files": ["pom.xml"], "last_activity_at": now,
        },
        {"type": "pipeline", "external_id": "p", **words, "keys": [pipe], "about": [repo], "trigger": MARKUP},
        {"type": "artifact", "external_id": "a", **words, "artifact_type": "package", "about": [repo]},
        {"type": "environment", "external_id": "e", **words},
        {"type": "workload", "external_id": "w", **words, "about": [repo]},
        *(
            {"type": "document", "external_id": f"d{number}", "file": MARKUP, "url": LINKS[0], "document": document}
            for number, document in enumerate(documents("records"))
        ),
        {"type": "team", "external_id": "nul", "name": "a\0b"},
        {"type": "team", "external_id": "number", "name": "n", "size": 10**400},
        {"type": "document", "external_id": "bad", "file": MARKUP, "document": {"kind": MARKUP, "metadata": {}}},
        {"type": "team", "external_id": "omega", "name": "records-omega"},
    ]  # fmt: skip
    event = {"title": MARKUP, "actor": MARKUP, "url": LINKS[0], "about": [pipe, repo], "raw": {MARKUP: SVG}}
    events: list[Any] = [
        {
            "type": "run", "external_id": f"run-{number}", **event, "status": "failed", "number": MARKUP,
            "branch": branch, "is_default_branch": True, "commit": "a" * 40, "log_url": LINKS[1], "started_at": now,
            "finished_at": now, "steps": [{"name": MARKUP, "status": "failed", "log_url": LINKS[0]}],
        }
        for number, branch in enumerate(WORDS)
    ]  # fmt: skip
    events += [
        {"type": "commit", "external_id": "c", **event, "sha": "a" * 40, "branch": MARKUP, "committed_at": now},
        {"type": "version", "external_id": "v", **event, "version": MARKUP, "notes": MARKDOWN, "released_at": now},
        {
            "type": "deployment", "external_id": "dep", **event, "status": "failed", "environment": MARKUP,
            "started_at": now,
        },
        {"type": "alert", "external_id": "al", **event, "status": "firing", "severity": MARKUP, "started_at": now},
        {"type": "issue", "external_id": "is", **event, "url": None, "status": "open", "number": "1", "opened_at": now},
        {
            "type": "change", "external_id": "ch", **event, "status": "open", "number": MARKUP, "opened_at": now,
            "source_branch": MARKUP, "target_branch": MARKUP, "reviewers": [MARKUP],
        },
    ]  # fmt: skip
    (folder / "entities.jsonl").write_text("".join(json.dumps(one) + "\n" for one in entities))
    (folder / "events.jsonl").write_text("".join(json.dumps(one) + "\n" for one in events))


# --- tools ----------------------------------------------------------------------------------------------------


def _registry(request: BaseHTTPRequestHandler) -> tuple[int, Mapping[str, str], bytes]:
    """A registry with an image whose labels mean harm; its neighbour's manifest is none."""
    labels = {"org.opencontainers.image.title": MARKUP, "org.opencontainers.image.url": LINKS[0], MARKUP: SVG}
    labels |= {"org.opencontainers.image.source": LINKS[0], "org.opencontainers.image.description": MARKDOWN}
    config = json.dumps({"os": "linux", "architecture": MARKUP, "config": {"Labels": labels}}).encode()
    digest = "sha256:" + hashlib.sha256(config).hexdigest()
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": {"digest": digest, "size": 1}, "layers": []}
    bodies: dict[str, Any] = {
        "/v2/": {},
        "/v2/_catalog": {"repositories": ["acme/alpha", "acme/broken", "acme/omega"]},
        "/v2/acme/broken/manifests/1.0": {"mediaType": MARKUP, "schemaVersion": 10**30},
    }
    for name in ("alpha", "broken", "omega"):
        bodies[f"/v2/acme/{name}/tags/list"] = {"name": name, "tags": ["1.0"]}
        bodies.setdefault(f"/v2/acme/{name}/manifests/1.0", manifest)
        bodies[f"/v2/acme/{name}/blobs/{digest}"] = config
    path = request.path.partition("?")[0]
    said = {json.dumps(body).encode() if not isinstance(body, bytes) else body for body in bodies.values()}
    by_digest = {"sha256:" + hashlib.sha256(body).hexdigest(): body for body in said}
    found = bodies.get(path, by_digest.get(path.rpartition("/")[2]))
    if found is None:
        return 404, {"Content-Type": "application/json"}, b'{"errors": []}'
    body = found if isinstance(found, bytes) else json.dumps(found).encode()
    headers = {"Content-Type": kind if "/manifests/" in path else "application/json"}
    return 200, headers | {"Docker-Content-Digest": "sha256:" + hashlib.sha256(body).hexdigest()}, body


def _hub() -> dict[str, Any]:
    """GitHub's answers, with words that mean harm in all that people write."""
    has = github.world()
    at = f"/repos/{github.REPO}"
    has[at] |= {"description": MARKUP, "homepage": LINKS[0], "topics": [MARKUP]}
    readme = base64.b64encode(MARKDOWN.encode()).decode()
    tree = has[f"{at}/git/trees/{has[at]['default_branch']}"]["tree"]
    tree += [{"path": "README.md", "mode": "100644", "type": "blob", "size": 9, "sha": "0" * 40, "url": ""}]
    text = yaml.safe_dump_all(documents("hub"), allow_unicode=True)
    for path, content in {
        "README.md": readme,
        "catalog-info.yaml": base64.b64encode(text.encode()).decode(),
    }.items():
        has[f"{at}/contents/{path}"] = {
            "type": "file", "encoding": "base64", "size": 9, "path": path, "content": content,
        }  # fmt: skip
    has["/orgs/Codertocat/teams/github"] |= {"name": MARKUP, "description": MARKDOWN}
    return has


def _deliveries() -> Iterator[tuple[str, Any]]:
    """Deliveries of GitHub: two good ones around those whose words mean harm, and some that are of no form at all."""
    pull = github.examples("pull_request")[0]
    run = github.examples("workflow_run")[0]
    for number, words in enumerate([GOOD[0], *WORDS, GOOD[1]]):
        link = (
            LINKS[number % len(LINKS)] if words not in GOOD else "https://github.com/Codertocat/Hello-World"
        )
        said = json.loads(json.dumps(pull))
        said["pull_request"] |= {
            "id": number,
            "number": number,
            "title": words,
            "body": MARKDOWN,
            "html_url": link,
        }
        said["pull_request"]["head"]["ref"] = words
        said["pull_request"]["user"] |= {"login": words, "avatar_url": link}
        yield "pull_request", said
        said = json.loads(json.dumps(run))
        said["workflow_run"] |= {
            "id": number, "name": words, "display_title": words, "head_branch": words, "html_url": link,
            "status": "completed", "conclusion": "success",
        }  # fmt: skip
        said["workflow"] |= {"name": words}
        yield "workflow_run", said
    yield "pull_request", {**pull, "pull_request": {**pull["pull_request"], "id": "\0", "title": "a\0b"}}
    yield "pull_request", {**pull, "pull_request": MARKUP}
    yield "pull_request", {**pull, "number": 10**400}
    yield "pull_request", b'{"a":' * 5_000 + b"1" + b"}" * 5_000
    yield MARKUP, {"zen": MARKUP}


_IMPORT = """
import json
from integrations.services.locations import import_paths
print(json.dumps(import_paths(addresses=[{!r}], by="tests").as_dict()))
"""


class Ways:
    """The ways in."""

    def __init__(self, portal: Portal, token: str) -> None:
        self.portal = portal
        self._token = token

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Ask the portal as a program does."""
        connection = http.client.HTTPConnection(self.portal.url.partition("://")[2], timeout=60)
        sent = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"} | headers
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        try:
            connection.request(method, path, content, sent)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        assert answer.status < 500, (method, path, text[:500])
        return answer.status, json.loads(text) if text[:1] in (b"{", b"[") else text.decode()

    def connect(self, slug: str, connector: str, **config: Any) -> None:
        given = {"slug": slug, "label": f"{slug} {MARKUP}"[:100], "connector": connector, "config": config}
        status, said = self.ask("POST", "/api/v1/connections/", given)
        assert status == 201, said

    def import_files(self) -> dict[str, Any]:
        write_catalog(self.portal.files / "catalog")
        said = self.portal.manage(
            "shell", "-v", "0", "-c", _IMPORT.format(str(self.portal.files / "catalog"))
        )
        summary: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
        return summary

    def deliver(self) -> list[int]:
        """Sign and deliver what GitHub may say; gives the statuses."""
        statuses = []
        for event, said in _deliveries():
            body = said if isinstance(said, bytes) else json.dumps(said).encode()
            signature = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
            named = event if event.isidentifier() else base64.b64encode(event.encode()).decode()
            headers = {
                "X-Hub-Signature-256": signature,
                "X-GitHub-Event": named,
                "X-GitHub-Delivery": MARKUP[:200],
            }
            statuses.append(self.ask("POST", "/hooks/hub", body, **headers)[0])
        return statuses

    def wait(self) -> None:
        """Wait until all that came is taken in."""
        left = """SELECT count(*) FROM integrations_delivery WHERE state IN ('queued', 'running') UNION ALL
            SELECT count(*) FROM integrations_connection c WHERE NOT EXISTS (
                SELECT 1 FROM integrations_syncrun r WHERE r.connection_id = c.id AND r.finished_at IS NOT NULL)"""
        wait_for(lambda: self.portal.execute(left) == [(0,), (0,)], "deliveries and syncs to end")
        self.portal.wait_until_synced()


@contextmanager
def tools(ways: Ways, folder: Path) -> Iterator[None]:
    """The tools that mean harm, connected."""
    with ExitStack() as stack:
        write_records(ways.portal.files / "records")
        ways.connect("records", "records", location=str(ways.portal.files / "records"))
        hub = stack.enter_context(github.play(_hub()))
        ways.connect("hub", "github", **hub.settings, webhook_secret=SECRET)
        registry = stack.enter_context(serve(_registry))
        ways.connect("registry", "oci", base_url=registry)
        if slapd := shutil.which("slapd", path=SLAPD):
            directory = stack.enter_context(run_slapd(folder, slapd))
            directory.change(_name_groups)
            given = {"address": directory.url, "user": READER, "password": PASSWORD, "base": BASE}
            ways.connect("people", "ldap", **given)
        yield


def _name_groups(link: Any) -> None:
    for number, words in enumerate([*WORDS, "ldap-omega"]):
        attributes = {"cn": words, "gidNumber": str(number), "description": MARKDOWN}
        link.add(f"gidNumber={number},ou=Groups,{BASE}", ["posixGroup"], attributes)
