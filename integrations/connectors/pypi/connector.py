"""Any Python package index: projects become artifacts, their releases become versions."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.parser import BytesParser
from typing import Any
from urllib.parse import urljoin

from pydantic import Field, HttpUrl, SecretStr

from integrations.contract import (
    Answer,
    AuthFailed,
    BadPayload,
    Category,
    Check,
    ConnectionConfig,
    Connector,
    Expect,
    Health,
    Mark,
    NotThere,
    Refused,
    SourceError,
    Tools,
    has_glob,
    matches,
    record_or_refusal,
    resource,
)
from integrations.contract import gettext as _
from integrations.packages import Versions, changed_versions, finds
from integrations.records import Artifact, ArtifactType, Version

PYPI = "https://pypi.org/simple"
SIMPLE = {"Accept": "application/vnd.pypi.simple.v1+json"}
RELEASE = re.compile(r"v?(?:(\d+)!)?(\d+(?:\.\d+)*)(?:[-_.]?([a-z]+)[-_.]?(\d*))?.*", re.IGNORECASE)
STAGES = {"dev": 0, "a": 1, "alpha": 1, "b": 2, "beta": 2, "c": 3, "rc": 3, "pre": 3, "preview": 3}
FINAL, POST = 4, 5
SOURCE_LABELS = ("source", "sourcecode", "repository", "code", "github", "gitlab")
A_HOST_OF_REPOSITORIES = re.compile(
    r"https?://(?:www\.)?(?:github|gitlab|bitbucket|codeberg)\.\w+/[^/]+/[^/]+/?"
)

Json = dict[str, Any]


class Config(ConnectionConfig):
    """Where the index is, how to sign in to it, and what to read."""

    base_url: HttpUrl = Field(
        HttpUrl(PYPI),
        title="Address",
        description="Address of the index, as pip's setting “index-url” has it.",
    )
    username: str = Field("", title="User name", description="Leave empty if everybody may read.")
    password: SecretStr | None = Field(
        None, title="Password", description="Password or token of this user; it needs to read, no more."
    )
    packages: list[str] = Field(
        min_length=1,
        max_length=1000,
        title="Packages",
        description="Names or patterns, such as acme-pay or acme-*; * for all of a private index.",
    )
    versions: Versions = 50


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project as the index lists it: its files by version, the newest version first."""

    name: str
    answer: Answer
    files: dict[str, list[Json]]

    @property
    def latest(self) -> str:
        """The newest version that is no candidate and has not been yanked, else the newest."""
        good = (
            v for v, files in self.files.items() if not _is_prerelease(v) and not all(map(_is_yanked, files))
        )
        return next(good, next(iter(self.files), ""))


