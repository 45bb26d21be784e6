"""The one way into the catalog: claims come in by the page, entities are merged from them.

Every writer (a sync, an import, a person, the API) calls `apply_claims` or `drop_claims`. A page is one
transaction and a handful of statements, whatever its size; what did not change writes nothing.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson
from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import QuerySet

from base.text import replace_nul
from catalog import identity
from catalog.audience import audiences, groups_in, is_for_all
from catalog.bulk import BY_INDEX, among, insert, insert_values, reserve_ids, upsert
from catalog.documents.patches import pack_words
from catalog.kinds import KindView, current_kinds
from catalog.models import (
    Alias,
    Claim,
    ClaimMode,
    ComputedValues,
    Entity,
    EntityKey,
    FeedItem,
    Rank,
    RedirectedClaim,
    Revision,
    Served,
    Source,
    SourceType,
)
from catalog.models.history import Action
from catalog.query.tokens import tokens_of
from catalog.services import problems
from catalog.services.dirty import mark_dirty, sharers_of
from catalog.services.homes import HomeFinder, call, leave, remember
from catalog.services.merge import conflicts, diff, merge
from catalog.services.relations import relate
from catalog.services.voices import audience_of, guests_of, said_of

# Serialises the creation of entities (not their change), so that two writers that meet the same new thing at the
# same time make one entity of it.
_CREATION_LOCK = 0x706F7274
ATTEMPTS = 5


class _Overtaken(OperationalError):
    """Another writer changed claims after this one had looked at them: no fault of the data."""


class Outcome(StrEnum):
    """What became of one claim."""

    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimIn:
    """What a source says of one thing.

    :ivar external_id: the source's stable id of it.
    :ivar kind: of the entity, in lower case.
    :ivar document: the Backstage envelope, or a part of it; without `metadata.name` the name is derived.
    :ivar suggested_name: a path that the name is derived from, once.
    :ivar keys: what it is; `about`: what it speaks of (`catalog.identity`). Unnormalised ones are fine.
    :ivar place: where it stands, for people: file, document, line, commit, address; of a file also the document's
        very words, as `text`.
    :ivar read_digest: of the text that this was read from, for a reader that parses no text twice.
    """

    external_id: str
    kind: str
    document: dict[str, Any]
    rank: Rank
    as_of: datetime
    mode: ClaimMode = ClaimMode.ASSERT
    suggested_name: str = ""
    namespace: str = "default"
    keys: tuple[str, ...] = ()
    about: tuple[str, ...] = ()
    place: dict[str, Any] = field(default_factory=dict)
    read_digest: bytes | None = None

    def declared_ref(self) -> str | None:
        """The ref that the document itself declares."""
        metadata = self.document.get("metadata") or {}
        name = metadata.get("name")
        if not name or self.mode == ClaimMode.AMEND:
            return None
        return f"{self.kind}:{metadata.get('namespace') or 'default'}/{name}".lower()

    def digest(self) -> bytes:
        """16 bytes over all that matters; equal means unchanged."""
        payload = (
            self.kind,
            self.document,
            int(self.rank),
            str(self.mode),
            self.keys,
            self.about,
            self.place,
        )
        return hashlib.blake2b(orjson.dumps(payload, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()


def _without_nul(claim: ClaimIn) -> ClaimIn:
    """The claim as PostgreSQL can keep it, so that what is merged now and what is read later are the same."""
    if b"\\u0000" not in orjson.dumps((claim.document, claim.place)):
        return claim
    return replace(claim, document=replace_nul(claim.document), place=replace_nul(claim.place))


@dataclass(frozen=True, slots=True)
class Applied:
    """What a page of claims did.

    :ivar outcomes: in the order of the claims.
    :ivar written: ids of entities that changed.
    :ivar entity_ids: of each claim's entity, in the order of the claims.
    """

    outcomes: list[Outcome]
    written: set[int]
    entity_ids: list[int]


# Rows of revisions, keys and the feed: values of these fields, for there are as many of them as of entities.
Row = tuple[Any, ...]
_REVISION = (
    "entity_uid", "entity_ref", "namespace", "number", "action", "at", "by", "by_key", "reason", "run", "diff",
)  # fmt: skip
_KEY = ("claim", "entity", "kind", "key", "path", "is_identity")
_FEED_ITEM = ("at", "action", "entity_uid", "entity_ref", "kind", "namespace", "revision")
_run: ContextVar[int | None] = ContextVar("run", default=None)


@contextmanager
def brought_by_run(number: int) -> Iterator[None]:
    """What is written until the end of the block was brought by a sync run, as its revisions then say."""
    token = _run.set(number)
    try:
        yield
    finally:
        _run.reset(token)


def apply_claims(*, source: Source, claims: Sequence[ClaimIn], at: datetime, by: str) -> Applied:
    """Take in one page of claims of one source.

    :param at: now; the time of the revisions.
    :param by: who brought it, as people read it in the history.
    """
    for attempt in range(ATTEMPTS):
        try:
            with transaction.atomic():
                return _Page(source=source, at=at, by=by).apply(claims)
        except (IntegrityError, _Overtaken):
            # Another writer made or changed the same thing between our look and our lock; now we see it.
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def drop_claims(*, source: Source, external_ids: Iterable[str], at: datetime, by: str) -> set[int]:
    """Take back what a source said; entities that nobody asserts any more become tombstones.

    :returns: ids of the entities that changed.
    """
    rows = (
        Claim.objects.filter(source=source, external_id__in=among(external_ids, "text"))
        .select_related("entity")
        .only("id", "external_id", "entity__kind")
    )
    with transaction.atomic():
        page = _Page(source=source, at=at, by=by)
        affected: set[int] = set()
        while (gone := list(rows.all())) and not {claim.entity_id for claim in gone} <= affected:
            affected = {claim.entity_id for claim in gone}  # until no other writer moves one meanwhile
            page.lock(affected)
        if not gone:
            return set()
        claim_ids = [claim.id for claim in gone]
        mark_dirty(sharers_of(claim_ids))
        remember(source, gone)
        Claim.objects.filter(id__in=among(claim_ids)).delete()
        return page.merge_entities(affected)


def mark_stale(*, source: Source, reasons: dict[str, str], at: datetime, by: str) -> set[int]:
    """Note that a source's newest word on some things cannot be read; its last good claims stay.

    :param reasons: why, by external id; unknown ids are ignored.
    :returns: ids of the entities concerned.
    """
    with transaction.atomic():
        rows = list(Claim.objects.filter(source=source, external_id__in=list(reasons)))
        rows = [row for row in rows if row.stale_reason != reasons[row.external_id]]
        if not rows:
            return set()
        page = _Page(source=source, at=at, by=by)
        affected = {row.entity_id for row in rows}
        page.lock(affected)
        for row in rows:
            row.stale_reason = reasons[row.external_id]
        Claim.objects.bulk_update(rows, ["stale_reason"])
        page.merge_entities(affected)
        return affected


def remerge(
    *, entity_ids: Iterable[int], source: Source | None = None, reshaped: bool = False, at: datetime, by: str
) -> set[int]:
    """Merge entities anew from the claims that stand, after the claims or the kinds changed by other means.

    :param reshaped: whether the kinds changed, so that an equal document may have other relations and columns.
    """
    with transaction.atomic():
        page = _Page(source=source, at=at, by=by)
        ids = set(entity_ids)
        page.lock(ids)
        return page.merge_entities(ids, reshaped=reshaped)


def lock_entities(entity_ids: set[int]) -> QuerySet[Entity]:
    """Entities, locked in the order that all writers keep, so that two never wait for each other.

    Others may refer to them meanwhile: their keys stay.
    """
    rows = Entity.objects.filter(id__in=among(entity_ids))
    return rows.order_by("uid").select_for_update(no_key=True)


class _Page:
    """One transaction over a page of claims."""

    def __init__(self, *, source: Source | None, at: datetime, by: str) -> None:
        self.source = source
        self.at = at
        self.by = by
        self.kinds = current_kinds()
        self.due_to: dict[int, str] = {}  # the source's key, by entity, if it is not the one of this page

    # --- claims -------------------------------------------------------------------------------------------

    def apply(self, claims: Sequence[ClaimIn]) -> Applied:
        assert self.source is not None
        known = {
            claim.external_id: claim
            for claim in Claim.objects.filter(
                source=self.source, external_id__in=among((c.external_id for c in claims), "text")
            ).only("id", "external_id", "entity_id", "digest", "as_of", "stale_reason", "read_digest")
        }
        outcomes: dict[str, Outcome] = {}
        todo: list[tuple[ClaimIn, bytes, Claim | None]] = []
        newest: dict[str, ClaimIn] = {}
        for claim in claims:  # of what a source says twice in one page, the newest counts, then the last
            if claim.external_id not in newest or newest[claim.external_id].as_of <= claim.as_of:
                newest[claim.external_id] = claim
        reread: list[tuple[int, bytes, bytes]] = []
        for external_id, claim in newest.items():
            digest = claim.digest()
            old = known.get(external_id)
            if old is not None and (
                (bytes(old.digest) == digest and not old.stale_reason) or claim.as_of < old.as_of
            ):
                outcomes[external_id] = Outcome.UNCHANGED
                if claim.read_digest and claim.read_digest != old.read_digest:
                    reread.append((old.pk, digest, claim.read_digest))
                continue
            outcomes[external_id] = Outcome.CHANGED if old is not None else Outcome.NEW
            todo.append((_without_nul(claim), digest, old))
        _note_reread(reread)
        homes = {external_id: claim.entity_id for external_id, claim in known.items()}
        written = self._write(todo, homes) if todo else set()
        return Applied(
            [outcomes[c.external_id] for c in claims], written, [homes[c.external_id] for c in claims]
        )

    def _write(self, todo: list[tuple[ClaimIn, bytes, Claim | None]], home_ids: dict[str, int]) -> set[int]:
        """Write claims and all that follows; notes in `home_ids` to which entity each went."""
        assert self.source is not None
        if any(old is None for _, _, old in todo):
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT pg_advisory_xact_lock(%s), {BY_INDEX}", [_CREATION_LOCK])
        normalised = [(_normal(claim.keys), _normal(claim.about)) for claim, _, _ in todo]
        finder = HomeFinder(self.source, at=self.at)
        homes, fresh, moved = finder.find(
            [claim for claim, _, _ in todo], [old for _, _, old in todo], normalised
        )
        affected = {entity.id for entity in homes} | moved
        refs = self.lock(affected - set(fresh))
        self._look_again([old for _, _, old in todo if old is not None])
        for (_claim, _digest, old), home in zip(todo, homes, strict=True):
            if old is None and refs.get(home.id, home.ref) != home.ref:
                raise _Overtaken  # it was found by a name that is no longer its own

        new_ids = iter(reserve_ids(Claim, sum(old is None for _, _, old in todo)))
        rows = []
        for (claim, digest, old), entity in zip(todo, homes, strict=True):
            home_ids[claim.external_id] = entity.id
            words = claim.place.get("text")
            row = Claim(
                id=old.id if old else next(new_ids),
                entity=entity,
                source=self.source,
                external_id=claim.external_id,
                rank=claim.rank,
                mode=claim.mode,
                digest=digest,
                document=claim.document,
                place={name: value for name, value in claim.place.items() if name != "text"},
                words=pack_words(words) if words else None,
                as_of=claim.as_of,
                read_digest=claim.read_digest,
                stale_reason="",
                created_at=self.at,
            )
            rows.append(row)
        insert([row for row, (_, _, old) in zip(rows, todo, strict=True) if old is None])
        upsert(
            [row for row, (_, _, old) in zip(rows, todo, strict=True) if old is not None],
            unique=["id"],
            update=[
                "entity",
                "rank",
                "mode",
                "digest",
                "document",
                "place",
                "words",
                "as_of",
                "read_digest",
                "stale_reason",
            ],
        )
        insert(
            [
                RedirectedClaim(claim=row, redirect=finder.redirected[row.external_id])
                for row in rows
                if row.external_id in finder.redirected
            ]
        )
        self._write_keys(todo, rows, normalised)
        # Of a new entity these are all the claims there are.
        own: dict[int, list[Claim]] = defaultdict(list)
        for row in rows:
            if row.entity_id in fresh:
                own[row.entity_id].append(row)
        return self.merge_entities(affected, fresh=fresh, claims=own)

    @staticmethod
    def _look_again(olds: list[Claim]) -> None:
        """Older never overwrites newer: what was compared before the lock must still stand under it."""
        seen = {old.pk: (old.entity_id, old.as_of, bytes(old.digest)) for old in olds}
        if not seen:
            return
        rows = Claim.objects.filter(id__in=among(seen)).values_list("id", "entity_id", "as_of", "digest")
        if {pk: (entity_id, as_of, bytes(digest)) for pk, entity_id, as_of, digest in rows} != seen:
            raise _Overtaken

    def _write_keys(
        self,
        todo: list[tuple[ClaimIn, bytes, Claim | None]],
        rows: list[Claim],
        normalised: list[tuple[list[str], list[str]]],
    ) -> None:
        wanted: dict[int, set[tuple[Any, ...]]] = {}
        for (claim, _, _), row, (is_keys, about_keys) in zip(todo, rows, normalised, strict=True):
            found = {(row.entity_id, claim.kind, key, "", True) for key in is_keys}
            for about in about_keys:
                base, folder = identity.split_folder(about)
                found.add((row.entity_id, claim.kind, base, folder, False))
            wanted[row.pk] = found
        old_ids = {row.pk for row, (_, _, old) in zip(rows, todo, strict=True) if old is not None}
        stored: dict[int, set[tuple[Any, ...]]] = defaultdict(set)
        if old_ids:
            for claim_id, *key in EntityKey.objects.filter(claim_id__in=among(old_ids)).values_list(
                "claim_id", "entity_id", *_KEY[2:]
            ):
                stored[claim_id].add(tuple(key))
        same = {pk for pk in old_ids if stored[pk] == wanted[pk]}
        if (changed := old_ids - same) and self.source is not None:
            # Keys make ties, so with or without a change of the document the ties are decided anew.
            mark_dirty(sharers_of(changed) | {row.entity_id for row in rows if row.pk not in same})
            EntityKey.objects.filter(claim_id__in=among(changed)).delete()
            left = {
                (kind, key, entity_id)
                for pk in changed
                for entity_id, kind, key, _path, is_identity in stored[pk]
                if is_identity
            }
            for (claim, _, _), row, (is_keys, _about) in zip(todo, rows, normalised, strict=True):
                left -= {(claim.kind, key, row.entity_id) for key in is_keys}
            if left:
                leave(self.source, left)
                moved = {entity_id for _kind, _key, entity_id in left}
                call(
                    (claim, row.entity_id)
                    for (claim, _, _), row in zip(todo, rows, strict=True)
                    if row.entity_id in moved
                )
        keys = [(pk, *key) for pk, found in wanted.items() if pk not in same for key in found]
        insert_values(EntityKey, _KEY, keys)

    # --- entities -----------------------------------------------------------------------------------------

    def lock(self, entity_ids: set[int]) -> dict[int, str]:
        """Hold entities; gives what they are called now, by id."""
        return dict(lock_entities(entity_ids).values_list("id", "ref")) if entity_ids else {}

    def merge_entities(
        self,
        entity_ids: set[int],
        *,
        fresh: dict[int, Entity] | None = None,
        claims: dict[int, list[Claim]] | None = None,
        reshaped: bool = False,
    ) -> set[int]:
        """Merge, compare, and write what changed: columns, document, revision, feed, relations.

        :param fresh: those that are not in the database yet, with all their `claims`.
        :returns: ids of the entities that were written.
        """
        fresh = fresh or {}
        claims = claims if claims is not None else defaultdict(list)
        stored_ids = entity_ids - set(fresh)
        entities = {
            **{entity.id: entity for entity in Entity.objects.filter(id__in=among(stored_ids))},
            **fresh,
        }
        olds = {
            entity_id: _without_stamp(orjson.loads(document))
            for entity_id, document in Served.objects.filter(entity_id__in=among(stored_ids)).values_list(
                "entity_id", "document"
            )
        }
        for claim in (
            Claim.objects.filter(entity_id__in=among(stored_ids)).select_related("source").order_by("id")
        ):
            claims[claim.entity_id].append(claim)

        worked_out = values_of(stored_ids) if self.kinds.computed else {}
        guests = guests_of(stored_ids)
        known = audiences()
        merged_of: dict[int, dict[str, Any] | None] = {}
        conflicts_of: dict[int, list[Any]] = {}
        shadow_changes: list[Claim] = []
        for entity in entities.values():
            kind = self.kinds.by_name(entity.kind)
            said = said_of(
                claims[entity.id],
                guests=guests,
                known=known,
                kind=kind,
                shadow_changes=shadow_changes,
            )
            if said is None:
                merged_of[entity.id] = None
                conflicts_of[entity.id] = []
                continue
            merged_of[entity.id] = merge(said, unions=kind.unions)
            conflicts_of[entity.id] = conflicts(said, unions=kind.unions)
        if shadow_changes:
            Claim.objects.bulk_update(shadow_changes, ["is_shadowed"])
            # Whose keys count has changed, and so what they tie.
            mark_dirty(sharers_of(claim.pk for claim in shadow_changes if claim.source.name in known))
        # What changes since a claim is for fewer than see the entity, or no more, is for those whom the claim is for.
        self.due_to = {
            claim.entity_id: claim.source.key for claim in shadow_changes if claim.source.name in known
        }

        renames, refused = self._rename(entities, merged_of)
        written: list[Entity] = []
        revisions: list[Row] = []
        feed: list[Row] = []
        served: list[tuple[int, str]] = []
        relations: dict[int, set[tuple[str, str]]] = {}
        reported: list[problems.Finding] = []
        born: list[int] = []
        dead: list[int] = []
        for entity in entities.values():
            document = merged_of[entity.id]
            own_claims = claims[entity.id]
            old = olds.get(entity.id, {})
            was_alive = entity.is_alive and entity.revision > 0
            if document is None:
                if was_alive:
                    dead.append(entity.id)
                    entity.deleted_at = self.at
                    self._note(entity, Action.DELETED, [], own_claims, revisions, feed)
                    written.append(entity)
                    relations[entity.id] = set()
                    reported.append(problems.Finding(entity, []))
                continue
            kind = self.kinds.by_name(entity.kind)
            document = with_identity(document, entity, kind)
            digest = hashlib.blake2b(
                orjson.dumps(document, option=orjson.OPT_SORT_KEYS), digest_size=16
            ).digest()
            document = kind.completed(document, worked_out.get(entity.id, {}))
            audience = audience_of(own_claims, known)
            # Who did not see it is not told what it was.
            was_seen = is_for_all(groups_in(entity.audience), audience)
            rows = diff(old, document) if old and was_seen else []
            changes = [row for row in rows if not kind.is_computed(row["path"])]
            asserted = [claim.document for claim in own_claims if claim.mode == ClaimMode.ASSERT]
            own_claims = [claim for claim in own_claims if is_for_all(known.get(claim.source.name), audience)]
            is_in_common = not any(claim.mode == ClaimMode.ASSERT for claim in own_claims)
            sources = sorted({claim.source.name for claim in own_claims})
            disagreeing = conflicts_of[entity.id]
            reported.append(
                problems.Finding(
                    entity,
                    problems.of_entity(
                        entity,
                        document,
                        kind,
                        own_claims,
                        disagreeing,
                        wanted=refused.get(entity.id, ""),
                        faults=self.kinds.relation_faults(kind, document, entity.namespace),
                        asserted=asserted if is_in_common else (),
                    ),
                )
            )
            tokens = tokens_of(
                document,
                sources=sources,
                conflicts=[name for c in disagreeing for name in (".".join(c.path), c.path[-1])],
            )
            is_same = was_alive and bytes(entity.digest) == digest and entity.id not in renames
            columns = (entity.sources, entity.tokens, groups_in(entity.audience))
            if is_same and not reshaped and columns == (sources, tokens, audience):
                continue
            entity.audience = None if audience is None else sorted(audience)
            found = kind.relations_of(document, entity.namespace)
            relations[entity.id] = set(found)
            _fill_columns(entity, document, found, sources, tokens)
            if not is_same:
                entity.digest = digest
                if entity.revision == 0:
                    action = Action.CREATED
                elif not was_alive:
                    action = Action.RETURNED
                elif entity.id in renames:
                    action = Action.RENAMED
                else:
                    action = Action.CHANGED
                if not was_alive or entity.id in renames:
                    born.append(entity.id)
                entity.deleted_at = None
                if not renames.get(entity.id, entity.ref).startswith(f"{entity.kind}:{entity.namespace}/"):
                    # Who may see the old namespace only is told that it left.
                    feed.append(self._feed_item(entity, Action.DELETED, ref=renames[entity.id]))
                self._note(entity, action, changes, own_claims, revisions, feed)
            written.append(entity)
            served.append((entity.id, _served_text(document, entity)))

        self._save(written, served, revisions, feed, fresh=set(fresh), renamed=set(renames))
        self._relabel([entities[entity_id] for entity_id in renames])
        relate(entities, relations, born=born, dead=dead, renamed=set(renames), fresh=set(fresh))
        problems.report(reported, at=self.at)
        return {entity.id for entity in written}

    def _rename(
        self, entities: dict[int, Entity], merged_of: dict[int, dict[str, Any] | None]
    ) -> tuple[dict[int, str], dict[int, str]]:
        """Entities whose strongest declaration gives another name take it; the old ref becomes an alias.

        :returns: old refs by entity id; and the refs that others have already, by the id of who wanted them.
        """
        refused: dict[int, str] = {}
        wishes: dict[str, Entity] = {}
        # Whom the database does not know yet.
        new = {entity.ref for entity in entities.values() if entity.revision == 0}
        for entity in entities.values():
            document = merged_of[entity.id]
            metadata = (document or {}).get("metadata") or {}
            if not metadata.get("name"):
                continue
            namespace = str(metadata.get("namespace") or "default").lower()
            ref = f"{entity.kind}:{namespace}/{str(metadata['name']).lower()}"
            if ref == entity.ref:
                continue
            if ref in wishes or ref in new:
                refused[entity.id] = ref
            else:
                wishes[ref] = entity
        if not wishes:
            return {}, refused
        renamed: dict[int, str] = {}
        aliases = []
        for holder in Entity.objects.filter(ref__in=among(wishes, "text")).defer("tokens"):
            here = entities.get(holder.id, holder)
            if merged_of.get(here.id) or (here.is_alive and here is holder):
                refused[wishes.pop(here.ref).id] = here.ref
            else:
                _vacate(here)  # the dead give their name up to the living
        for ref, entity in wishes.items():
            renamed[entity.id] = entity.ref
            aliases.append(Alias(ref=entity.ref, entity=entity))
            entity.ref = ref
            head, _, entity.name = ref.rpartition("/")
            entity.namespace = head.partition(":")[2]
        Alias.objects.filter(
            ref__in=[e.ref for e in wishes.values()], entity__in=[e.pk for e in wishes.values()]
        ).delete()  # names that led to others end once all is written
        Alias.objects.bulk_create(aliases, ignore_conflicts=True)
        return renamed, refused

    def _relabel(self, renamed: list[Entity]) -> None:
        """Let what names these entities without a key follow them: its label, and its namespace, which permits."""
        if not renamed:
            return
        columns: list[Any] = [
            [e.uid for e in renamed],
            [e.ref for e in renamed],
            [e.namespace for e in renamed],
        ]
        with connection.cursor() as cursor:
            for table, label in (("catalog_activity", "subject_ref"), ("catalog_problem", "subject_label")):
                cursor.execute(
                    f"""
                    UPDATE {table} t SET {label} = n.ref, namespace = n.namespace
                    FROM unnest(%s::uuid[], %s::text[], %s::text[]) AS n(uid, ref, namespace)
                    WHERE t.subject_uid = n.uid
                    """,  # noqa: S608 - the names are ours
                    columns,
                )

    def _note(
        self,
        entity: Entity,
        action: Action,
        changes: list[dict[str, Any]],
        claims: list[Claim],
        revisions: list[Row],
        feed: list[Row],
    ) -> None:
        entity.revision += 1
        entity.changed_at = self.at
        revisions.append(
            (
                entity.uid,
                entity.ref,
                entity.namespace,
                entity.revision,
                action,
                self.at,
                self.by,
                self.due_to.get(entity.id) or (self.source.key if self.source else ""),
                self._reason(changes, claims),
                _run.get(),
                changes,
            )
        )
        feed.append(self._feed_item(entity, action, ref=entity.ref))

    def _reason(self, changes: list[dict[str, Any]], claims: list[Claim]) -> str:
        """Why a person who brought this change did, as they say beside the fields."""
        if self.source is None or self.source.type != SourceType.PERSON:
            return ""
        reasons = {
            reason: None
            for claim in claims
            if claim.source_id == self.source.pk
            for path, reason in claim.place.get("reasons", {}).items()
            if any(f"{change['path']}.".startswith(f"{path}.") for change in changes)
        }
        return "; ".join(reasons)

    def _feed_item(self, entity: Entity, action: Action, *, ref: str) -> Row:
        namespace = ref.partition(":")[2].partition("/")[0]
        return (self.at, action, entity.uid, ref, entity.kind, namespace, entity.revision)

    def _save(
        self,
        written: list[Entity],
        served: list[tuple[int, str]],
        revisions: list[Row],
        feed: list[Row],
        *,
        fresh: set[int],
        renamed: set[int],
    ) -> None:
        insert([entity for entity in written if entity.id in fresh])
        insert_values(
            Served, ("entity", "document", "relations"), [(*row, "[]") for row in served if row[0] in fresh]
        )
        columns = [
            "kind", "namespace", "name", "title", "description", "type", "lifecycle", "owner", "system", "tags",
            "audience", "sources", "tokens", "digest", "revision", "changed_at", "deleted_at",
        ]  # fmt: skip
        stored = [entity for entity in written if entity.id not in fresh]
        upsert([entity for entity in stored if entity.id not in renamed], unique=["id"], update=columns)
        # A new ref is a new key, for which nobody may refer to the row meanwhile.
        upsert([entity for entity in stored if entity.id in renamed], unique=["id"], update=["ref", *columns])
        upsert(
            [Served(entity_id=pk, document=document) for pk, document in served if pk not in fresh],
            unique=["entity"],
            update=["document"],
        )
        insert_values(Revision, _REVISION, revisions)
        insert_values(FeedItem, _FEED_ITEM, feed)


def values_of(entity_ids: Iterable[int]) -> dict[int, dict[str, Any]]:
    """What was worked out for some entities, by id and by name of the field."""
    rows = ComputedValues.objects.filter(entity_id__in=among(entity_ids))
    return dict(rows.values_list("entity_id", "values"))


def _note_reread(claims: list[tuple[int, bytes, bytes]]) -> None:
    """Note on claims that say what they said from which text they were read now.

    :param claims: ids, digests of what they say, and of the texts.
    """
    if claims:
        with connection.cursor() as cursor:
            cursor.execute(
                """
                UPDATE catalog_claim c SET read_digest = n.read_digest
                FROM unnest(%s::bigint[], %s::bytea[], %s::bytea[]) AS n(id, digest, read_digest)
                WHERE c.id = n.id AND c.digest = n.digest
                """,
                [list(column) for column in zip(*claims, strict=True)],
            )


def _vacate(tombstone: Entity) -> None:
    """Give what is dead another name, for the living want its own."""
    tombstone.name = f"{tombstone.name}~{tombstone.uid.hex[:8]}"
    tombstone.ref = f"{tombstone.kind}:{tombstone.namespace}/{tombstone.name}"
    Entity.objects.filter(pk=tombstone.pk).update(ref=tombstone.ref, name=tombstone.name)


def with_identity(document: dict[str, Any], entity: Entity, kind: KindView) -> dict[str, Any]:
    """The document with the envelope's fixed parts: what every entity has, whoever speaks of it."""
    metadata = dict(document.get("metadata") or {})
    name = metadata.pop("name", None)
    namespace = metadata.pop("namespace", None)
    display = str(name) if name and str(name).lower() == entity.name else entity.name
    space = str(namespace) if namespace and str(namespace).lower() == entity.namespace else entity.namespace
    body = {
        key: value
        for key, value in document.items()
        if key not in {"apiVersion", "kind", "metadata", "relations"}
    }
    return {
        "apiVersion": document.get("apiVersion") or kind.api_version,
        "kind": kind.title_case,
        "metadata": {"namespace": space, "name": display, **metadata},
        **body,
    }


