"""What people and API clients say of entities: claims like any other, with permission, audit and concurrency."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access.models import AuditEvent
from access.permissions import require
from access.services.audit import record_audit
from access.services.undo import keep_for_undo
from base.answers import names_state
from base.errors import (
    BadRequest,
    Conflict,
    FieldError,
    Forbidden,
    InvalidInput,
    NotFound,
    PreconditionFailed,
)
from base.paths import format_path
from catalog.bulk import among, insert, reserve_ids
from catalog.documents.envelope import DocumentInvalid, validate_document
from catalog.kinds import current_kinds, tie_between
from catalog.models import (
    Claim,
    ClaimMode,
    Entity,
    Rank,
    Redirect,
    RedirectedClaim,
    Revision,
    Source,
    SourceType,
    Tie,
    TieState,
)
from catalog.permissions import Planned
from catalog.services.dirty import mark_dirty
from catalog.services.ingest import ClaimIn, Outcome, apply_claims, drop_claims, lock_entities
from catalog.services.relation_checks import check_relations, faults_of
from catalog.services.render import A_WHILE, render_dirty

MAX_BULK = 1_000
# What an entity is known by is no matter of an override; what to do instead.
FIXED = {
    "metadata.name": gettext_lazy(
        "Files, links and other entities call it by that. For what people read, override metadata.title; to "
        "rename it, change the name where it is declared; if it is the same as another entity, merge the two."
    ),
    "metadata.namespace": gettext_lazy("Change it where the entity is declared."),
    "metadata.uid": gettext_lazy("The catalog gives it once, and it stays."),
    "metadata.etag": gettext_lazy("The catalog makes it with each change."),
}


class StaleEntity(PreconditionFailed):
    """Somebody changed the entity since it was read."""

    code = "stale-entity"


class OverriddenAlready(Conflict):
    """Somebody else's word on the field counts already."""

    code = "overridden-already"


def source_of_person(user: Any) -> Source:
    """The source that a person is."""
    source, _created = Source.objects.get_or_create(
        key=f"person:{user.pk}",
        defaults={"type": SourceType.PERSON, "name": "person", "label": user.label},
    )
    return source


def source_of_api(user: Any) -> Source:
    """The source that somebody's API clients are."""
    source, _created = Source.objects.get_or_create(
        key=f"api:{user.pk}",
        defaults={"type": SourceType.API, "name": "api", "label": _("API (%(user)s)") % {"user": user.label}},
    )
    return source


def etag_of(entity: Entity) -> str:
    """What names the present state of an entity: for `If-Match`. What follows a `+` in it does not count."""
    return f'"{entity.revision}-{bytes(entity.digest).hex()[:16]}"'


def changes_since(entity: Entity, expected: str) -> list[Revision]:
    """What changed of an entity since somebody read it, newest first.

    :param expected: the etag that they saw; nothing is found for what is none.
    """
    seen = re.match(r'"(\d{1,9})-', expected)
    rows = Revision.objects.filter(
        entity_uid=entity.uid, number__gt=int(seen[1]) if seen else entity.revision
    )
    return list(rows.order_by("-number")[:MOST_CHANGES])


MOST_CHANGES = 20


def override_field(
    *, user: Any, entity: Entity, path: str, value: Any, reason: str = "", expected: str = ""
) -> None:
    """A person overrules what tools and files say of one field. It stays through later syncs.

    :param path: dotted, such as `spec.owner`; a null value removes the field.
    :raises: as `change_overrides` does.
    """
    change_overrides(user=user, entity=entity, values={path: value}, reason=reason, expected=expected)


def drop_override(*, user: Any, entity: Entity, path: str, expected: str = "") -> None:
    """Take a person's override back: the tools' word counts again.

    :raises: as `change_overrides` does.
    """
    change_overrides(user=user, entity=entity, dropped=[path], expected=expected)


