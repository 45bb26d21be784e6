"""Any LDAP directory: its people become users, its groups teams with their members."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field

from base.text import slugify_path
from integrations.contract import (
    SELDOM,
    Category,
    Check,
    ConnectionConfig,
    Connector,
    Directory,
    Entry,
    Password,
    Refused,
    gettext_noop,
    keys,
    record_or_refusal,
    resource,
)
from integrations.contract import gettext as _
from integrations.records import Team, User

PEOPLE = "(|(objectClass=inetOrgPerson)(&(objectClass=user)(!(objectClass=computer))))"
GROUPS = (
    "(|(objectClass=groupOfNames)(objectClass=groupOfUniqueNames)(objectClass=posixGroup)(objectClass=group))"
)
LOGIN = ("uid", "sAMAccountName", "cn")
IDS = ("entryUUID", "objectGUID")
MEMBERS = ("member", "uniqueMember")


class Config(ConnectionConfig):
    """Where the directory is, how to sign in to it, and what of it to read."""

    address: str = Field(
        min_length=1,
        max_length=500,
        title="Address",
        description="As ldaps://ldap.acme.example, perhaps with a port.",
        json_schema_extra={"placeholder": "ldaps://ldap.acme.example"},
    )
    start_tls: bool = Field(
        False,
        title="StartTLS",
        description="Encrypt an ldap:// connection once it stands; ldaps:// is encrypted.",
    )
    user: str = Field(
        "",
        max_length=500,
        title="User",
        description="Its whole name (bind DN). Leave empty to read as nobody.",
    )
    password: Password = None
    base: str = Field(
        min_length=1,
        max_length=500,
        title="Below",
        description="The part of the directory that is read (base DN).",
        json_schema_extra={"placeholder": "dc=acme,dc=example"},
    )
    people: str = Field(
        PEOPLE,
        min_length=1,
        max_length=1000,
        title="People",
        description="A filter that finds them.",
        json_schema_extra=SELDOM,
    )
    groups: str = Field(
        GROUPS,
        min_length=1,
        max_length=1000,
        title="Groups",
        description="A filter that finds them.",
        json_schema_extra=SELDOM,
    )
    login: str = Field(
        "",
        max_length=100,
        title="Attribute of the login name",
        description="Leave empty for uid, else sAMAccountName, else cn.",
        json_schema_extra=SELDOM,
    )


class Ldap(Connector[Config]):
    slug, label, monogram, category = "ldap", "LDAP directory", "Ld", Category.PEOPLE
    named = gettext_noop("the directory")
    brings = "People, and groups with their members, from OpenLDAP, Active Directory and others"

    async def checks(self) -> AsyncIterator[Check]:
        """Sign in, and see whether there is anybody."""
        async with self.directory() as directory:
            user = self.config.user
            yield Check(_("Signed in as %s") % user if user else _("Reached"))
            for what, query in ((_("people"), self.config.people), (_("groups"), self.config.groups)):
                async with aclosing(directory.pages(self.config.base, query, ["cn"])) as pages:
                    if await anext(pages):
                        yield Check(_("Finds %s") % what)
                        continue
                remedy = _("Correct the part that is read or the filter, or let this user read there.")
                yield Check.failed(_("Finds no %s") % what, remedy=remedy)

    @resource(of=User)
    async def people(self) -> AsyncIterator[User | Refused]:
        """Everybody whom the filter finds."""
        async with self.directory() as directory:
            at = datetime.now(UTC)
            wanted = [*self.logins, *IDS, "displayName", "cn", "mail", "title"]
            async for page in directory.pages(self.config.base, self.config.people, wanted):
                for entry in page:
                    yield record_or_refusal(
                        User,
                        id_of(entry),
                        as_of=at,
                        name=named(entry, *self.logins),
                        title=entry.text("displayName", "cn"),
                        description=entry.text("title"),
                        email=entry.text("mail"),
                        keys=keys("user", entry.text("mail")),
                        raw=raw(entry),
                    )

    @resource(of=Team)
    async def groups(self) -> AsyncIterator[Team | Refused]:
        """Every group that the filter finds, with the people and below the group that it is in."""
        async with self.directory() as directory:
            at = datetime.now(UTC)
            logins: dict[str, str] = {}
            async for page in directory.pages(self.config.base, self.config.people, self.logins):
                logins |= {folded(entry.dn): named(entry, *self.logins) for entry in page}
            found: list[Entry] = []
            wanted = [*IDS, *MEMBERS, "memberUid", "cn", "description", "mail", "displayName"]
            async for page in directory.pages(self.config.base, self.config.groups, wanted):
                found += page
            names = {folded(entry.dn): named(entry, "cn") for entry in found}
            above: dict[str, str] = {}
            for entry in sorted(found, key=lambda entry: entry.dn):
                for member in members_of(entry):
                    if folded(member) in names and folded(member) != folded(entry.dn):
                        above.setdefault(folded(member), names[folded(entry.dn)])
            for entry in found:
                people = [logins[dn] for member in members_of(entry) if (dn := folded(member)) in logins]
                yield record_or_refusal(
                    Team,
                    id_of(entry),
                    as_of=at,
                    name=names[folded(entry.dn)],
                    title=entry.text("displayName", "cn"),
                    description=entry.text("description"),
                    email=entry.text("mail"),
                    keys=[f"team:{urlsplit(self.config.address).hostname}/{folded(entry.dn)}"],
                    parent=above.get(folded(entry.dn), ""),
                    members=list(dict.fromkeys([*people, *map(slugify_path, entry.texts("memberUid"))])),
                    raw=raw(entry),
                )

    @property
    def logins(self) -> list[str]:
        return [self.config.login] if self.config.login else list(LOGIN)

    def directory(self) -> AbstractAsyncContextManager[Directory]:
        given = self.config
        return self.ldap.open(
            given.address,
            user=given.user,
            password=given.password.get_secret_value() if given.password else "",
            start_tls=given.start_tls,
        )


def named(entry: Entry, *attributes: str) -> str:
    """A name for the catalog, by which groups name their members too."""
    return slugify_path(entry.text(*attributes)) or slugify_path(entry.dn)


def members_of(entry: Entry) -> list[str]:
    """The names of those who are in a group."""
    return [dn for name in MEMBERS for dn in entry.texts(name)]


def id_of(entry: Entry) -> str:
    """What stays when an entry is renamed or moved, if the directory has such a thing."""
    value = next((entry.values[name.lower()][0] for name in IDS if entry.values.get(name.lower())), b"")
    if len(value) == 16:  # Active Directory's, in its own order of bytes
        return str(uuid.UUID(bytes_le=value))
    return value.decode("ascii", "replace") or folded(entry.dn)


def folded(dn: str) -> str:
    """A name as it is compared: case and blanks around its parts make no difference."""
    return ",".join(part.strip() for part in dn.lower().split(","))


def raw(entry: Entry) -> dict[str, Any]:
    """An entry as the directory gave it, without what is no text."""
    texts = {
        name: entry.texts(name) for name, values in entry.values.items() if values and name != "objectguid"
    }
    return {"dn": entry.dn, **{name: v if len(v) > 1 else v[0] for name, v in texts.items()}}
