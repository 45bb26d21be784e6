"""Any registry of the OCI distribution API: repositories become artifacts, images become versions."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from pydantic import Field, HttpUrl, field_validator

from integrations.contract import (
    SELDOM,
    Answer,
    AuthFailed,
    BadPayload,
    Category,
    Check,
    ConnectionConfig,
    Connector,
    Expect,
    Known,
    Mark,
    Misconfigured,
    NotThere,
    Password,
    Refused,
    Tools,
    UserName,
    gettext_noop,
    has_glob,
    keys,
    matches,
    once,
    portions,
    record_or_refusal,
    resource,
)
from integrations.contract import gettext as _
from integrations.records import Artifact, ArtifactType, Version

INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
ACCEPT = {"Accept": ", ".join(INDEXES + MANIFESTS)}
# Where images say what they were built from, the standard label first.
SOURCE = ("org.opencontainers.image.source", "org.label-schema.vcs-url", "vcs-url")
REVISION = ("org.opencontainers.image.revision", "org.label-schema.vcs-ref", "vcs-ref")
# Signatures and attestations hang on tags of this form where a registry has no referrers.
ATTACHED = re.compile(r"sha256-[0-9a-f]{64}")
DOTTED = re.compile(r"v?(\d{1,9}(?:\.\d{1,9})+)(?:[-+._](.+))?", re.IGNORECASE)
PRERELEASE = re.compile(r"(alpha|beta|rc|pre|preview|dev|snapshot|nightly)", re.IGNORECASE)
# Labels of the base image come along. Where their own time is so much before the image's, they tell of the base.
INHERITED = timedelta(hours=24)
AT_ONCE = 8
CATALOG_PAGE = 500


class Config(ConnectionConfig):
    """Where the registry is, how to sign in to it, and what to read."""

    base_url: HttpUrl = Field(
        title="Address",
        description="Address of the registry, such as https://registry.acme.example; for Docker Hub "
        "https://registry-1.docker.io.",
    )
    username: UserName = ""
    password: Password = None
    repositories: list[str] = Field(
        default_factory=list,
        title="Repositories",
        description="Names or patterns, such as acme/payments or acme/*; ** crosses slashes. Leave empty for "
        "all. A registry that does not list its repositories needs full names.",
    )
    tags: int = Field(
        50,
        ge=1,
        le=1000,
        title="Tags",
        description="How many tags of each repository to read, the newest versions first.",
        json_schema_extra=SELDOM,
    )
    platform: str = Field(
        "linux/amd64",
        title="Platform",
        description="Of an image for several platforms, the one whose size, labels and time are shown.",
        json_schema_extra=SELDOM,
    )

    @field_validator("base_url")
    @classmethod
    def _is_the_root(cls, value: HttpUrl) -> HttpUrl:
        if (value.path or "/").rstrip("/") not in {"", "/v2"}:
            raise ValueError(
                _("The address of a registry has no path; name the repositories under “Repositories”.")
            )
        return value


@dataclass(frozen=True, kw_only=True)
class Image:
    """What a registry says of one digest."""

    digest: str
    as_of: datetime
    size: int
    built: datetime | None
    created: datetime | None
    platforms: list[str]
    labels: dict[str, str]
    parts: list[str] = field(default_factory=list)
    manifest: dict[str, Any] = field(repr=False)

    def named(self, labels: Iterable[str], pattern: str) -> str:
        """The first of these labels that looks as it should; what others hold is for people."""
        values = (self.labels.get(label, "") for label in labels)
        return next((value for value in values if re.fullmatch(pattern, value)), "")

    @property
    def is_inherited(self) -> bool:
        """Whether the labels are the base image's."""
        labelled = _time(self.labels.get("org.opencontainers.image.created"))
        return bool(self.built and labelled and self.built - labelled > INHERITED)

    @property
    def commit(self) -> str:
        return "" if self.is_inherited else self.named(REVISION, r"[0-9a-fA-F]{7,64}")

    def about(self) -> list[str]:
        """The keys of the source that it was built from."""
        source = "" if self.is_inherited else self.named(SOURCE, r"\S{3,900}")
        return [*keys("repo", source), *keys("commit", self.commit)]