def change_overrides(
    *,
    user: Any,
    entity: Entity,
    values: Mapping[str, Any] | None = None,
    dropped: Iterable[str] = (),
    reason: str = "",
    expected: str = "",
    verb: str = "",
) -> None:
    """Take overrides of some fields back, then override some, all or nothing.

    :param values: by dotted path; null removes the field.
    :param dropped: paths that nobody overrides any more.
    :param verb: of the one event that tells of all of it; without it each field has its own.
    :param expected: the etag that the person saw; empty for any.
    :raises Forbidden: without `entity.write` on the entity.
    :raises StaleEntity: if the entity has changed since.
    :raises InvalidInput: if a field cannot be overridden, or a value does not fit its kind.
    :raises NotFound: if nobody overrides a field whose override should be dropped.
    :raises OverriddenAlready: if somebody else overrides a field, and their word is not dropped with this.
    """
    require(user, "entity.write", entity)
    with transaction.atomic():
        locked = lock_as_seen(entity, expected)
        paths = list(dict.fromkeys([*dropped, *(values or {})]))
        before = [words_on(of, path) for path in paths for of in _spoken_of(locked, path)] if verb else []
        for path in dropped:
            _drop(user, locked, path, is_recorded=not verb)
        for path, value in (values or {}).items():
            _override(user, locked, path, value, reason, is_recorded=not verb)
        if verb:
            event = record_audit(
                verb, locked, changes={"paths": paths, "values": values or {}, "reason": reason}
            )
            keep_words(event, before)
    render_dirty(at=timezone.now(), limit=A_WHILE)


def _spoken_of(entity: Entity, path: str) -> list[Entity]:
    """An entity, and of those that were merged into it such as people said something of the field of."""
    parts = parts_of(path)
    merged = [
        claim.redirected.redirect.loser
        for claim in _amendments(entity)
        if hasattr(claim, "redirected") and said_on(claim.document, parts) is not None
    ]
    return list({one.pk: one for one in [entity, *merged]}.values())


def _override(
    user: Any, entity: Entity, path: str, value: Any, reason: str, *, is_recorded: bool = True
) -> None:
    parts = parts_of(path)
    check_override(entity, parts, value)
    _check_nobody_did(user, entity, parts, value)
    before = words_on(entity, path)
    source = source_of_person(user)
    claim = Claim.objects.filter(source=source, external_id=override_id(entity)).first()
    document = with_value(claim.document if claim else {}, parts, value)
    reasons = {**(reasons_of(claim) if claim else {}), path: reason}
    say_words([Words(source, entity, document, reasons)], by=user.label)
    if not is_recorded:
        return
    event = record_audit("entity.override", entity, changes={"path": path, "value": value, "reason": reason})
    keep_words(event, [before])


def _check_nobody_did(user: Any, entity: Entity, parts: list[str], value: Any) -> None:
    """Of two people's words on one field the older counts, so who comes second is told before it is in vain.

    To a list that sources add to all of them add.
    """
    adds = isinstance(value, list) and tuple(parts) in current_kinds().unions_of(entity.kind)
    for claim in _amendments(entity).exclude(source__key=f"person:{user.pk}"):
        said = said_on(claim.document, parts)
        if said is not None and not (adds and isinstance(said[1], list)):
            raise OverriddenAlready(
                _("%(who)s overrides %(path)s already. Drop that override first, or in the same step.")
                % {"who": claim.source.label, "path": said[0]}
            )


def _drop(user: Any, entity: Entity, path: str, *, is_recorded: bool = True) -> None:
    left, before = [], []
    for claim in _amendments(entity):
        document, removed = without_value(claim.document, parts_of(path))
        if not removed:
            continue
        # Of an entity that was merged into this one, what people said before counts here too.
        of = claim.redirected.redirect.loser if hasattr(claim, "redirected") else entity
        before.append(words_on(of, path))
        left.append(Words(claim.source, of, document, without_reason(reasons_of(claim), path)))
    if not left:
        raise NotFound(_("Nobody overrides %(path)s.") % {"path": path})
    say_words(left, by=user.label)
    if is_recorded:
        keep_words(record_audit("entity.override-drop", entity, changes={"path": path}), before)


def _amendments(entity: Entity) -> QuerySet[Claim]:
    """What people say of an entity."""
    rows = Claim.objects.filter(entity=entity, mode=ClaimMode.AMEND, rank=Rank.PERSON)
    return rows.select_related("source", "redirected__redirect__loser").order_by("id")