class PyPI(Connector[Config]):
    slug, label, monogram, category = "pypi", "Python package index", "Py", Category.PACKAGES
    brings = "Packages with their versions, yanked ones and repositories, from any Python index"

    def __init__(self, config: Config, tools: Tools) -> None:
        super().__init__(config, tools)
        self.base = str(config.base_url).rstrip("/")
        secret = config.password.get_secret_value() if config.password else ""
        self.api = self.http.at(
            self.base, headers=self.http.basic(config.username, secret) if config.username else None
        )

    @resource(of=Artifact)
    async def packages(self) -> AsyncIterator[Artifact | Expect | Refused]:
        """Every selected package, tied to the repository that its newest version names."""
        names = await self.names()
        yield Expect(len(names))
        for name in names:
            found = await self.project(name)
            yield found if isinstance(found, Refused) else await self.artifact(found)

    @resource(of=Version, incremental=True)
    async def versions(self, since: Json | None) -> AsyncIterator[Version | Mark | Refused]:
        """The newest versions of the packages that have changed."""
        names, scope = await self.names(), self.config.versions
        async for item in changed_versions(
            since, names=names, scope=scope, read=self.project, newest=self.newest
        ):
            yield item

    async def check(self) -> Health:
        """Say whether an index answers, and whether the packages can be found in it."""
        try:
            remedy = _("Correct “Packages” and the address.")
            found = await finds(
                await self.names(), wanted=self.config.packages, read=self.project, remedy=remedy
            )
        except SourceError as error:
            return Health(
                [Check(label=_("Not reached"), ok=False, detail=error.message, remedy=_remedy(error))]
            )
        return Health([Check(label=_("Reached the index"), ok=True), found])

    async def names(self) -> list[str]:
        """The selected packages; the whole list is read only where full names do not say it all."""
        found = {_normal(name) for name in self.config.packages if not has_glob(name)}
        patterns = [name.lower() for name in self.config.packages if has_glob(name)]
        if patterns:
            answer = await self.api.get(f"{self.base}/", headers=SIMPLE)
            listed = (_normal(_text(row, "name", answer)) for row in _rows(answer, "projects"))
            found |= {name for name in listed if matches(name, patterns)}
        return sorted(found)

    async def project(self, name: str) -> Project | Refused:
        """What the index has of a package; the client asks again with the ETag of its last answer."""
        try:
            answer = await self.api.get(f"{self.base}/{name}/", headers=SIMPLE)
        except NotThere as error:
            return Refused(external_id=name, reason=error.message)
        files: dict[str, list[Json]] = {}
        for file in _rows(answer, "files"):
            files.setdefault(_version_of(_text(file, "filename", answer)), []).append(file)
        newest = sorted(files, key=_order, reverse=True)
        return Project(name=name, answer=answer, files={version: files[version] for version in newest})

    async def metadata(self, found: Project) -> Json:
        """Summary and links of the newest version: of its metadata file, else of PyPI's own JSON."""
        for file in found.files.get(found.latest, []):
            if file.get("core-metadata") or file.get("dist-info-metadata"):
                answer = await self.api.get(urljoin(found.answer.url, file["url"]) + ".metadata")
                said = BytesParser().parsebytes(answer.body, headersonly=True)
                if _normal(said.get("Name", "")) != found.name:
                    raise BadPayload(_("%(url)s is no metadata of this package.") % {"url": answer.url})
                links = [line.partition(",") for line in said.get_all("Project-URL", [])]
                return {
                    "summary": said.get("Summary"),
                    "home_page": said.get("Home-page"),
                    "license": said.get("License-Expression") or said.get("License"),
                    "project_urls": {label.strip(): url.strip() for label, _comma, url in links},
                }
        if not self.base.endswith("/simple"):
            return {}
        address = f"{self.base.removesuffix('/simple')}/pypi/{found.name}/json"
        answer = await self.api.get(address, accept=(200, 404))
        return _member(answer, "info", dict) if answer.status == 200 else {}

    async def artifact(self, found: Project) -> Artifact | Refused:
        said = await self.metadata(found)
        return record_or_refusal(
            Artifact,
            found.name,
            as_of=found.answer.sent_at,
            url=self.page(found.name),
            keys=[f"pypi:{found.name}"],
            about=_repository(said),
            name=found.name,
            description=said.get("summary") or "",
            labels={"license": said["license"]} if 0 < len(said.get("license") or "") < 100 else {},
            artifact_type=ArtifactType.PACKAGE,
            ecosystem="pypi",
            latest_version=found.latest,
            latest_at=_released_at(found.files.get(found.latest, [])),
        )

    def newest(self, found: Project) -> list[Version | Refused]:
        return [self.version(found, version) for version in list(found.files)[: self.config.versions]]

    def version(self, found: Project, version: str) -> Version | Refused:
        files = found.files[version]
        why = next((file["yanked"] for file in files if isinstance(file.get("yanked"), str)), "")
        sizes = [file.get("size") for file in files]
        python = next((file["requires-python"] for file in files if file.get("requires-python")), "")
        return record_or_refusal(
            Version,
            f"{found.name}@{version}",
            as_of=found.answer.sent_at,
            url=self.page(found.name, version),
            about=[f"pypi:{found.name}"],
            title=f"{found.name} {version}",
            version=version,
            released_at=_released_at(files),
            is_prerelease=_is_prerelease(version),
            is_deprecated=all(map(_is_yanked, files)),
            notes=why,
            size=sum(sizes) if all(isinstance(size, int) for size in sizes) else None,
            labels={"requires-python": python} if python else {},
            raw={"files": files},
        )

    def page(self, name: str, version: str = "") -> str | None:
        """The package's page for people, where we know of one."""
        return f"https://pypi.org/project/{name}/{version}" if self.base == PYPI else None


