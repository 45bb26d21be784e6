"""Who may own what nobody owns: said of its repository, never taken for its owner."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from access.permissions import visible
from catalog.models import Entity, EntityKey, Tie, TieState
from catalog.queries import documents, list_entities, titles_of
from catalog.services.people import email_of, people_at

SUGGESTED = 6
_COMMITTER = re.compile(r"<([^<>\s]+@[^<>\s]+)>\s*$")


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One that may own some things.

    :ivar count: of how many of them.
    :ivar is_committer: for they commit most to their repositories; else the repositories are owned by it.
    """

    entity: Entity
    count: int
    is_committer: bool


def suggested_owners(viewer: Any, entities: Iterable[Entity]) -> list[Suggestion]:
    """Who owns the repositories of things that nobody owns, and who commits most to them; the likeliest first."""
    unowned = [entity for entity in entities if not entity.owner]
    ids = [entity.pk for entity in unowned]
    ties = Tie.objects.filter(source_id__in=ids, type="hasSource").exclude(state=TieState.FORBIDDEN)
    pairs = set(ties.values_list("source_id", "target_id"))
    pairs |= {(entity.pk, entity.pk) for entity in unowned if entity.kind == "repository"}
    repositories = list(list_entities(viewer).filter(pk__in={target for _source, target in pairs}))
    said = documents(viewer, repositories)
    emails = {pk: _committers(document) for pk, document in said.items()}
    people = _people_at(viewer, {email for found in emails.values() for email in found})
    owners: Counter[str] = Counter()
    committers: Counter[str] = Counter()
    by_key = {repository.pk: repository for repository in repositories}
    for _source, target in pairs:
        if target not in by_key:
            continue
        owners.update({by_key[target].owner} - {""})
        committers.update({people[email] for email in emails[target] if email in people})
    known = titles_of(viewer, [*owners, *committers])
    found = [
        Suggestion(known[ref], count, is_committer)
        for counts, is_committer in ((owners, False), (committers, True))
        for ref, count in counts.most_common(SUGGESTED)
        if ref in known and not (is_committer and ref in owners)
    ]
    return sorted(found, key=lambda one: (-one.count, one.is_committer))[:SUGGESTED]


def _committers(document: dict[str, Any]) -> list[str]:
    spec = document.get("spec")
    named = spec.get("topCommitters") if isinstance(spec, dict) else None
    found = [_COMMITTER.search(one) for one in named or [] if isinstance(one, str)]
    return [match[1].lower() for match in found if match]


def _people_at(viewer: Any, emails: set[str]) -> dict[str, str]:
    """The refs of people by their addresses, as tools and files know these."""
    rows = {e.pk: e for e in list_entities(viewer).filter(pk__in=people_at(emails).values("pk"))}
    keys = EntityKey.objects.filter(entity__in=rows, is_identity=True, key__startswith="user:")
    told = visible(viewer, keys).values_list("key", "entity_id")
    found = {key.partition(":")[2]: rows[pk].ref for key, pk in told}
    for pk, document in documents(viewer, rows.values()).items():
        if email := email_of(document):
            found[email.lower()] = rows[pk].ref
    return found