# --- what people said before, and say again ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Words:
    """All that a person says of an entity from now on; an empty document takes it back."""

    source: Source
    entity: Entity
    document: dict[str, Any]
    reasons: dict[str, str]


def override_id(entity: Entity) -> str:
    """By which id every person's source knows what it says of an entity."""
    return f"override:{entity.uid}"


def words_on(entity: Entity, path: str) -> dict[str, Any]:
    """What people say of a field now, as plain data that `restore_words` takes."""
    claims = Claim.objects.filter(external_id=override_id(entity), rank=Rank.PERSON, mode=ClaimMode.AMEND)
    return word_in(claims.select_related("source").order_by("id"), entity, path)


def word_in(claims: Iterable[Claim], entity: Entity, path: str) -> dict[str, Any]:
    """What these claims, people's on an entity, say of a field; as `words_on` tells it."""
    parts, words = parts_of(path), []
    for claim in claims:
        if (said := said_on(claim.document, parts)) is not None:
            at, value = said
            reasons = {k: v for k, v in reasons_of(claim).items() if k == at or k.startswith(f"{at}.")}
            words.append({"source": claim.source.key, "path": at, "value": value, "reasons": reasons})
    return {"uid": str(entity.uid), "path": path, "words": words}


def said_on(document: Any, parts: list[str]) -> tuple[str, Any] | None:
    """The word of a document on a field, or on one above it that it replaces whole, and where; None for none."""
    for depth, part in enumerate(parts, 1):
        if not isinstance(document, dict) or part not in document:
            return None
        document = document[part]
        if depth < len(parts) and not isinstance(document, dict):
            return ".".join(parts[:depth]), document
    return ".".join(parts), document


def keep_words(event: AuditEvent, fields: Iterable[dict[str, Any]]) -> None:
    """Keep what people said of some fields before a change, so that it can be undone."""
    fields = list(fields)
    things = [(UUID(field["uid"]), field["path"]) for field in fields]
    keep_for_undo(event, state={"fields": fields}, things=things)


def restore_words(fields: Iterable[Mapping[str, Any]], *, by: str) -> list[dict[str, Any]]:
    """Have people say of some fields what they said before, and nothing else.

    :param fields: as `words_on` told them.
    :returns: what they said until now, in the same form.
    """
    fields = list(fields)
    uids = {field["uid"] for field in fields}
    entities = {str(one.uid): one for one in Entity.objects.filter(uid__in=among(uids, "uuid"))}
    list(lock_entities({one.pk for one in entities.values()}).values_list("pk", flat=True))
    claims = Claim.objects.filter(
        external_id__in=among((override_id(one) for one in entities.values()), "text"),
        rank=Rank.PERSON,
        mode=ClaimMode.AMEND,
    )
    by_uid: dict[str, list[Claim]] = defaultdict(list)
    for claim in claims.select_related("source").order_by("id"):
        by_uid[claim.external_id.partition(":")[2]].append(claim)
    sources = {claim.source.key: claim.source for found in by_uid.values() for claim in found}
    missing = {word["source"] for field in fields for word in field["words"]} - set(sources)
    sources |= {source.key: source for source in Source.objects.filter(key__in=missing)}
    until_now = []
    said: dict[str, dict[str, tuple[dict[str, Any], dict[str, str]]]] = {}
    for field in fields:
        uid, path = field["uid"], field["path"]
        if uid not in entities:
            continue
        until_now.append(word_in(by_uid[uid], entities[uid], path))
        words = said.setdefault(
            uid, {claim.source.key: (claim.document, reasons_of(claim)) for claim in by_uid[uid]}
        )
        for key, (document, reasons) in words.items():
            words[key] = without_value(document, parts_of(path))[0], without_reason(reasons, path)
        for word in field["words"]:
            document, reasons = words.get(word["source"], ({}, {}))
            document = with_value(document, parts_of(word["path"]), word["value"])
            words[word["source"]] = document, {**reasons, **word["reasons"]}
    say_words(
        [
            Words(sources[key], entities[uid], document, reasons)
            for uid, words in said.items()
            for key, (document, reasons) in words.items()
            if key in sources
        ],
        by=by,
    )
    return until_now


