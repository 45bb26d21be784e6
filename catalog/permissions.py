"""What a grant's scope means for the rows of the catalog."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from django.db import connection
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from access.models import ScopeType, User
from access.permissions import (
    Scopes,
    everywhere,
    groups_of,
    register_scope,
    register_sight_by_groups,
    register_thing,
    visible,
)
from access.services import register_scope_type
from base.errors import InvalidInput
from catalog.audience import audiences, hidden_names
from catalog.models import (
    Activity,
    Audience,
    Claim,
    Entity,
    EntityKey,
    FeedItem,
    FormerKey,
    Kind,
    KindChange,
    KindField,
    Passage,
    Problem,
    Redirect,
    Relation,
    RelationType,
    Revision,
    Tie,
    Transition,
)
from catalog.query.compile import compile_query
from catalog.query.errors import QueryError
from catalog.query.mine import register_own_refs
from catalog.query.sight import register_sight

logger = logging.getLogger(__name__)


def entities_within(scopes: Scopes) -> Q:
    """The condition on entities: in one of the namespaces, or found by one of the queries.

    A query that made sense when it was granted and does no more, since a kind or relation is gone, reaches nothing.
    """
    namespaces = [scope.text.lower() for scope in scopes if scope.type == ScopeType.NAMESPACE]
    condition = Q(namespace__in=namespaces)
    for scope in scopes:
        if scope.type == ScopeType.QUERY:
            try:
                condition |= compile_query(scope.text, now=timezone.now())
            except QueryError as error:
                logger.warning("The scope %r reaches nothing: %s", scope.text, error.sentence)
    return condition


@dataclass(frozen=True, slots=True)
class Planned:
    """An entity that may not exist yet, for the question whether somebody may write it."""

    ref: str


def _is_within(planned: Planned, scopes: Scopes) -> bool:
    # What is said of an entity that was merged into another is said of the other, which may lie elsewhere.
    if (redirect := Redirect.objects.filter(ref=planned.ref).first()) is not None:
        return Entity.objects.filter(entities_within(scopes), pk=redirect.winner_id).exists()
    namespace = planned.ref.partition(":")[2].partition("/")[0]
    if any(s.type == ScopeType.NAMESPACE and s.text.lower() == namespace for s in scopes):
        return True
    # A query can only speak of what exists.
    return Entity.objects.filter(entities_within(scopes), ref=planned.ref).exists()


def _labelled_within(uid: str) -> Callable[[Scopes], Q]:
    """The condition on rows that name their entity by uid and namespace and hold no foreign key."""

    def condition(scopes: Scopes) -> Q:
        namespaces = [scope.text.lower() for scope in scopes if scope.type == ScopeType.NAMESPACE]
        found = Q(namespace__in=namespaces)
        if any(scope.type == ScopeType.QUERY for scope in scopes):
            found |= Q(**{f"{uid}__in": Entity.objects.filter(entities_within(scopes)).values("uid")})
        return found

    return condition


def _through(*fields: str) -> Callable[[Scopes], Q]:
    """The condition on rows all of whose ends must lie within."""

    def condition(scopes: Scopes) -> Q:
        within = Entity.objects.filter(entities_within(scopes)).values("pk")
        found = Q()
        for field in fields:
            found &= Q(**{f"{field}__in": within})
        return found

    return condition


def _transitions_within(scopes: Scopes) -> Q:
    condition = _labelled_within("subject_uid")
    return Q(activity__in=Activity.objects.filter(condition(scopes)).values("pk"))


# --- for whom it is -------------------------------------------------------------------------------------------


def _audience_of_entities(user: User) -> Q | None:
    if not hidden_names(user):
        return None
    return Q(audience=None) | Q(audience__overlap=sorted(groups_of(user)))


def _hidden_entities(user: User) -> QuerySet[Entity] | None:
    """The entities that are not for this person, those that are gone too; None if there can be none."""
    kept = _audience_of_entities(user)
    return None if kept is None else Entity.objects.exclude(audience=None).exclude(kept)


def _audience_of_labelled(uid: str) -> Callable[[User], Q | None]:
    """The condition on rows that name their entity by uid."""

    def condition(user: User) -> Q | None:
        hidden = _hidden_entities(user)
        return None if hidden is None else Q(**{uid: None}) | ~Q(**{f"{uid}__in": hidden.values("uid")})

    return condition


def _audience_through(*fields: str) -> Callable[[User], Q | None]:
    """The condition on rows none of whose ends may be hidden."""

    def condition(user: User) -> Q | None:
        hidden = _hidden_entities(user)
        if hidden is None:
            return None
        kept = Q()
        for field in fields:
            kept &= Q(**{field: None}) | ~Q(**{f"{field}__in": hidden.values("pk")})
        return kept

    return condition


def _audience_of_activity(user: User) -> Q | None:
    kept = _audience_of_labelled("subject_uid")(user)
    return None if kept is None else kept & ~Q(connection__in=sorted(hidden_names(user)))


def _audience_of_transitions(user: User) -> Q | None:
    kept = _audience_of_activity(user)
    return None if kept is None else Q(activity__in=Activity.objects.filter(kept).values("pk"))


def _audience_of_said(source: str) -> Callable[[User], Q | None]:
    """The condition on rows that a source, of this name, said of an entity."""

    def condition(user: User) -> Q | None:
        kept = _audience_through("entity")(user)
        return None if kept is None else kept & ~Q(**{f"{source}__in": sorted(hidden_names(user))})

    return condition


def _audience_of_revisions(user: User) -> Q | None:
    """Nor is what a hidden source changed of an open thing while it counted there."""
    kept = _audience_of_labelled("entity_uid")(user)
    if kept is not None:
        for name in hidden_names(user):
            kept &= ~Q(by_key__startswith=f"connection:{name}/")
    return kept


def _audience_of_problems(user: User) -> Q | None:
    """Nor is what a hidden connection has, or reports of what it could not take in, for those whom it is kept from."""
    kept = _audience_of_labelled("subject_uid")(user)
    if kept is None:
        return None
    names = sorted(hidden_names(user))
    raised = [f"{what}:{name}" for name in names for what in ("connection", "rule", "deliveries")]
    of_connections = Audience.objects.filter(name__in=names).values("uid")
    return kept & (Q(subject_uid=None) | ~Q(subject_uid__in=of_connections)) & ~Q(raised_by__in=raised)


def person_of(user: object) -> Entity | None:
    """Who in the catalog an account is, if it is tied and that person is there; merged ones are the winner."""
    return _persons_of(user).first()


def _persons_of(user: object) -> QuerySet[Entity]:
    """The same as a set: of one, or of none."""
    if not isinstance(user, User) or user.entity_uid is None:
        return Entity.objects.none()
    winner = Redirect.objects.filter(loser__uid=user.entity_uid).values("winner_id")
    return Entity.objects.filter(Q(uid=user.entity_uid) | Q(pk__in=winner), deleted_at=None)


def own_refs_of(viewer: object) -> set[str]:
    """The person's own entity, their groups, and the groups above those: what `@me` stands for."""
    if not isinstance(viewer, User) or viewer.entity_uid is None:
        return set()
    person, params = _persons_of(viewer).values("pk").query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH RECURSIVE own(id) AS (
                {person}
                UNION
                SELECT up.id FROM own CROSS JOIN LATERAL (
                    SELECT r.target_id AS id FROM catalog_relation r
                    WHERE r.source_id = own.id AND r.type IN ('memberOf', 'childOf') AND r.target_id IS NOT NULL
                    UNION ALL
                    SELECT r.source_id FROM catalog_relation r
                    WHERE r.target_id = own.id AND r.type IN ('hasMember', 'parentOf')
                ) up
            )
            SELECT e.ref FROM own JOIN catalog_entity e USING (id)
            """,  # noqa: S608 - the inner statement is Django's
            params,
        )
        return {ref for (ref,) in cursor.fetchall()}


def _checked_query(text: str) -> str:
    """:raises InvalidInput: if there is none; a query that finds everything is no scope.
    :raises QueryError: where the query is wrong."""
    if not text.strip():
        raise InvalidInput(_("Enter a query, such as owner:group:default/payments."))
    compile_query(text, now=timezone.now())
    return text.strip()


def register() -> None:
    """Tell the permission pair and the query language what they need of the catalog."""
    register_scope_type(ScopeType.QUERY, _checked_query)
    register_scope(Entity, entities_within, audience=_audience_of_entities)
    register_thing(Planned, _is_within)
    for model in (Kind, KindChange, KindField, RelationType):
        register_scope(model, everywhere)
    register_scope(Activity, _labelled_within("subject_uid"), audience=_audience_of_activity)
    register_scope(Problem, _labelled_within("subject_uid"), audience=_audience_of_problems)
    register_scope(Revision, _labelled_within("entity_uid"), audience=_audience_of_revisions)
    register_scope(FeedItem, _labelled_within("entity_uid"), audience=_audience_of_labelled("entity_uid"))
    for edge in (Tie, Relation):
        register_scope(edge, _through("source", "target"), audience=_audience_through("source", "target"))
    register_scope(Passage, _through("entity"), audience=_audience_through("entity"))
    register_scope(Claim, _through("entity"), audience=_audience_of_said("source__name"))
    register_scope(EntityKey, _through("entity"), audience=_audience_of_said("claim__source__name"))
    register_scope(FormerKey, _through("entity"), audience=_audience_of_said("source"))
    register_scope(Transition, _transitions_within, audience=_audience_of_transitions)
    register_own_refs(own_refs_of)
    register_sight_by_groups(lambda: {key for groups in audiences().values() for key in groups})
    register_sight(lambda viewer: visible(viewer, Entity.objects.all()))
