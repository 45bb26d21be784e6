"""The sample company as it stands: what `packs/sample/company.yaml` says, as records of its Git host."""

from __future__ import annotations

import hashlib
import random
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from django.conf import settings

from base.safe_yaml import load

NAMESPACE = "sample"
GIT, CI, REGISTRY, DEPLOY, ALERTS = (
    f"{tool}.acme.example" for tool in ("git", "ci", "registry", "deploy", "alerts")
)
CATALOG = "platform/catalog"  # where groups, people, systems and resources are declared
Row = dict[str, Any]

_BUILD_FILE = {
    "Kotlin": "build.gradle.kts", "Java": "pom.xml", "Go": "go.mod", "TypeScript": "package.json",
    "Python": "pyproject.toml", "Rust": "Cargo.toml", "Swift": "Package.swift", "SQL": "pyproject.toml",
    "PHP": "composer.json", "HTML": "package.json", "Dockerfile": "Dockerfile",
}  # fmt: skip
_BESIDES = {
    "Kotlin": "Java", "Java": "Kotlin", "Go": "Shell", "TypeScript": "CSS", "Python": "SQL", "Rust": "C",
    "Swift": "Objective-C", "SQL": "Python", "PHP": "JavaScript", "HTML": "CSS", "Dockerfile": "Shell",
}  # fmt: skip


@dataclass(frozen=True)
class Person:
    """Somebody who works there."""

    name: str
    team: str

    @property
    def login(self) -> str:
        """The name that tools know: `marta.lindqvist`."""
        plain = unicodedata.normalize("NFKD", self.name).encode("ascii", "ignore").decode().lower()
        return re.sub(r"[^a-z]+", ".", plain)

    @property
    def email(self) -> str:
        return f"{self.login}@acme.example"


@dataclass(frozen=True, kw_only=True)
class Component:
    """A component, as `company.yaml` has it."""

    name: str
    team: str
    type: str
    language: str
    about: str
    topics: list[str]
    pace: float
    system: str = ""
    lifecycle: str = "production"
    provides: list[str] = field(default_factory=list)
    consumes: list[str] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)
    repo: str = ""
    folder: str = ""
    image: str = ""
    npm: str = ""
    pypi: str = ""
    tier: int = 3
    declared: bool = True
    owner: str = ""
    owners: list[str] | None = None
    now: str = ""
    deploys: str = ""
    undeployed: bool = False

    @property
    def path(self) -> str:
        """The path of its repository."""
        return self.repo or f"{self.team}/{self.name}"

    @property
    def repo_key(self) -> str:
        """Where its source lies, with the folder."""
        return f"repo:{GIT}/{self.path}" + (f"#{self.folder}" if self.folder else "")

    @property
    def service_key(self) -> str:
        """What the alerts know it by."""
        return f"service:{ALERTS}/{self.name}"

    @property
    def artifact_key(self) -> str:
        """What its versions are versions of; empty if it is only tagged."""
        if self.npm:
            return f"npm:{self.npm}"
        if self.pypi:
            return f"pypi:{self.pypi}"
        if self.image == "none":
            return ""
        own = f"{self.team}/{self.name}" if self.folder else self.path
        return f"image:{REGISTRY}/{self.image or own}"

    @property
    def is_deployed(self) -> bool:
        """Whether it runs somewhere: a library and an app do not."""
        return self.artifact_key.startswith("image:") and self.type != "library"