def say_words(words: Iterable[Words], *, by: str) -> None:
    """Have people say what they say of some entities from now on, also of such as are merged or gone meanwhile.

    :param by: who brought it, as people read it in the history.
    """
    now = timezone.now()
    by_source: dict[Source, list[Words]] = defaultdict(list)
    for one in words:
        by_source[one.source].append(one)
    for source, all_ in by_source.items():
        ids = [override_id(one.entity) for one in all_]
        known = set(
            Claim.objects.filter(source=source, external_id__in=among(ids, "text")).values_list(
                "external_id", flat=True
            )
        )
        fresh = [one.entity for one in all_ if one.document and override_id(one.entity) not in known]
        _make_room(source, fresh)
        claims = [amending(one.entity, one.document, one.reasons) for one in all_ if one.document]
        if claims:
            apply_claims(source=source, claims=claims, at=now, by=by)
        if gone := [override_id(one.entity) for one in all_ if not one.document]:
            drop_claims(source=source, external_ids=gone, at=now, by=by)


def _make_room(source: Source, entities: list[Entity]) -> None:
    """An amending claim finds its entity by the claim's own row, so the row comes first."""
    if not entities:
        return
    merged = {
        redirect.loser_id: redirect
        for redirect in Redirect.objects.filter(loser__in=entities).select_related("winner")
    }
    now = timezone.now()
    ids = reserve_ids(Claim, len(entities))
    insert(
        [
            Claim(
                id=pk,
                entity=merged[entity.pk].winner if entity.pk in merged else entity,
                source=source,
                external_id=override_id(entity),
                rank=Rank.PERSON,
                mode=ClaimMode.AMEND,
                digest=b"",
                document={},
                as_of=now,
                created_at=now,
            )
            for pk, entity in zip(ids, entities, strict=True)
        ]
    )
    insert(
        [
            RedirectedClaim(claim_id=pk, redirect=merged[entity.pk])
            for pk, entity in zip(ids, entities, strict=True)
            if entity.pk in merged
        ]
    )


def reasons_of(claim: Claim) -> dict[str, str]:
    """Why a person says what they say, by dotted path."""
    reasons: dict[str, str] = claim.place.get("reasons", {})
    return reasons


def without_reason(reasons: Mapping[str, str], path: str) -> dict[str, str]:
    """The reasons for all but a path and what lies below it."""
    return {k: v for k, v in reasons.items() if k != path and not k.startswith(f"{path}.")}


def parts_of(path: str) -> list[str]:
    """A dotted path's parts. Keys of labels and annotations may hold dots themselves.

    :raises InvalidInput: if no override can stand there; it says what is possible instead.
    """
    head, _dot, rest = path.partition(".")
    name, _dot, key = rest.partition(".")
    is_flat = head == "metadata" and name in {"labels", "annotations"} and key
    parts = [head, name, key] if is_flat else path.split(".")
    instead = FIXED.get(".".join(parts[:2]))  # nor may anything stand below them
    if instead or head not in {"spec", "metadata"} or len(parts) < 2 or not all(parts):
        raise InvalidInput(
            _("%(path)s cannot be overridden.") % {"path": path},
            errors=[FieldError(path, str(instead or _("Choose a field below spec or metadata.")))],
        )
    return parts


def lock_as_seen(entity: Entity, expected: str) -> Entity:
    """An entity, locked; of one that somebody saw otherwise they are told.

    :raises StaleEntity: if it has changed since.
    """
    locked = Entity.objects.select_for_update(no_key=True).get(pk=entity.pk)
    if expected and not names_state(expected, etag_of(locked)):
        raise StaleEntity(
            _("%(ref)s was changed since you read it. Read it again, then repeat your change.")
            % {"ref": locked.ref},
            current=etag_of(locked),
        )
    return locked


def amending(entity: Entity, document: dict[str, Any], reasons: dict[str, str]) -> ClaimIn:
    """A person's word on an entity, as a claim; the claim's row must be there."""
    return ClaimIn(
        external_id=override_id(entity),
        kind=entity.kind,
        document=document,
        rank=Rank.PERSON,
        mode=ClaimMode.AMEND,
        as_of=timezone.now(),
        place={"reasons": {k: v for k, v in reasons.items() if v}},
    )


