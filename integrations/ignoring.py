"""What a connection leaves out: what its tool lists and nobody wants in the catalog.

The patterns are a setting of the connection. What they name is kept as the tool tells it, and nothing is made of
it; so a changed pattern needs no second fetch, and taking one away brings everything back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from django.db.models import JSONField
from django.db.models.expressions import RawSQL
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from catalog import identity
from integrations import records
from integrations.files import has_glob, matches
from integrations.models import Connection, StoredRecord

ACTIVITY = tuple(model.type for model in records.ACTIVITY)


class IgnoreRule(BaseModel):
    """What is left out of the catalog, whatever the tool lists."""

    model_config = ConfigDict(extra="forbid", title=gettext_noop("What is left out"))

    patterns: list[
        Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1_000)]
    ] = Field(
        default_factory=list,
        max_length=1_000,
        title=gettext_noop("Left out"),
        description=gettext_noop(
            "Names, paths or ids; * stands for anything within a name, ** for folders too. "
            "With the name of a list before it, such as pipelines:nightly-*, a pattern counts for that list only."
        ),
    )


def pattern_of(record: StoredRecord) -> str:
    """The pattern that names one record of its list, whatever is in its id."""
    literal = re.sub(r"[*?\[]", r"[\g<0>]", record.external_id).replace("{", "?")
    return f"{record.resource}:{literal}"


def ignore_rule_of(connection: Connection) -> IgnoreRule:
    """What the connection leaves out."""
    return IgnoreRule.model_validate(connection.rules.get("ignored", {}))


@dataclass(frozen=True)
class Ignored:
    """A rule made ready to ask, for one connection.

    :ivar keys: what the things that are left out are: what happened to them is left out too.
    """

    exact: frozenset[str] = frozenset()
    globs: tuple[str, ...] = ()
    keys: frozenset[str] = frozenset()

    @classmethod
    def by(cls, rule: IgnoreRule, keys: Iterable[str] = ()) -> Ignored:
        return cls(
            exact=frozenset(rule.patterns),
            globs=tuple(pattern for pattern in rule.patterns if has_glob(pattern)),
            keys=frozenset(keys),
        )

    @classmethod
    def of(cls, connection: Connection) -> Ignored:
        """The connection's rule; without one this asks the database nothing."""
        rule = ignore_rule_of(connection)
        return cls.by(rule, ignored_keys(connection)) if rule.patterns else cls()

    def __bool__(self) -> bool:
        return bool(self.exact)

    def reason(self, resource: str, type_: str, external_id: str, fields: Any) -> str:
        """Why a record is left out, in words; empty if it is not.

        :param fields: gives a field of the record by its name, or None.
        """
        if not self:
            return ""
        if type_ in ACTIVITY:
            about = fields("about") or ()
            subject = next((key for given in about if (key := identity.normalise(given))), None)
            return _("What it happened to is left out.") if subject in self.keys else ""
        pattern = self._pattern(resource, _names(external_id, fields))
        return _("Left out by the rule %(pattern)s.") % {"pattern": pattern} if pattern else ""

    def _pattern(self, resource: str, names: set[str]) -> str:
        own = f"{resource}:"
        if said := self.exact & (names | {own + name for name in names}):
            return min(said)
        for pattern in self.globs:
            texts = {pattern, pattern.removeprefix(own)}
            if any(matches(name, texts) for name in names):
                return pattern
        return ""


def _names(external_id: str, fields: Any) -> set[str]:
    """By what people may call a record in a pattern: its id, its name, its path, the ref that it declares."""
    names = {external_id, fields("name") or "", fields("path") or ""}
    document = fields("document")
    if isinstance(document, dict):
        metadata = document.get("metadata")
        given = metadata if isinstance(metadata, dict) else {}
        names.add(f"{document.get('kind')}:{given.get('namespace') or 'default'}/{given.get('name')}".lower())
    return names - {""}


def ignored_keys(connection: Connection) -> set[str]:
    """Identity keys of what the connection leaves out now."""
    rows = StoredRecord.objects.filter(connection=connection, is_ignored=True).exclude(type__in=ACTIVITY)
    return {
        key
        for given in rows.values_list("data__keys", flat=True)
        for word in given or ()
        if (key := identity.normalise(word))
    }


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A thing that a rule leaves out, or left out until now.

    :ivar reason: empty for what comes back.
    """

    record: StoredRecord
    reason: str


def left_out(*, connection: Connection, rule: IgnoreRule) -> list[LeftOut]:
    """What a rule leaves out of what is stored, and what it brings back, but for activity. Writes nothing.

    The records come without their READMEs and payloads, and are not to be saved.
    """
    asked = Ignored.by(rule)
    rows = StoredRecord.objects.filter(connection=connection, deleted_at=None).exclude(type__in=ACTIVITY)
    if not asked:
        rows = rows.filter(is_ignored=True)
    found = []
    # No pattern asks for a README and docs, and they are most of a record.
    facts = RawSQL("data - 'readme' - 'docs'", [], output_field=JSONField())
    for row in rows.order_by("resource", "external_id").defer("raw", "data").annotate(facts=facts).iterator():
        row.data = row.facts
        reason = asked.reason(row.resource, row.type, row.external_id, row.data.get)
        if reason or row.is_ignored:
            found.append(LeftOut(row, reason))
    return found