class Company:
    """All of it."""

    def __init__(self) -> None:
        source = settings.BASE_DIR / "packs" / "sample" / "company.yaml"
        self.said: Row = load(source.read_text(encoding="utf-8"), name=source.name)
        self.components = [Component(**row) for row in self.said["components"]]
        self.people = [Person(name, team) for team, names in self.said["people"].items() for name in names]

    def team(self, name: str) -> list[Person]:
        """A team's people, the lead first."""
        return [person for person in self.people if person.team == name]

    # --- declared -----------------------------------------------------------------------------------------

    def documents(self) -> Iterator[Row]:
        """All that catalog files declare, as records."""
        for file, kind, section in (
            ("org/groups.yaml", "Group", self._groups()),
            ("org/people.yaml", "User", self._users()),
            ("systems.yaml", "Domain", self._owned("domains")),
            ("systems.yaml", "System", self._owned("systems")),
            ("resources.yaml", "Resource", self._owned("resources")),
        ):
            for name, metadata, spec in section:
                yield _document(CATALOG, file, kind, {"name": name, **metadata}, spec)
        for component in self.components:
            if component.declared:
                yield from self._declarations(component)
        # A name may not hold a space: this one is refused, and the repository's component is a found one.
        yield _document(
            "storefront/landing-pages",
            "catalog-info.yaml",
            "Component",
            {"name": "Landing Pages"},
            {"type": "website", "lifecycle": "production", "owner": "storefront"},
        )

    def _groups(self) -> Iterator[tuple[str, Row, Row]]:
        said = {**self.said["departments"], **self.said["teams"]}
        for name, row in said.items():
            yield (
                name,
                {"title": row["title"], "description": row["about"]},
                {
                    "type": "team" if name in self.said["teams"] else "department",
                    "profile": {"displayName": row["title"], "email": f"{name}@acme.example"},
                    "children": [],
                    **({"parent": row["parent"]} if "parent" in row else {}),
                },
            )

    def _users(self) -> Iterator[tuple[str, Row, Row]]:
        for person in self.people:
            profile = {"displayName": person.name, "email": person.email}
            yield person.login, {"title": person.name}, {"profile": profile, "memberOf": [person.team]}

    def _owned(self, section: str) -> Iterator[tuple[str, Row, Row]]:
        for name, row in self.said[section].items():
            metadata = {"description": row["about"], **({"title": row["title"]} if "title" in row else {})}
            yield (
                name,
                metadata,
                {key: row[key] for key in ("type", "owner", "domain", "system") if key in row},
            )

    def _declarations(self, component: Component) -> Iterator[Row]:
        file = f"{component.folder}/catalog-info.yaml" if component.folder else "catalog-info.yaml"
        owner = component.owner or component.team
        links = [{"url": f"https://{CI}/{component.path}", "title": "Builds", "icon": "dashboard"}]
        if component.tier == 1:
            links.append(
                {"url": f"https://{ALERTS}/on-call/{component.team}", "title": "On call", "icon": "alert"}
            )
        spec = {
            "type": component.type,
            "lifecycle": component.lifecycle,
            "owner": owner,
            "system": component.system,
            "providesApis": component.provides,
            "consumesApis": component.consumes,
            "dependsOn": component.needs,
        }
        tags = [component.language.lower(), *(["tier-1"] if component.tier == 1 else [])]
        place = component.repo_key.removeprefix("repo:")
        record = _document(
            component.path,
            file,
            "Component",
            {"name": component.name, "description": component.about, "tags": tags, "links": links},
            {key: value for key, value in spec.items() if value},
        )
        yield {**record, "keys": [f"component:{place}", component.service_key], "about": [component.repo_key]}
        for name in component.provides:
            api = self.said["apis"][name]
            document = _document(
                component.path,
                file.replace("catalog-info", "api"),
                "API",
                {"name": name, "title": api["title"], "description": api["about"]},
                {
                    "type": api["type"],
                    "lifecycle": component.lifecycle,
                    "owner": owner,
                    "system": component.system,
                    "definition": _definition(name, api),
                },
            )
            yield {**document, "about": [component.repo_key]}

    # --- repositories -------------------------------------------------------------------------------------

    def repositories(self) -> Iterator[Row]:
        """All repositories, without what their history says."""
        by_path: dict[str, list[Component]] = {}
        for component in self.components:
            by_path.setdefault(component.path, []).append(component)
        for path, components in by_path.items():
            first = components[0]
            owners = first.owners if first.owners is not None else [f"@acme/{first.owner or first.team}"]
            about = first.about if len(components) == 1 else _MONOREPOS[path]
            folders = [component.folder for component in components]
            row = _repository(path, first.language, about, owners, folders)
            readme = _readme(path, about, components, self.said)
            docs = {"README.md": readme, **_docs(path.rpartition("/")[2], components)}
            yield {**row, "readme": readme, "readme_path": "README.md", "docs": docs}
        for said in self.said["repositories"]:
            row = _repository(said["path"], said["language"], said["about"], said["owners"], [""])
            row["build_files"] = said.get("build_files", row["build_files"] if said["owners"] else [])
            if original := said.get("fork_of"):
                row |= {"is_fork": True, "fork_of": original}
            yield {**row, "is_archived": said.get("archived", False), "readme_path": "README.md",
                   "readme": f"# {said['path'].rpartition('/')[2]}\n\n{said['about']}\n"}  # fmt: skip
        row = _repository(CATALOG, "HTML", "Who we are and what we run.", ["@acme/platform"], [""])
        yield {**row, "build_files": [], "languages": {}}


