"""What connectors of package registries share: what is selected, what has changed, and the test of it. Pure."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import Field, HttpUrl

from integrations.contract import (
    SELDOM,
    Answer,
    Category,
    Check,
    ConnectionConfig,
    Connector,
    Expect,
    Known,
    Mark,
    Refused,
    has_glob,
    ngettext,
    record_or_refusal,
    resource,
)
from integrations.contract import gettext as _
from integrations.records import Artifact, ArtifactType, Version


class PackagesConfig(ConnectionConfig):
    """Where the registry is, and what to read."""

    base_url: HttpUrl = Field(title="Address", description="Address of the registry.")
    packages: list[str] = Field(
        min_length=1,
        max_length=1000,
        title="Packages",
        description="Names or patterns, such as acme-pay, acme-* or @acme/*. For patterns the registry needs a list, "
        "or a search.",
    )
    versions: int = Field(
        50,
        ge=1,
        le=1000,
        title="Versions",
        description="How many of a package's newest versions are read.",
        json_schema_extra=SELDOM,
    )


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package as the registry describes it, and the answer that says so."""

    name: str
    answer: Answer = field(repr=False)


C = TypeVar("C", bound=PackagesConfig)
P = TypeVar("P", bound=Package)


class PackagesConnector(Connector[C], Generic[C, P]):
    """A registry of packages that have versions.

    :cvar ecosystem: the scheme of its packages' identity keys.
    """

    category = Category.PACKAGES
    ecosystem: ClassVar[str]

    @resource(of=Artifact)
    async def packages(self) -> AsyncIterator[Artifact | Expect | Refused]:
        """Every selected package, tied to the repository that its newest version names."""
        names = await self.names()
        yield Expect(len(names))
        for name in names:
            found = await self.package(name)
            yield found if isinstance(found, Refused) else await self.artifact(found)

    @resource(of=Version, incremental=True, scope=("versions",))
    async def versions(self, since: dict[str, Any] | None) -> AsyncIterator[Version | Mark | Refused]:
        """The newest versions of the packages that have changed."""
        names = await self.names()
        known = Known(since, names=names)
        for name in names:
            found = await self.package(name)
            if isinstance(found, Refused):
                yield found
            elif not known.has(name, found.answer.body):
                for version in self.newest(found)[: self.config.versions]:
                    yield self.version(found, version)
                yield known.mark(name, found.answer.body)

    async def checks(self) -> AsyncIterator[Check]:
        """Say whether a registry answers, as whom we read, and whether the packages can be found."""
        who = await self.who()
        names = await self.names()
        first = await self.package(names[0]) if names else None
        yield Check(label=_("Reached %(tool)s") % {"tool": _(self.named)})
        for check in who:
            yield check
        if first is None or isinstance(first, Refused):
            yield Check.failed(
                _("No package is found"),
                first.reason if first else ", ".join(self.config.packages),
                _("Correct “Packages” and the address, or sign in as somebody who may read them."),
            )
        else:
            label = ngettext("Finds %(count)d package", "Finds %(count)d packages", len(names))
            yield Check(label=label % {"count": len(names)})

    async def who(self) -> list[Check]:
        """As whom we read, where the registry tells."""
        return []

    async def names(self) -> list[str]:
        """The selected packages; the registry is asked only where full names do not say it all."""
        given = self.config.packages
        patterns = [name for name in given if has_glob(name)]
        named = {self.normal(name) for name in given if not has_glob(name)}
        return sorted(named | await self.matching(patterns) if patterns else named)

    def normal(self, name: str) -> str:
        """A name as the registry spells it."""
        return name

    def artifact_of(self, found: Package, **fields: Any) -> Artifact | Refused:
        """The record of a package."""
        return record_or_refusal(
            Artifact,
            found.name,
            as_of=found.answer.sent_at,
            url=self.page(found.name),
            keys=[f"{self.ecosystem}:{found.name}"],
            name=found.name,
            artifact_type=ArtifactType.PACKAGE,
            ecosystem=self.ecosystem,
            **fields,
        )

    def version_of(
        self, found: Package, version: str, *, about: list[str], **fields: Any
    ) -> Version | Refused:
        """The record of a version.

        :param about: keys besides the package's own.
        """
        return record_or_refusal(
            Version,
            f"{found.name}@{version}",
            as_of=found.answer.sent_at,
            url=self.page(found.name, version),
            about=[f"{self.ecosystem}:{found.name}", *about],
            title=f"{found.name} {version}",
            version=version,
            **fields,
        )

    @abstractmethod
    async def matching(self, patterns: list[str]) -> set[str]:
        """The packages that fit any of the patterns."""

    @abstractmethod
    async def package(self, name: str) -> P | Refused:
        """What the registry has of a package; the client asks again with the ETag of its last answer."""

    @abstractmethod
    async def artifact(self, found: P) -> Artifact | Refused:
        """The record of a package, made by `artifact_of`."""

    @abstractmethod
    def newest(self, found: P) -> list[str]:
        """The versions of a package, the newest first."""

    @abstractmethod
    def version(self, found: P, version: str) -> Version | Refused:
        """The record of a version, made by `version_of`."""

    @abstractmethod
    def page(self, name: str, version: str = "") -> str | None:
        """The page for people, where we know of one."""