def _served_text(document: dict[str, Any], entity: Entity) -> str:
    metadata = {"uid": str(entity.uid), "etag": bytes(entity.digest).hex(), **document["metadata"]}
    return orjson.dumps({**document, "metadata": metadata}).decode()


def _without_stamp(document: dict[str, Any]) -> dict[str, Any]:
    for stamp in ("uid", "etag"):
        document["metadata"].pop(stamp, None)
    return document


def _fill_columns(
    entity: Entity,
    document: dict[str, Any],
    relations: list[tuple[str, str]],
    sources: list[str],
    tokens: list[int],
) -> None:
    metadata, spec = document["metadata"], document.get("spec") or {}
    profile = spec.get("profile")
    shown = profile.get("displayName") if isinstance(profile, dict) else None
    entity.title = str(metadata.get("title") or shown or metadata["name"])
    entity.description = str(metadata.get("description") or "")
    entity.type = _word(spec.get("type"))
    entity.lifecycle = _word(spec.get("lifecycle"))
    entity.owner = next((ref for kind, ref in relations if kind == "ownedBy"), "")
    entity.system = next(
        (ref for kind, ref in relations if kind == "partOf" and ref.startswith("system:")), ""
    )
    tags = metadata.get("tags")
    entity.tags = [str(tag).lower() for tag in tags if tag is not None] if isinstance(tags, list) else []
    entity.sources = sources
    entity.tokens = tokens


def _word(value: Any) -> str:
    return value.strip().lower() if isinstance(value, str) else ""


def _normal(keys: Iterable[str]) -> list[str]:
    found = (identity.normalise(key) for key in keys)
    # A name is no identity: it may say what an alert is about, and never what a thing is or is tied to.
    return list(dict.fromkeys(key for key in found if key and not key.startswith("ref:")))
