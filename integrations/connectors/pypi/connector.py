"""Any Python package index: projects become artifacts, their releases become versions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.parser import BytesParser
from functools import cached_property
from typing import Any
from urllib.parse import urljoin

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion
from packaging.version import Version as Parsed
from pydantic import Field, HttpUrl

from integrations.contract import (
    Answer,
    BadPayload,
    HttpClient,
    NotThere,
    Password,
    Refused,
    UserName,
    gettext_noop,
    keys,
    matches,
)
from integrations.contract import gettext as _
from integrations.packages import Package, PackagesConfig, PackagesConnector
from integrations.records import Artifact, Version

PYPI = "https://pypi.org/simple"
SIMPLE = {"Accept": "application/vnd.pypi.simple.v1+json"}
SOURCE_LABELS = ("source", "sourcecode", "repository", "code", "github", "gitlab")
A_HOST_OF_REPOSITORIES = re.compile(
    r"https?://(?:www\.)?(?:github|gitlab|bitbucket|codeberg)\.\w+/[^/]+/[^/]+/?"
)

Json = dict[str, Any]


class Config(PackagesConfig):
    """Where the index is, how to sign in to it, and what to read."""

    base_url: HttpUrl = Field(
        HttpUrl(PYPI),
        title="Address",
        description="Address of the index, as pip's setting “index-url” has it.",
    )
    username: UserName = ""
    password: Password = None


@dataclass(frozen=True, kw_only=True)
class Project(Package):
    """A project as the index lists it: its files by version, the newest version first."""

    files: dict[str, list[Json]]

    @property
    def latest(self) -> str:
        """The newest version that is no candidate and has not been yanked, else the newest."""
        good = (
            v for v, files in self.files.items() if not _is_prerelease(v) and not all(map(_is_yanked, files))
        )
        return next(good, next(iter(self.files), ""))


class PyPI(PackagesConnector[Config, Project]):
    slug, label, monogram, ecosystem = "pypi", "Python package index", "Py", "pypi"
    brings = "Packages with their versions, yanked ones and repositories, from any Python index"
    named = gettext_noop("the index")
    if_refused = gettext_noop(
        "Give user name and password of somebody who may read; for a token, `__token__` and the token."
    )
    if_elsewhere = gettext_noop(
        "Give the address that pip's setting “index-url” has, of an index that speaks JSON (PEP 691)."
    )

    @cached_property
    def api(self) -> HttpClient:
        headers = self.http.basic(self.config.username, self.config.password)
        return self.http.at(self.config.base_url, headers=headers)

    def normal(self, name: str) -> str:
        return canonicalize_name(name.strip())

    async def matching(self, patterns: list[str]) -> set[str]:
        patterns = [pattern.lower() for pattern in patterns]
        answer = await self.simple("")
        listed = (self.normal(_text(row, "name", answer)) for row in answer.rows("projects"))
        return {name for name in listed if matches(name, patterns)}

    async def package(self, name: str) -> Project | Refused:
        try:
            answer = await self.simple(f"{name}/")
        except NotThere as error:
            return Refused(external_id=name, reason=error.message)
        files: dict[str, list[Json]] = {}
        for file in answer.rows("files"):
            files.setdefault(_version_of(_text(file, "filename", answer)), []).append(file)
        newest = sorted(files, key=_order, reverse=True)
        return Project(name=name, answer=answer, files={version: files[version] for version in newest})

    async def simple(self, path: str) -> Answer:
        """An answer of the index as PEP 691 has it."""
        answer = await self.api.get(f"{self.api.address}/{path}", headers=SIMPLE)
        if "html" in answer.headers.get("content-type", ""):
            raise BadPayload(
                _("%(url)s answers with HTML only; PEP 691's JSON is needed.") % {"url": answer.url}
            )
        return answer

    async def metadata(self, found: Project) -> Json:
        """Summary and links of the newest version: of its metadata file, else of PyPI's own JSON."""
        for file in found.files.get(found.latest, []):
            if file.get("core-metadata") or file.get("dist-info-metadata"):
                answer = await self.api.get(urljoin(found.answer.url, file["url"]) + ".metadata")
                said = BytesParser().parsebytes(answer.body, headersonly=True)
                if self.normal(said.get("Name", "")) != found.name:
                    raise BadPayload(_("%(url)s is no metadata of this package.") % {"url": answer.url})
                links = [line.partition(",") for line in said.get_all("Project-URL", [])]
                return {
                    "summary": said.get("Summary"),
                    "home_page": said.get("Home-page"),
                    "license": said.get("License-Expression") or said.get("License"),
                    "project_urls": {label.strip(): url.strip() for label, _comma, url in links},
                }
        if not self.api.address.endswith("/simple"):
            return {}
        address = f"{self.api.address.removesuffix('/simple')}/pypi/{found.name}/json"
        answer = await self.api.get(address, accept=(200, 404))
        return answer.value("info", of=dict) if answer.status == 200 else {}

    async def artifact(self, found: Project) -> Artifact | Refused:
        said = await self.metadata(found)
        return self.artifact_of(
            found,
            about=_repository(said),
            description=said.get("summary") or "",
            labels={"license": said["license"]} if 0 < len(said.get("license") or "") < 100 else {},
            latest_version=found.latest,
            latest_at=_released_at(found.files.get(found.latest, [])),
        )

    def newest(self, found: Project) -> list[str]:
        return list(found.files)

    def version(self, found: Project, version: str) -> Version | Refused:
        files = found.files[version]
        sizes = [file.get("size") for file in files]
        python = next((file["requires-python"] for file in files if file.get("requires-python")), "")
        return self.version_of(
            found,
            version,
            about=[],
            released_at=_released_at(files),
            is_prerelease=_is_prerelease(version),
            is_deprecated=all(map(_is_yanked, files)),
            notes=next((file["yanked"] for file in files if isinstance(file.get("yanked"), str)), ""),
            size=sum(sizes) if all(isinstance(size, int) for size in sizes) else None,
            labels={"requires-python": python} if python else {},
            raw={"files": files},
        )

    def page(self, name: str, version: str = "") -> str | None:
        return f"https://pypi.org/project/{name}/{version}" if self.api.address == PYPI else None