class Oci(Connector[Config]):
    slug, label, monogram, category = "oci", "Container registry", "Oc", Category.REGISTRY
    brings = "Container images with their tags, platforms, sizes and labels, from any OCI registry"
    named = gettext_noop("the registry")
    if_refused = gettext_noop(
        "Give user name and password of somebody who may pull, and name the repositories."
    )
    if_elsewhere = gettext_noop("Give the address that `docker pull` uses, with https:// before it.")
    if_misconfigured = gettext_noop("Correct the address, or name the repositories.")

    def __init__(self, config: Config, tools: Tools) -> None:
        super().__init__(config, tools)
        self.base = str(config.base_url).rstrip("/").removesuffix("/v2")
        self.host = self.base.partition("://")[2]
        self.api = self.http.at(self.base, auth=self.authorize)
        self.basic = self.http.basic(config.username, config.password)
        self.wants_basic = False
        self.tokens: dict[str, tuple[float, str]] = {}
        self.listed: dict[str, list[str]] = {}

    # --- resources ----------------------------------------------------------------------------------------

    @resource(of=Artifact)
    async def repositories(self) -> AsyncIterator[Artifact | Expect | Refused]:
        """Every selected repository, tied to the source that its newest image names."""
        names = await self.names()
        yield Expect(len(names))
        for some in portions(names, AT_ONCE):
            for record in await asyncio.gather(*(self.repository(name) for name in some)):
                yield record

    @resource(of=Version, incremental=True, scope=("tags", "platform"))
    async def images(self, since: dict[str, Any] | None) -> AsyncIterator[Version | Mark | Refused]:
        """The images that tags point to, one for each digest; only of repositories whose tags have moved."""
        names = await self.names()
        known = Known(since, names=names)
        for name in names:
            tags = await self.tags_of(name)
            if isinstance(tags, Refused):
                yield tags
                continue
            heads = dict(
                zip(tags, await asyncio.gather(*(self.head(name, tag) for tag in tags)), strict=True)
            )
            state = sorted(heads.items(), key=str)
            if known.has(name, state):
                continue
            by_digest: dict[str, list[str]] = {}
            for tag, digest in heads.items():
                if isinstance(digest, Refused):
                    yield digest
                else:
                    by_digest.setdefault(digest, []).append(tag)
            for some in portions(by_digest, AT_ONCE):
                for image in await asyncio.gather(*(self.image(name, digest) for digest in some)):
                    if isinstance(image, Image):
                        yield self.version(name, image, by_digest[image.digest])
                    else:
                        yield image
            yield known.mark(name, state)

    async def repository(self, name: str) -> Artifact | Refused:
        tags = await self.tags_of(name)
        if isinstance(tags, Refused):
            return tags
        newest = None
        if tags:
            digest = await self.head(name, tags[0])
            newest = digest if isinstance(digest, Refused) else await self.image(name, digest)
        found = newest if isinstance(newest, Image) else None
        return record_or_refusal(
            Artifact,
            name,
            as_of=found.as_of if found else None,
            keys=[f"image:{self.host}/{name}"],
            about=found.about() if found else [],
            name=name,
            description=found.labels.get("org.opencontainers.image.description", "") if found else "",
            artifact_type=ArtifactType.IMAGE,
            ecosystem="oci",
            latest_version=tags[0] if tags else "",
            latest_at=found.created if found else None,
        )

    def version(self, name: str, image: Image, tags: list[str]) -> Version | Refused:
        best, *others = sorted(tags, key=_rank, reverse=True)
        digests = [image.digest, *image.parts]
        return record_or_refusal(
            Version,
            f"{name}@{image.digest}",
            as_of=image.as_of,
            about=[f"image:{self.host}/{name}", *(f"image-digest:{d}" for d in digests), *image.about()],
            title=f"{name}:{best}",
            version=best,
            aliases=others,
            released_at=image.created,
            digest=image.digest,
            commit=image.commit,
            is_prerelease=bool((found := DOTTED.fullmatch(best)) and PRERELEASE.match(found[2] or "")),
            size=image.size,
            platforms=image.platforms,
            labels=image.labels,
            raw=image.manifest,
        )

    # --- health -------------------------------------------------------------------------------------------

    async def checks(self) -> AsyncIterator[Check]:
        """Say whether a registry answers, as whom we read, what it lists, and whether it lets us pull."""
        await self.api.get("v2/", headers={"Accept": "application/json"})
        yield Check(_("Reached the registry"))
        if self.config.username and (self.wants_basic or self.tokens):
            yield Check(_("Signed in as %(name)s") % {"name": self.config.username})
        else:
            yield Check(_("Reads without signing in"))
        names = await self.names()
        if not names:
            remedy = _("Correct “Repositories”, or give the user the right to see some.")
            yield Check.failed(_("No repository is selected"), remedy=remedy)
            return
        yield Check(_("Sees %(count)d repositories") % {"count": len(names)})
        tags, shown = await self.tags_of(names[0]), {"name": names[0]}
        if isinstance(tags, Refused):
            remedy = _("Write its name as `docker pull` has it, without host and tag.")
            yield Check.failed(_("Cannot read %(name)s") % shown, tags.reason, remedy)
        else:
            yield Check(_("Reads the tags of %(name)s") % shown)

    # --- asking -------------------------------------------------------------------------------------------

    async def authorize(self, url: str, challenge: str) -> Mapping[str, str]:
        """The header that the registry wants: a token for what `url` is about, or the password itself.

        A token is kept until it expires. The password goes only where the registry's own challenge sends it,
        and never from an encrypted connection to an unencrypted one.
        """
        scope = _scope(url)
        bearer = re.search(r"\bbearer\s+(.*)", challenge, re.IGNORECASE | re.DOTALL)
        if bearer:
            given = dict(re.findall(r'(\w+)\s*=\s*"([^"]*)"', bearer[1]))
            self.tokens[scope] = await self.token(given)
        elif re.search(r"\bbasic\b", challenge, re.IGNORECASE):
            self.wants_basic = True
        until, token = self.tokens.get(scope, (0.0, ""))
        if time.monotonic() < until:
            return self.http.bearer(token)
        return self.basic if self.wants_basic else {}

    async def token(self, challenge: Mapping[str, str]) -> tuple[float, str]:
        """Fetch a token from where a challenge says; gives until when it holds, and the token."""
        realm = challenge.get("realm", "")
        if self.base.startswith("https:") and not realm.startswith("https:"):
            raise Misconfigured(
                _("%(base)s sends us to %(realm)s to sign in, which is not encrypted. The registry's token "
                  "realm must begin with https.") % {"base": self.base, "realm": realm or "?"}
            )  # fmt: skip
        asked = {name: challenge.get(name) for name in ("service", "scope")}
        said = (await self.http.at(realm, headers=self.basic).get(realm, params=asked)).row()
        token = said.get("token") or said.get("access_token")
        if not isinstance(token, str):
            raise BadPayload(_("%(realm)s answered without a token.") % {"realm": realm})
        lasts = said.get("expires_in")
        return time.monotonic() + 0.8 * (lasts if isinstance(lasts, (int, float)) else 60), token

    async def names(self) -> list[str]:
        """The selected repositories; the registry's list is read only where full names do not say it all.

        :raises AuthFailed, Misconfigured: when the registry keeps its list to itself.
        """
        full = [name for name in self.config.repositories if not has_glob(name)]
        patterns = [name for name in self.config.repositories if has_glob(name)]
        if full and not patterns:
            return list(dict.fromkeys(full))
        found = set(full)
        try:
            async for page in self.api.pages("v2/_catalog", params={"n": CATALOG_PAGE}):
                listed = _list(page, "repositories")
                found |= {name for name in listed if not patterns or matches(name, patterns)}
        except (AuthFailed, NotThere) as error:
            kind = AuthFailed if isinstance(error, AuthFailed) else Misconfigured
            raise kind(
                _("The registry does not list its repositories to us: %(why)s Name them under "
                  "“Repositories”, or give the user the right to read the catalog "
                  "(scope registry:catalog:*).")
                % {"why": error.message}
            ) from error  # fmt: skip
        return sorted(found)

    async def tags_of(self, name: str) -> list[str] | Refused:
        """The tags that we read, the best first; once a run."""
        if name not in self.listed:
            try:
                pages = [
                    page async for page in self.api.pages(f"v2/{_quoted(name)}/tags/list", params={"n": 1000})
                ]
            except NotThere as error:
                return Refused(name, error.message)
            tags = {tag for page in pages for tag in _list(page, "tags")}
            ranked = sorted((tag for tag in tags if not ATTACHED.match(tag)), key=_rank, reverse=True)
            self.listed[name] = ranked[: self.config.tags]
        return self.listed[name]

    async def head(self, name: str, tag: str) -> str | Refused:
        """The digest that a tag points to. HEAD is cheap, and no pull where pulls are counted."""
        path = f"v2/{_quoted(name)}/manifests/{_quoted(tag)}"
        answer = await self.api.request("HEAD", path, headers=ACCEPT, accept=(200, 404))
        if answer.status == 404:
            return Refused(f"{name}:{tag}", _("The registry lists this tag and does not know it."))
        if digest := answer.headers.get("docker-content-digest"):
            return digest
        return "sha256:" + hashlib.sha256((await self.api.get(path, headers=ACCEPT)).body).hexdigest()

    @once
    async def image(self, name: str, digest: str) -> Image | Refused:
        """What the manifest and the configuration of a digest say."""
        answer = await self.content(name, "manifests", digest)
        index = manifest = answer.json()
        platforms: dict[str, dict[str, Any]] = {}
        if manifest.get("mediaType") in INDEXES or "manifests" in manifest:
            parts = [part for part in _list(answer, "manifests") if _platform(part.get("platform"))]
            platforms = {_platform(part["platform"]): part for part in parts}
            if not platforms:
                return Refused(f"{name}@{digest}", _("The index names no image."))
            main = platforms.get(self.config.platform) or parts[0]
            manifest = (await self.content(name, "manifests", main["digest"])).json()
        if not isinstance(manifest.get("layers"), list) or not isinstance(manifest.get("config"), dict):
            return Refused(
                f"{name}@{digest}",
                _("A manifest of type %(type)s (schema %(schema)s) is not supported.")
                % {"type": manifest.get("mediaType", "?"), "schema": manifest.get("schemaVersion", "?")},
            )
        config = (await self.content(name, "blobs", manifest["config"]["digest"])).json()
        config = config if isinstance(config, dict) else {}
        labels = {
            **((config.get("config") or {}).get("Labels") or {}),
            **(manifest.get("annotations") or {}),
            **(index.get("annotations") or {}),
        }
        own = _platform(
            {"os": config.get("os"), "architecture": config.get("architecture"), **_variant(config)}
        )
        return Image(
            digest=digest,
            as_of=answer.sent_at,
            size=sum(part.get("size") or 0 for part in [manifest["config"], *manifest["layers"]]),
            built=_time(config.get("created")),
            created=_time(config.get("created")) or _time(labels.get("org.opencontainers.image.created")),
            platforms=sorted(platforms) or ([own] if own else []),
            labels={key: value for key, value in list(labels.items())[:200] if isinstance(value, str)},
            parts=[part["digest"] for part in platforms.values()],
            manifest=index,
        )

    async def content(self, name: str, kind: str, digest: str) -> Answer:
        """A manifest or blob by its digest.

        :raises BadPayload: if it is not what the digest promises.
        """
        answer = await self.api.get(f"v2/{_quoted(name)}/{kind}/{_quoted(digest)}", headers=ACCEPT)
        algorithm, _colon, expected = digest.partition(":")
        if algorithm in {"sha256", "sha512"} and hashlib.new(algorithm, answer.body).hexdigest() != expected:
            raise BadPayload(
                _("%(url)s answered something else than its digest promises.") % {"url": answer.url}
            )
        return answer