_MONOREPOS = {
    "storefront/web": "Shop, account pages and the packages that they share.",
    "logistics/fulfilment": "From an order to a packed box, in four services.",
}


def dice(*of: object) -> random.Random:
    """Chance that falls the same way each time for the same thing."""
    return random.Random(":".join(map(str, of)))  # noqa: S311 - no secret is made of it


def sha(*of: object) -> str:
    """A commit's id."""
    return hashlib.blake2b(":".join(map(str, of)).encode(), digest_size=20).hexdigest()


def _document(path: str, file: str, kind: str, metadata: Row, spec: Row) -> Row:
    api_version = "backstage.io/v1alpha1"
    document = {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"namespace": NAMESPACE, **metadata},
        "spec": spec,
    }
    return {
        "type": "document",
        "external_id": f"{GIT}/{path}:{file}#{kind}:{NAMESPACE}/{metadata['name']}".lower(),
        "document": document,
        "file": file,
        "url": f"https://{GIT}/{path}/src/branch/main/{file}",
    }


def _repository(path: str, language: str, about: str, owners: list[str], folders: list[str]) -> Row:
    chance = dice("repository", path)
    main = chance.randint(60_000, 420_000)
    build_files = [f"{folder}/{_BUILD_FILE[language]}".lstrip("/") for folder in folders]
    return {
        "type": "repository",
        "external_id": f"{GIT}/{path}",
        "name": path.rpartition("/")[2],
        "path": path,
        "description": about,
        "url": f"https://{GIT}/{path}",
        "default_branch": "main",
        "languages": {
            language: main,
            _BESIDES[language]: main // chance.randint(6, 20),
            "Shell": chance.randint(400, 4_000),
        },
        "build_files": sorted({*build_files, "Dockerfile"} if len(folders) == 1 else {*build_files}),
        "owners": owners,
        "owners_from": "CODEOWNERS:1" if owners else "",
        "keys": [f"repo:{GIT}/{path}"],
    }


_RUN_IT = {
    "Kotlin": "./gradlew run", "Java": "./mvnw spring-boot:run", "Go": "go run ./cmd/server",
    "TypeScript": "npm ci && npm run dev", "Python": "uv run python -m service", "Rust": "cargo run",
    "Swift": "open Shop.xcodeproj", "SQL": "uv run dbt build --target dev",
}  # fmt: skip


def _readme(path: str, about: str, components: list[Component], said: Row) -> str:
    title = path.rpartition("/")[2] if len(components) > 1 else components[0].name
    lines = [f"# {title}", "", about, ""]
    if len(components) > 1:
        lines += ["| folder | what it does |", "| --- | --- |"]
        lines += [f"| `{component.folder}` | {component.about} |" for component in components]
        lines.append("")
    first = components[0]
    lines += ["## Run it here", "", "```sh", _RUN_IT.get(first.language, "make run"), "```", ""]
    if first.provides:
        lines += ["## What it offers", ""]
        lines += [
            f"- **{said['apis'][name]['title']}**: {said['apis'][name]['about']}" for name in first.provides
        ]
        lines.append("")
    lines += ["## When something is wrong", ""]
    if first.tier == 1:
        lines.append(f"Somebody of {said['teams'][first.team]['title']} is on call day and night.")
        lines.append("Look at the newest deployment first, then at the alerts; roll back before you debug.")
    else:
        lines.append(f"Ask in `#{first.team}` during the day. Nobody is woken for it.")
    lines += ["", "## Worth knowing", ""]
    lines += [f"- Decisions about {topic} are in `docs/decisions`." for topic in first.topics[:2]]
    return "\n".join(lines) + "\n"


def _docs(title: str, components: list[Component]) -> dict[str, str]:
    """The pages below `docs/`: how it is run, and what was decided."""
    first = components[0]
    decided = "\n".join(f"- {topic}: as little of our own as there can be." for topic in first.topics[:2])
    return {
        "docs/running.md": f"# Running {title}\n\nFirst read [the README](../README.md).\n\n## Deploy\n\n"
        "Merge, and the pipeline deploys to staging. A tag deploys to production.\n\n## Roll back\n\n"
        "Deploy the tag before. What was decided about that is [written down](decisions/index.md).\n",
        "docs/decisions/index.md": f"# Decisions\n\nWhat holds for {title}:\n\n{decided}\n",
    }