def check_override(entity: Entity, parts: list[str], value: Any) -> None:
    """The value must fit the kind's schema at its place; other gaps of the entity are not this person's.

    :raises InvalidInput: if it does not.
    """
    kinds = current_kinds()
    if entity.kind not in kinds or value is None:
        return
    kind = kinds.by_name(entity.kind)
    if kind.is_computed(".".join(parts)):
        raise InvalidInput(
            _("%(path)s cannot be overridden.") % {"path": ".".join(parts)},
            errors=[FieldError(".".join(parts), _("It is worked out from other fields; change those."))],
        )
    document = {"apiVersion": kind.api_version, "kind": kind.title_case, "metadata": {"name": entity.name}}
    path = format_path(parts)
    said = with_value(document, parts, value)
    if faults := faults_of(kind, said, entity.namespace, entity.ref):
        raise InvalidInput(_("This value does not fit %(path)s.") % {"path": path}, errors=faults)
    try:
        validate_document(said, kinds.set)
    except DocumentInvalid as error:
        # Wrong is what is said at the place, below it, or of what it makes of the field above it.
        above = {format_path(parts[:length]) for length in range(2, len(parts) + 1)}
        wrong = [e for e in error.errors if e.path in above or e.path.startswith((f"{path}.", f"{path}["))]
        if wrong:
            raise InvalidInput(
                _("This value does not fit %(path)s.") % {"path": path}, errors=wrong
            ) from None


def with_value(document: dict[str, Any], parts: list[str], value: Any) -> dict[str, Any]:
    """A document that says something at a place."""
    head, *rest = parts
    inner = document.get(head)
    if not rest:
        return {**document, head: value}
    return {**document, head: with_value(inner if isinstance(inner, dict) else {}, rest, value)}


def without_value(document: dict[str, Any], parts: list[str]) -> tuple[dict[str, Any], bool]:
    """A document that says nothing at a place, and whether it did."""
    head, *rest = parts
    if head not in document:
        return document, False
    if not rest:
        return {k: v for k, v in document.items() if k != head}, True
    if not isinstance(document[head], dict):
        return document, False
    inner, removed = without_value(document[head], rest)
    kept = {**document, head: inner} if inner else {k: v for k, v in document.items() if k != head}
    return kept, removed


# --- whole documents, through the API ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Upserted:
    """What became of one document of a bulk upsert."""

    ref: str
    outcome: str
    errors: list[FieldError]
    entity: Entity | None = None


def upsert_documents(
    *, user: Any, documents: Sequence[Any], expected: str = "", dry_run: bool = False
) -> list[Upserted]:
    """Declare entities through the API; one bad document is reported and the others go in.

    Of one entity the first good document counts, any further one is refused.

    :param expected: `If-Match`, for a single document.
    :raises InvalidInput: if there are too many documents.
    :raises BadRequest: if a state is expected of several.
    :raises StaleEntity: if the single entity is not in the expected state.
    """
    if len(documents) > MAX_BULK:
        raise InvalidInput(
            _("At most %(max)d documents at once, but %(got)d came.")
            % {"max": MAX_BULK, "got": len(documents)}
        )
    if expected and len(documents) != 1:
        raise BadRequest(
            _("If-Match names the state of one entity, but %(got)d came.") % {"got": len(documents)}
        )
    now = timezone.now()
    results: list[Upserted | None] = [None] * len(documents)
    claims: list[ClaimIn] = []
    places: list[int] = []
    numbers: dict[str, int] = {}
    for index, data in enumerate(documents):
        try:
            valid = validate_document(data, current_kinds().set)
            require(user, "entity.write", Planned(valid.ref.text))
            check_relations(valid)
        except DocumentInvalid as error:
            results[index] = Upserted(error.ref, "refused", list(error.errors or []))
            continue
        except Forbidden as error:
            results[index] = Upserted(valid.ref.text, "refused", [FieldError("", error.message)])
            continue
        if (first := numbers.setdefault(valid.ref.text, index + 1)) != index + 1:
            message = _("This is declared twice; document %(number)d of the same request counts.") % {
                "number": first
            }
            results[index] = Upserted(valid.ref.text, "refused", [FieldError("metadata.name", message)])
            continue
        claims.append(
            ClaimIn(
                external_id=valid.ref.text,
                kind=valid.kind.name.lower(),
                document=valid.data,
                rank=Rank.API,
                as_of=now,
            )
        )
        places.append(index)
    if dry_run:
        for index, claim in zip(places, claims, strict=True):
            results[index] = Upserted(claim.external_id, "accepted", [])
        return [r for r in results if r is not None]
    if claims:
        source = source_of_api(user)
        with transaction.atomic():
            if expected:
                entity = Entity.objects.filter(ref=claims[0].external_id, deleted_at=None).first()
                if entity is None:
                    raise StaleEntity(_("%(ref)s does not exist.") % {"ref": claims[0].external_id})
                lock_as_seen(entity, expected)
            applied = apply_claims(source=source, claims=claims, at=now, by=user.label)
            if any(outcome != Outcome.UNCHANGED for outcome in applied.outcomes):
                record_audit(
                    "entity.upsert",
                    changes={"refs": [claim.external_id for claim in claims][:100], "count": len(claims)},
                )
        render_dirty(at=timezone.now(), limit=A_WHILE)
        entities = Entity.objects.in_bulk(applied.entity_ids)
        for index, claim, outcome, entity_id in zip(
            places, claims, applied.outcomes, applied.entity_ids, strict=True
        ):
            results[index] = Upserted(claim.external_id, str(outcome), [], entities.get(entity_id))
    return [r for r in results if r is not None]


