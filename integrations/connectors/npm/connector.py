"""Any npm registry: packages become artifacts, their releases become versions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote

from pydantic import Field, HttpUrl

from integrations.contract import (
    AuthFailed,
    BadPayload,
    Check,
    HttpClient,
    Misconfigured,
    NotThere,
    Refused,
    Token,
    gettext_noop,
    keys,
    matches,
)
from integrations.contract import gettext as _
from integrations.packages import Package, PackagesConfig, PackagesConnector
from integrations.records import Artifact, Version

NPM = "https://registry.npmjs.org"
PAGE = 250
SHORTHAND = re.compile(r"(?:(github|gitlab|bitbucket):)?([\w.-]+/[\w.-]+)")
HOSTS = {"github": "github.com", "gitlab": "gitlab.com", "bitbucket": "bitbucket.org"}

Json = dict[str, Any]


class Config(PackagesConfig):
    """Where the registry is, how to sign in to it, and what to read."""

    base_url: HttpUrl = Field(
        HttpUrl(NPM),
        title="Address",
        description="Address of the registry, as npm's setting “registry” has it.",
    )
    token: Token = None


@dataclass(frozen=True, kw_only=True)
class Described(Package):
    """A package and what the registry says of it."""

    said: Json


class Npm(PackagesConnector[Config, Described]):
    slug, label, monogram, ecosystem = "npm", "npm registry", "Np", "npm"
    brings = "Packages with their versions, deprecations and repositories, from any npm registry"
    named = gettext_noop("the registry")
    if_refused = gettext_noop("Give a token that may read these packages.")
    if_elsewhere = gettext_noop("Give the address that npm's setting “registry” has.")

    @cached_property
    def api(self) -> HttpClient:
        return self.http.at(self.config.base_url, headers=self.http.bearer(self.config.token))

    async def who(self) -> list[Check]:
        """Whose the token is. Some registries keep that to themselves, others take a bad token for none."""
        if not self.config.token:
            return []
        answer = await self.api.get("-/whoami", accept=(200, 403, 404))
        if answer.status != 200:
            return [Check(label=_("The registry does not tell whose the token is"))]
        if name := answer.row().get("username"):
            return [Check(label=_("Signed in as %(name)s") % {"name": name})]
        detail = _("The registry does not know the token.")
        remedy = _("Give a token that is valid, or none if everybody may read.")
        return [Check.failed(_("Not signed in"), detail, remedy)]

    async def matching(self, patterns: list[str]) -> set[str]:
        """The packages that fit a pattern. Where the search knows no scopes, it is asked for the word.

        :raises AuthFailed, Misconfigured: when there is no search for us, or it does not show everything.
        """
        found = set[str]()
        for pattern in patterns:
            scope = re.match(r"@([\w.~-]+)/", pattern)
            word = re.split(r"[*?\[/]", pattern)[0]
            try:
                for text in [f"scope:{scope[1]}", word] if scope else [word]:
                    if names := {name for name in await self.search(text) if matches(name, [pattern])}:
                        found |= names
                        break
            except (AuthFailed, NotThere) as error:
                kind = AuthFailed if isinstance(error, AuthFailed) else Misconfigured
                raise kind(
                    _("The registry has no search for us: %(why)s Give full names under “Packages”.")
                    % {"why": error.message}
                ) from error
        return found

    async def search(self, text: str) -> set[str]:
        """All that the search finds. Registries have limits of their own for a page, so only one that brings
        nothing new is the last."""
        listed, count, total = set[str](), 0, 0
        while True:
            asked = {"text": text, "size": PAGE, "from": count}
            answer = await self.api.get("-/v1/search", params=asked)
            rows = answer.rows("objects")
            total = max(total, answer.row().get("total") or 0)
            before = len(listed)
            try:
                listed |= {row["package"]["name"] for row in rows}
            except (TypeError, KeyError):
                raise answer.other("package.name") from None
            count += len(rows)
            if len(listed) == before:
                break
        if len(listed) < total:
            raise Misconfigured(
                _("The registry's search for “%(text)s” shows %(count)d of %(total)d packages. Give full names "
                  "under “Packages”.") % {"text": text, "count": len(listed), "total": total}
            )  # fmt: skip
        return listed

    async def package(self, name: str) -> Described | Refused:
        try:
            answer = await self.api.get(quote(name, safe="@"), headers={"Accept": "application/json"})
            said = answer.row()
            if "unpublished" in (said.get("time") or {}):
                return Refused(external_id=name, reason=_("All its versions were unpublished."))
            for part in ("versions", "dist-tags"):
                answer.value(part, of=dict)
        except (NotThere, BadPayload) as error:  # the others can be read all the same
            return Refused(external_id=name, reason=error.message)
        return Described(name=name, answer=answer, said=said)

    async def artifact(self, found: Described) -> Artifact | Refused:
        said = found.said
        latest = said["dist-tags"].get("latest", "")
        manifest = said["versions"].get(latest) or {}
        tags = {f"dist-tag/{tag}": version for tag, version in said["dist-tags"].items() if tag != "latest"}
        license_ = manifest.get("license")
        license_ = license_.get("type") if isinstance(license_, dict) else license_  # as packages had it once
        given = {"license": license_, "deprecated": manifest.get("deprecated"), **tags}
        return self.artifact_of(
            found,
            about=_source(manifest.get("repository") or said.get("repository"), manifest),
            description=str(manifest.get("description") or said.get("description") or "")[:10_000],
            labels={label: value for label, value in given.items() if value and isinstance(value, str)},
            tags=[word for word in manifest.get("keywords") or [] if isinstance(word, str)][:200],
            latest_version=latest,
            latest_at=(said.get("time") or {}).get(latest),
        )

    def newest(self, found: Described) -> list[str]:
        times = found.said.get("time") or {}
        return sorted(found.said["versions"], key=lambda version: times.get(version) or "", reverse=True)

    def version(self, found: Described, version: str) -> Version | Refused:
        manifest = found.said["versions"][version]
        dist, user = manifest.get("dist") or {}, manifest.get("_npmUser") or {}
        return self.version_of(
            found,
            version,
            about=_source(manifest.get("repository"), manifest),
            actor=user.get("name") or "",
            actor_email=user.get("email") or "",
            released_at=(found.said.get("time") or {}).get(version),
            digest=dist.get("integrity") or dist.get("shasum") or "",
            commit=manifest.get("gitHead") or "",
            is_prerelease="-" in version.partition("+")[0],
            is_deprecated=bool(manifest.get("deprecated")),
            notes=str(manifest.get("deprecated") or ""),
            size=dist.get("unpackedSize"),
            aliases=[tag for tag, tagged in found.said["dist-tags"].items() if tagged == version],
            raw=manifest,
        )

    def page(self, name: str, version: str = "") -> str | None:
        if self.api.address != NPM:
            return None
        return f"https://www.npmjs.com/package/{name}" + (f"/v/{version}" if version else "")


def _source(said: Any, manifest: Json) -> list[str]:
    """The keys of what a version was made of: its repository and the commit that it was packed from."""
    commit = str(manifest.get("gitHead") or "")
    return [*_repository(said), *([f"commit:{commit}"] if re.fullmatch("[0-9a-f]{40}", commit) else [])]


def _repository(said: Any) -> list[str]:
    """The key of `repository` in package.json: an address or `owner/name`, and the folder in it."""
    said = {"url": said} if isinstance(said, str) else said if isinstance(said, dict) else {}
    url, folder = (str(said.get(part) or "") for part in ("url", "directory"))
    url = url.partition("#")[0]
    if short := SHORTHAND.fullmatch(url):
        url = f"https://{HOSTS[short[1] or 'github']}/{short[2]}"
    folder = folder.removeprefix("./").strip("/")
    return keys("repo", f"{url}#{folder}" if folder and url else url)