def _definition(name: str, api: Row) -> str:
    """A short definition in the API's own format."""
    match api["type"]:
        case "openapi":
            paths = {path: _operations(path) for path in api["paths"].split()}
            info = {"title": api["title"], "version": "1.4.0", "description": api["about"]}
            servers = [{"url": f"https://{name}.acme.example/v1"}]
            key = {"type": "apiKey", "in": "header", "name": "X-Acme-Key"}
            components = {"schemas": _SCHEMAS, "securitySchemes": {"key": key}}
            said = {"openapi": "3.1.0", "info": info, "servers": servers, "security": [{"key": []}]}
            return _yaml({**said, "paths": paths, "components": components})
        case "asyncapi":
            message = {"contentType": "application/json", "payload": {"$ref": "#/components/schemas/Event"}}
            channels = {event: {"address": event, "messages": {"event": message}} for event in api["events"]}
            info = {"title": api["title"], "version": "2.0.0", "description": api["about"]}
            broker = {"production": {"host": "events.acme.example", "protocol": "kafka"}}
            said = {"asyncapi": "3.0.0", "info": info, "servers": broker, "channels": channels}
            return _yaml({**said, "components": {"schemas": _EVENTS}})
        case "graphql":
            fields = "\n".join(f"  {field}(id: ID!): {field.capitalize()}" for field in api["fields"])
            types = "\n\n".join(
                f"type {f.capitalize()} {{\n  id: ID!\n  title: String\n}}" for f in api["fields"]
            )
            return f'"""{api["about"]}"""\ntype Query {{\n{fields}\n}}\n\n{types}\n'
    calls = "\n".join(f"  rpc {call}({call}Request) returns ({call}Reply);" for call in api["calls"])
    messages = "\n".join(
        f"message {call}Request {{ string id = 1; }}\nmessage {call}Reply {{ bool ok = 1; }}"
        for call in api["calls"]
    )
    return (
        f'syntax = "proto3";\n\npackage acme.{name}.v1;\n\n// {api["about"]}\n'
        f"service {name.capitalize()} {{\n{calls}\n}}\n\n{messages}\n"
    )


_TIME = {"type": "string", "format": "date-time"}
_SCHEMAS: Row = {
    "Thing": {
        "type": "object",
        "required": ["id", "state"],
        "properties": {
            "id": {"type": "string", "format": "uuid"},
            "state": {"type": "string", "enum": ["open", "done", "failed"], "description": "How far it is."},
            "amount": {"$ref": "#/components/schemas/Amount"},
            "createdAt": _TIME,
        },
    },
    "Amount": {
        "type": "object",
        "required": ["value", "currency"],
        "properties": {
            "value": {
                "type": "integer",
                "minimum": 0,
                "description": "In the smallest unit of the currency.",
            },
            "currency": {"type": "string", "minLength": 3, "maxLength": 3, "example": "EUR"},
        },
    },
}
_EVENTS: Row = {
    "Event": {
        "type": "object",
        "required": ["id", "at"],
        "properties": {"id": {"type": "string"}, "at": _TIME, "order": {"type": "string", "format": "uuid"}},
    }
}


def _operations(path: str) -> Row:
    """What can be done at a path: reading, and for a whole collection adding."""
    thing = {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}
    things = {"application/json": {"schema": {"type": "array", "items": thing["application/json"]["schema"]}}}
    parts = path.strip("/").split("/")
    names = [part.strip("{}") for part in parts if part.startswith("{")]
    is_one = parts[-1].startswith("{")
    found = {"200": {"description": "It is there.", "content": thing if is_one else things}}
    get = {"tags": [parts[0]], "summary": f"Read {path}", "responses": found}
    at = {
        "parameters": [
            {"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names
        ]
    }
    if is_one:
        return {**at, "get": {**get, "responses": {**found, "404": {"description": "There is none."}}}}
    made = {"201": {"description": "It was made.", "content": thing}}
    post = {
        "tags": [parts[0]],
        "summary": f"Add to {path}",
        "requestBody": {"required": True, "content": thing},
        "responses": made,
    }
    return {**at, "get": get, "post": post}


def _yaml(data: Row) -> str:
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)
