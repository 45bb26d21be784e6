"""Any npm registry: packages become artifacts, their releases become versions."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

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
    Misconfigured,
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

NPM = "https://registry.npmjs.org"
PAGE = 250
SHORTHAND = re.compile(r"(?:(github|gitlab|bitbucket):)?([\w.-]+/[\w.-]+)")
HOSTS = {"github": "github.com", "gitlab": "gitlab.com", "bitbucket": "bitbucket.org"}

Json = dict[str, Any]


class Config(ConnectionConfig):
    """Where the registry is, how to sign in to it, and what to read."""

    base_url: HttpUrl = Field(
        HttpUrl(NPM),
        title="Address",
        description="Address of the registry, as npm's setting “registry” has it.",
    )
    token: SecretStr | None = Field(
        None,
        title="Token",
        description="A token that may read; empty for a registry that everybody may read.",
    )
    packages: list[str] = Field(
        min_length=1,
        max_length=1000,
        title="Packages",
        description="Names or patterns, such as @acme/pay or @acme/*. Patterns need a registry with a search.",
    )
    versions: Versions = 50


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package as the registry describes it."""

    name: str
    answer: Answer
    said: Json


class Npm(Connector[Config]):
    slug, label, monogram, category = "npm", "npm registry", "Np", Category.PACKAGES
    brings = "Packages with their versions, deprecations and repositories, from any npm registry"

    def __init__(self, config: Config, tools: Tools) -> None:
        super().__init__(config, tools)
        self.base = str(config.base_url).rstrip("/")
        headers = self.http.bearer(config.token.get_secret_value()) if config.token else None
        self.api = self.http.at(self.base, headers=headers)

    @resource(of=Artifact)
    async def packages(self) -> AsyncIterator[Artifact | Expect | Refused]:
        """Every selected package, tied to the repository that its newest version names."""
        names = await self.names()
        yield Expect(len(names))
        for name in names:
            found = await self.package(name)
            yield found if isinstance(found, Refused) else self.artifact(found)

    @resource(of=Version, incremental=True)
    async def versions(self, since: Json | None) -> AsyncIterator[Version | Mark | Refused]:
        """The newest versions of the packages that have changed."""
        names, scope = await self.names(), self.config.versions
        async for item in changed_versions(
            since, names=names, scope=scope, read=self.package, newest=self.newest
        ):
            yield item

    async def check(self) -> Health:
        """Say whether a registry answers, as whom we read, and whether the packages can be found."""
        checks: list[Check] = []
        try:
            if self.config.token:
                checks.append(await self.who())
            remedy = _("Correct “Packages”, or give a token that may read them.")
            found = await finds(
                await self.names(), wanted=self.config.packages, read=self.package, remedy=remedy
            )
            checks = [Check(label=_("Reached the registry"), ok=True), *checks, found]
        except SourceError as error:
            label = _("Not permitted") if isinstance(error, AuthFailed) else _("Not reached")
            checks.append(Check(label=label, ok=False, detail=error.message, remedy=_remedy(error)))
        return Health(checks)

    async def who(self) -> Check:
        """Whose the token is. Some registries keep that to themselves, others take a bad token for none."""
        answer = await self.api.get("-/whoami", accept=(200, 403, 404))
        if answer.status != 200:
            return Check(label=_("The registry does not tell whose the token is"), ok=True)
        said = answer.json()
        if name := said.get("username") if isinstance(said, dict) else None:
            return Check(label=_("Signed in as %(name)s") % {"name": name}, ok=True)
        return Check(
            label=_("Not signed in"),
            ok=False,
            detail=_("The registry does not know the token."),
            remedy=_("Give a token that is valid, or none if everybody may read."),
        )

    async def names(self) -> list[str]:
        """The selected packages; the search is asked only where full names do not say it all."""
        found = {name for name in self.config.packages if not has_glob(name)}
        for pattern in (name for name in self.config.packages if has_glob(name)):
            found |= await self.matching(pattern)
        return sorted(found)

    async def matching(self, pattern: str) -> set[str]:
        """The packages that fit a pattern. Where the search knows no scopes, it is asked for the word.

        :raises AuthFailed, Misconfigured: when there is no search for us, or it does not show everything.
        """
        scope = re.match(r"@([\w.~-]+)/", pattern)
        word = re.split(r"[*?\[/]", pattern)[0]
        try:
            for text in [f"scope:{scope[1]}", word] if scope else [word]:
                if names := {name for name in await self.search(text) if matches(name, [pattern])}:
                    return names
        except (AuthFailed, NotThere) as error:
            kind = AuthFailed if isinstance(error, AuthFailed) else Misconfigured
            raise kind(
                _("The registry has no search for us: %(why)s Give full names under “Packages”.")
                % {"why": error.message}
            ) from error
        return set()

    async def search(self, text: str) -> set[str]:
        """All that the search finds. Registries have limits of their own for a page, so only one that brings
        nothing new is the last."""
        listed, count, total = set[str](), 0, 0
        while True:
            asked = {"text": text, "size": PAGE, "from": count}
            answer = await self.api.get("-/v1/search", params=asked)
            rows = answer.rows("objects")
            said = answer.row().get("total")
            total = max(total, said) if isinstance(said, int) else total
            before = len(listed)
            listed |= {_name(row, answer) for row in rows}
            count += len(rows)
            if len(listed) == before:
                break
        if len(listed) < total:
            raise Misconfigured(
                _("The registry's search for “%(text)s” shows %(count)d of %(total)d packages. Give full names "
                  "under “Packages”.") % {"text": text, "count": len(listed), "total": total}
            )  # fmt: skip
        return listed

    async def package(self, name: str) -> Package | Refused:
        """What the registry has of a package; the client asks again with the ETag of its last answer."""
        try:
            answer = await self.api.get(quote(name, safe="@"), headers={"Accept": "application/json"})
            said = answer.row()
            if "unpublished" in (said.get("time") or {}):
                return Refused(external_id=name, reason=_("All its versions were unpublished."))
            for part in ("versions", "dist-tags"):
                if not isinstance(answer.row(part)[part], dict):
                    return Refused(external_id=name, reason=_("“%(part)s” is no object.") % {"part": part})
        except (NotThere, BadPayload) as error:  # the others can be read all the same
            return Refused(external_id=name, reason=error.message)
        return Package(name=name, answer=answer, said=said)

    def artifact(self, found: Package) -> Artifact | Refused:
        name, said = found.name, found.said
        latest = said["dist-tags"].get("latest", "")
        manifest = said["versions"].get(latest) or {}
        tags = {f"dist-tag/{tag}": version for tag, version in said["dist-tags"].items() if tag != "latest"}
        license_ = manifest.get("license")
        license_ = license_.get("type") if isinstance(license_, dict) else license_  # as packages had it once
        given = {"license": license_, "deprecated": manifest.get("deprecated"), **tags}
        return record_or_refusal(
            Artifact,
            name,
            as_of=found.answer.sent_at,
            url=self.page(name),
            keys=[f"npm:{name}"],
            about=_repository(manifest.get("repository") or said.get("repository")),
            name=name,
            description=str(manifest.get("description") or said.get("description") or "")[:10_000],
            labels={label: value for label, value in given.items() if value and isinstance(value, str)},
            tags=[word for word in manifest.get("keywords") or [] if isinstance(word, str)][:200],
            artifact_type=ArtifactType.PACKAGE,
            ecosystem="npm",
            latest_version=latest,
            latest_at=(said.get("time") or {}).get(latest),
        )

    def newest(self, found: Package) -> list[Version | Refused]:
        name, said = found.name, found.said
        times = said.get("time") or {}
        chosen = sorted(said["versions"], key=lambda version: times.get(version) or "", reverse=True)
        records = []
        for version in chosen[: self.config.versions]:
            manifest = said["versions"][version]
            dist, user = manifest.get("dist") or {}, manifest.get("_npmUser") or {}
            commit = manifest.get("gitHead") or ""
            about = [f"npm:{name}", *_repository(manifest.get("repository"))]
            records.append(
                record_or_refusal(
                    Version,
                    f"{name}@{version}",
                    as_of=found.answer.sent_at,
                    url=self.page(name, version),
                    about=[*about, *([f"commit:{commit}"] if re.fullmatch("[0-9a-f]{40}", commit) else [])],
                    title=f"{name} {version}",
                    actor=user.get("name") or "",
                    actor_email=user.get("email") or "",
                    version=version,
                    released_at=times.get(version),
                    digest=dist.get("integrity") or dist.get("shasum") or "",
                    commit=commit,
                    is_prerelease="-" in version.partition("+")[0],
                    is_deprecated=bool(manifest.get("deprecated")),
                    notes=str(manifest.get("deprecated") or ""),
                    size=dist.get("unpackedSize"),
                    aliases=[tag for tag, tagged in said["dist-tags"].items() if tagged == version],
                    raw=manifest,
                )
            )
        return records

    def page(self, name: str, version: str = "") -> str | None:
        """The package's page for people, where we know of one."""
        if self.base != NPM:
            return None
        return f"https://www.npmjs.com/package/{name}" + (f"/v/{version}" if version else "")


def _repository(said: Any) -> list[str]:
    """The key of `repository` in package.json: an address or `owner/name`, and the folder in it."""
    said = {"url": said} if isinstance(said, str) else said if isinstance(said, dict) else {}
    url, folder = (str(said.get(part) or "") for part in ("url", "directory"))
    url = url.partition("#")[0]
    if short := SHORTHAND.fullmatch(url):
        url = f"https://{HOSTS[short[1] or 'github']}/{short[2]}"
    folder = folder.removeprefix("./").strip("/")
    key = f"repo:{url}#{folder}" if folder else f"repo:{url}"
    return [key] if re.fullmatch(r"repo:\S{3,900}", key) else []


def _name(row: Any, answer: Answer) -> str:
    try:
        return str(row["package"]["name"])
    except (TypeError, KeyError):
        raise BadPayload(_("%(url)s found a package without a name.") % {"url": answer.url}) from None


def _remedy(error: SourceError) -> str:
    match error:
        case AuthFailed():
            return _("Give a token that may read these packages.")
        case BadPayload():
            return _("Give the address that npm's setting “registry” has.")
        case Misconfigured():
            return _("Correct the address, give full names, or have an administrator allow the address.")
        case _:
            return _("See that the registry runs and that this machine can reach it.")