def _list(answer: Answer, name: str) -> list[Any]:
    """A list in an answer; registries say null for an empty one."""
    return [] if answer.value(name) is None else answer.rows(name)


def _quoted(part: str) -> str:
    return quote(part, safe="/:")


def _scope(url: str) -> str:
    """What a token for this address must reach."""
    found = re.search(r"/v2/(.+?)/(?:tags/list|manifests/|blobs/)", url)
    return found[1] if found else "catalog" if "/v2/_catalog" in url else ""


def _rank(tag: str) -> tuple[Any, ...]:
    """Orders tags from the least to the most telling: others, numbers, `latest`, versions by number."""
    if found := DOTTED.fullmatch(tag):
        numbers = tuple(int(part) for part in found[1].split("."))
        return (3, numbers, not found[2], found[2] or "", tag)
    if tag == "latest":
        return (2,)
    if tag.isdecimal() and len(tag) <= 18:
        return (1, int(tag))
    return (0, tag)


def _platform(said: Mapping[str, Any] | None) -> str:
    """A platform as people write it; empty for what is none, such as an attestation."""
    parts = [str((said or {}).get(name) or "") for name in ("os", "architecture", "variant")]
    return "" if "unknown" in parts or not all(parts[:2]) else "/".join(part for part in parts if part)


def _variant(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"variant": config["variant"]} if config.get("variant") else {}


def _time(text: Any) -> datetime | None:
    """A time of creation; reproducible builds write one that says nothing."""
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment if moment.year >= 2000 else None