def withdraw(*, user: Any, entity: Entity, expected: str = "", is_rendered: bool = True) -> bool:
    """Take back what the caller's API clients declared of an entity.

    :param is_rendered: whether what follows is rendered at once; else the caller does that.
    :returns: whether the entity is gone; other sources may keep it.
    :raises NotFound: if the caller declared nothing of it.
    """
    require(user, "entity.write", entity)
    with transaction.atomic():
        locked = lock_as_seen(entity, expected)
        source = source_of_api(user)
        mine = list(Claim.objects.filter(source=source, entity=locked).select_related("source"))
        if not mine:
            raise NotFound(
                _("%(ref)s was not declared through the API by you; remove it where it is declared.")
                % {"ref": locked.ref}
            )
        ids = [claim.external_id for claim in mine]
        drop_claims(source=source, external_ids=ids, at=timezone.now(), by=user.label)
        keep_declared(record_audit("entity.withdraw", locked), locked, mine)
    if is_rendered:
        render_dirty(at=timezone.now(), limit=A_WHILE)
    return not Entity.objects.filter(pk=locked.pk, deleted_at=None).exists()


def withdraw_all(*, user: Any, entity: Entity) -> None:
    """Take back what people and programs declared of an entity, whoever it was; what files and tools say stays."""
    require(user, "entity.write", entity)
    declared_by = [SourceType.PERSON, SourceType.API]
    with transaction.atomic():
        locked = lock_as_seen(entity, "")
        claims = Claim.objects.filter(
            entity=locked, mode=ClaimMode.ASSERT, source__type__in=declared_by
        ).select_related("source", "entity")
        if not (found := list(claims)):
            return
        for source in {claim.source for claim in found}:
            ids = [claim.external_id for claim in found if claim.source == source]
            drop_claims(source=source, external_ids=ids, at=timezone.now(), by=user.label)
        keep_declared(record_audit("entity.withdraw", locked), locked, found)
    render_dirty(at=timezone.now(), limit=A_WHILE)


def keep_declared(event: AuditEvent, entity: Entity, claims: Iterable[Claim]) -> None:
    """Keep what was declared of an entity and is withdrawn, so that it can be declared again."""
    state = {"uid": str(entity.uid), "claims": declared(claims)}
    keep_for_undo(event, state=state, things=[(entity.uid, "")])


def declared(claims: Iterable[Claim]) -> list[dict[str, Any]]:
    """What was declared by hand or through the API, as plain data that `declare_again` takes."""
    return [
        {
            "source": claim.source.key,
            "external_id": claim.external_id,
            "kind": claim.entity.kind,
            "document": claim.document,
            "rank": claim.rank,
            "place": claim.place,
        }
        for claim in claims
    ]