def _repository(said: Json) -> list[str]:
    """The key of the repository that the links name; a home page is one only where repositories live."""
    links = {
        re.sub(r"[\W_]+", "", label).lower(): url for label, url in (said.get("project_urls") or {}).items()
    }
    homes = [url for url in (links.get("homepage"), said.get("home_page")) if url]
    found = [links[label] for label in SOURCE_LABELS if links.get(label)]
    found += [url for url in homes if A_HOST_OF_REPOSITORIES.fullmatch(url)]
    return keys("repo", *(url.partition("#")[0] for url in found))[:1]


def _version_of(filename: str) -> str:
    """The version in a file's name: wheels and eggs have it second, source distributions last."""
    if filename.endswith((".whl", ".egg", ".exe")):
        return [*filename.split("-"), ""][1] or filename
    return re.sub(r"(\.tar)?\.\w+$", "", filename).rpartition("-")[2]


def _order(version: str) -> tuple[bool, Any]:
    """Orders versions as PEP 440 does; what is none by it comes before all others."""
    try:
        return (True, Parsed(version))
    except InvalidVersion:
        return (False, version)


def _is_prerelease(version: str) -> bool:
    is_usual, parsed = _order(version)
    return is_usual and parsed.is_prerelease


def _is_yanked(file: Json) -> bool:
    return file.get("yanked") not in (None, False)


def _released_at(files: list[Json]) -> str | None:
    return min((file["upload-time"] for file in files if file.get("upload-time")), default=None)


def _text(row: Any, name: str, answer: Answer) -> str:
    if not isinstance(row, dict) or not isinstance(row.get(name), str):
        raise answer.other(name)
    return row[name]