def _repository(said: Json) -> list[str]:
    """The key of the repository that the links name; a home page is one only where repositories live."""
    links = {
        re.sub(r"[\W_]+", "", label).lower(): url for label, url in (said.get("project_urls") or {}).items()
    }
    homes = [url for url in (links.get("homepage"), said.get("home_page")) if url]
    found = [links[label] for label in SOURCE_LABELS if links.get(label)]
    found += [url for url in homes if A_HOST_OF_REPOSITORIES.fullmatch(url)]
    return [f"repo:{url.partition('#')[0]}" for url in found if re.fullmatch(r"\S{3,900}", url)][:1]


def _normal(name: str) -> str:
    """A name as PEP 503 spells it."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _version_of(filename: str) -> str:
    """The version in a file's name: wheels and eggs have it second, source distributions last."""
    if filename.endswith((".whl", ".egg", ".exe")):
        return [*filename.split("-"), ""][1] or filename
    return re.sub(r"(\.tar)?\.\w+$", "", filename).rpartition("-")[2]


def _order(version: str) -> tuple[Any, ...]:
    """Orders versions as PEP 440 does, but for local parts."""
    if not (found := RELEASE.fullmatch(version)):
        return (-1, (), 0, 0, version)
    numbers = tuple(map(int, re.sub(r"(\.0+)+$", "", found[2]).split(".")))
    stage = STAGES.get((found[3] or "").lower(), POST) if found[3] else FINAL
    return (int(found[1] or 0), numbers, stage, int(found[4] or 0), version)


def _is_prerelease(version: str) -> bool:
    return 0 <= _order(version)[2] < FINAL


def _is_yanked(file: Json) -> bool:
    return file.get("yanked") not in (None, False)


def _released_at(files: list[Json]) -> str | None:
    return min((file["upload-time"] for file in files if file.get("upload-time")), default=None)


def _member(answer: Answer, name: str, kind: type) -> Any:
    """A part of an answer.

    :raises BadPayload: if it is not an answer of an index that speaks JSON.
    """
    if "html" in answer.headers.get("content-type", ""):
        raise BadPayload(_("%(url)s answers with HTML only; PEP 691's JSON is needed.") % {"url": answer.url})
    said = answer.json()
    if not isinstance(said, dict) or not isinstance(said.get(name), kind):
        raise BadPayload(
            _("%(url)s answered JSON without “%(name)s”. Is this a Python package index?")
            % {"url": answer.url, "name": name}
        )
    return said[name]


def _rows(answer: Answer, name: str) -> list[Json]:
    return [row for row in _member(answer, name, list) if isinstance(row, dict)]


def _text(row: Json, name: str, answer: Answer) -> str:
    if not isinstance(row.get(name), str):
        raise BadPayload(_("%(url)s lists something without “%(name)s”.") % {"url": answer.url, "name": name})
    return row[name]


def _remedy(error: SourceError) -> str:
    match error:
        case AuthFailed():
            return _(
                "Give user name and password of somebody who may read; for a token, `__token__` and the token."
            )
        case BadPayload() | NotThere():
            return _(
                "Give the address that pip's setting “index-url” has, of an index that speaks JSON (PEP 691)."
            )
        case _:
            return _(
                "See that the index runs, that this machine can reach it, and that the address is allowed."
            )