def declare_again(kept: Iterable[Mapping[str, Any]], *, by: str) -> None:
    """Have declared again what was withdrawn, unless the same source has declared it anew meanwhile."""
    now = timezone.now()
    for one in kept:
        source = Source.objects.filter(key=one["source"]).first()
        if source is None or Claim.objects.filter(source=source, external_id=one["external_id"]).exists():
            continue
        claim = ClaimIn(
            external_id=one["external_id"],
            kind=one["kind"],
            document=one["document"],
            rank=Rank(one["rank"]),
            as_of=now,
            place=one["place"],
        )
        apply_claims(source=source, claims=[claim], at=now, by=by)


# --- ties -------------------------------------------------------------------------------------------------


def decide_tie(
    *, user: Any, source: Entity, type: str, target: Entity, state: str, reason: str = ""
) -> Tie | None:
    """A person ties, forbids, or lets the evidence decide again; a decision stays through later syncs.

    :param state: `confirmed`, `forbidden`, or `auto` to take a decision back.
    :raises InvalidInput: if the two are one, of one kind, or the type is unknown.
    """
    for end in (source, target):
        require(user, "tie.write", end)
    kinds = current_kinds()
    if source.pk == target.pk or source.kind == target.kind:
        raise InvalidInput(_("A tie joins two entities of different kinds."))
    if type not in kinds.tie_types:
        raise InvalidInput(
            _("There is no tie of type %(type)s; there are: %(types)s.")
            % {"type": type, "types": ", ".join(sorted(kinds.tie_types))}
        )
    fitting = tie_between(source.kind, target.kind)
    if fitting != (source.kind, type):
        raise InvalidInput(
            _("No tie %(type)s goes from %(source)s to %(target)s; %(expected)s")
            % {
                "type": type,
                "source": source.kind,
                "target": target.kind,
                "expected": (
                    _("expected is %(type)s from the %(source)s.")
                    % {"type": fitting[1], "source": fitting[0]}
                    if fitting
                    else _("these two are not tied by anything.")
                ),
            }
        )
    if state not in TieState.values:
        raise InvalidInput(_("A tie is confirmed, forbidden or auto, not %(state)s.") % {"state": state})
    with transaction.atomic():
        tie, is_new = Tie.objects.select_for_update().get_or_create(source=source, type=type, target=target)
        before, kept = tie.state, None if is_new else decision_of(tie)
        tie.state = state
        tie.decided_by = "" if state == TieState.AUTO else user.label
        tie.decided_at = None if state == TieState.AUTO else timezone.now()
        tie.reason = reason
        tie.save()
        mark_dirty([source.pk, target.pk])
        event = record_audit(
            "tie.decide",
            source,
            changes={"type": type, "target": target.ref, "state": [before, state], "reason": reason},
        )
        keep_decision(event, tie, before=kept)
        pk = tie.pk
    render_dirty(at=timezone.now(), limit=A_WHILE)
    return Tie.objects.filter(pk=pk).first()


def decision_of(tie: Tie) -> dict[str, Any]:
    """What a person decided of a tie, as plain data that `restore_decision` takes."""
    return {
        "state": tie.state,
        "decided_by": tie.decided_by,
        "decided_at": tie.decided_at.isoformat() if tie.decided_at else None,
        "reason": tie.reason,
    }


def keep_decision(event: AuditEvent, tie: Tie, *, before: dict[str, Any] | None) -> None:
    """Keep what was decided of a tie before a change, so that it can be undone; None: there was no such tie."""
    source, target = tie.source.uid, tie.target.uid
    keep_for_undo(
        event,
        state={
            "source": str(source),
            "type": tie.type,
            "target": str(target),
            "before": before,
            "after": tie.state,
        },
        things=[(source, f"{tie.type} {target}"), (target, f"{tie.type} {source}")],
    )


def restore_decision(*, source: Entity, type: str, target: Entity, before: Mapping[str, Any] | None) -> Tie:
    """Have decided of a tie what was decided before; where nothing was, the evidence decides."""
    tie, _is_new = Tie.objects.select_for_update().get_or_create(source=source, type=type, target=target)
    was = before or {"state": TieState.AUTO, "decided_by": "", "decided_at": None, "reason": ""}
    for name, value in was.items():
        setattr(tie, name, value)
    tie.save()
    mark_dirty([source.pk, target.pk])
    return tie
