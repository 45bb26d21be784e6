"""Which repositories become components when no catalog file declares them.

The rule is a setting of the connection. It is decided over what is stored, so changing it needs no second fetch,
a preview is the same code without the write, and undoing it is deciding again with the rule that was.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import JSONField, Max, Q, QuerySet
from django.db.models.expressions import RawSQL
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from base.errors import DomainError, FieldError, InvalidInput
from base.expressions import Context, Expression, ExpressionError, compile_expression
from catalog import identity
from catalog.audience import hidden_from
from catalog.models import Claim, EntityKey, Rank, Severity, Source, SourceType
from catalog.services import problems
from catalog.services.ingest import ClaimIn, apply_claims, drop_claims
from catalog.services.people import teams
from integrations.contract import INFERRED
from integrations.guard import is_much
from integrations.mapping import owner_ref
from integrations.models import Connection, ResourceRun, ResourceState, StoredRecord

PAGE = 500


class ComponentRule(BaseModel):
    """When a repository without a catalog file becomes a component."""

    model_config = ConfigDict(extra="forbid", title=str(_("Components from repositories")))

    is_on: bool = Field(
        True,
        title="Infer components",
        description="Make a component of a repository that no catalog file speaks for.",
    )
    with_archived: bool = Field(
        False, title="Archived ones too", description="Also what is no longer worked on."
    )
    with_forks: bool = Field(False, title="Forks too", description="Also copies of other repositories.")
    active_within_months: int = Field(
        12,
        ge=0,
        le=600,
        title="Active within months",
        description="Months since the last commit; 0 for any age.",
    )
    needs_evidence: bool = Field(
        True,
        title="Only what is built",
        description="Only with a build file, a pipeline, an image or a package.",
    )
    only_if: str = Field(
        "",
        max_length=4_000,
        title="Only if",
        description="An expression on the repository, such as repository.path.startsWith('acme/'). Empty for all.",
    )
    ignored: list[str] = Field(
        default_factory=list,
        max_length=10_000,
        title="Never",
        description="Repositories that are never a component, by their path.",
    )


@dataclass(frozen=True, slots=True)
class Decision:
    """What the rule says of one repository, and why.

    :ivar is_declared: a catalog file speaks for it, so an inferred component is replaced and not lost.
    :ivar is_undecided: the rule's expression fails on it.
    """

    external_id: str
    path: str
    is_component: bool
    reason: str
    claim: ClaimIn | None = None
    is_declared: bool = False
    is_undecided: bool = False


def check_rule(rule: ComponentRule) -> None:
    """Whether the rule's condition can be asked.

    :raises InvalidInput: if it is no expression on a repository.
    """
    if rule.only_if:
        try:
            compile_expression(rule.only_if, variables=["repository"])
        except ExpressionError as error:
            raise InvalidInput(error.message, errors=[FieldError("only_if", error.message)]) from None


def rule_of(connection: Connection) -> ComponentRule:
    """The connection's rule for components."""
    return ComponentRule.model_validate(connection.rules.get("components", {}))


def decide(
    *, connection: Connection, rule: ComponentRule, now: datetime, without: str = ""
) -> list[Decision]:
    """What the rule makes of every repository that the connection has brought. Writes nothing.

    :param without: slug of a connection whose word does not count: what would be decided were it gone.
    """
    rows = list(
        StoredRecord.objects.filter(
            connection=connection, type="repository", deleted_at=None, is_ignored=False
        )
        .order_by("external_id")
        # A rule asks nothing of a README and docs, and they are most of a record.
        .annotate(facts=RawSQL("data - 'readme' - 'docs'", [], output_field=JSONField()))
        .values_list("external_id", "facts", "as_of")
    )
    if not rows:
        return []
    repo_keys = {
        external_id: next((k for key in data.get("keys", ()) if (k := identity.normalise(key))), None)
        for external_id, data, _as_of in rows
    }
    wanted = {key for key in repo_keys.values() if key}
    silent = hidden_from(connection.slug)
    declared = _declared(wanted, without, silent)
    evidence = _evidence(wanted, without, silent)
    condition = compile_expression(rule.only_if, variables=["repository"]) if rule.only_if else None
    read_at = min(now, _read_at(connection) or now)
    groups = teams(connection.slug)
    decisions = []
    for external_id, data, as_of in rows:
        key = repo_keys[external_id]
        path = data.get("path") or data["name"]
        is_undecided = False
        try:
            reason = _refusal(
                rule,
                data,
                key=key,
                declared=declared,
                evidence=evidence,
                condition=condition,
                path=path,
                now=read_at,
            )
        except ExpressionError as error:  # such as one about a field that this repository lacks
            reason, is_undecided = error.message, True
        if reason is None and key is not None:
            claim = _claim(connection, external_id, data, as_of, key, groups)
            reason = _built_by(data, evidence.get(key, set()))
            decisions.append(Decision(external_id, path, True, reason, claim))
        else:
            decisions.append(
                Decision(
                    external_id,
                    path,
                    False,
                    reason or "",
                    is_declared=key in declared,
                    is_undecided=is_undecided,
                )
            )
    return decisions


def _read_at(connection: Connection) -> datetime | None:
    """When the repositories were last read to the end: one that nobody reads does not fall asleep."""
    lists = StoredRecord.objects.filter(connection=connection, type="repository").values("resource")
    whole = ResourceRun.objects.filter(
        run__connection=connection,
        name__in=lists,
        state__in=[ResourceState.COMPLETE, ResourceState.HELD],
    )
    return whole.aggregate(at=Max("started_at"))["at"]


def inferred(connection: Connection) -> set[str]:
    """Ids of the repositories of which the connection's rule has made components."""
    return set(
        Claim.objects.filter(source__key=f"connection:{connection.slug}/{INFERRED}").values_list(
            "external_id", flat=True
        )
    )


def apply_rule(
    *, connection: Connection, now: datetime, by: str, asked: bool = True, guarded: bool = False
) -> list[Decision]:
    """Make the components that the connection's rule asks for, and let go of those that it no longer does.

    :param asked: a person has said so of this very rule; else what its expression fails on stays as it is.
    :param guarded: nobody has seen what goes, so all that would go of what is still listed stays if it is much.
    :returns: the decisions that the guard holds.
    """
    decisions = decide(connection=connection, rule=rule_of(connection), now=now)
    claims = [decision.claim for decision in decisions if decision.claim is not None]
    have = inferred(connection)
    gone = have - {claim.external_id for claim in claims}
    held: list[Decision] = []
    if not asked:
        gone -= {d.external_id for d in decisions if d.is_undecided}
    if guarded:
        lost = [d for d in decisions if d.external_id in gone and not d.is_declared]
        if is_much(len(lost), len(have)):
            held = lost
            gone -= {d.external_id for d in lost}
    if not claims and not gone:
        return held
    source, _created = Source.objects.get_or_create(
        key=f"connection:{connection.slug}/{INFERRED}",
        defaults={
            "type": SourceType.CONNECTION,
            "name": connection.slug,
            "label": connection.label,
            "connector": connection.connector,
        },
    )
    for start in range(0, len(claims), PAGE):
        apply_claims(source=source, claims=claims[start : start + PAGE], at=now, by=by)
    if gone:
        drop_claims(source=source, external_ids=gone, at=now, by=by)
    return held


def apply_rules(*, now: datetime, guarded: bool = True, only: Connection | None = None) -> None:
    """Decide anew for every connection that brings repositories, or did: another may have brought the evidence.

    A rule that cannot be decided leaves what is there, and is a problem of its own connection alone. What is muted or
    removed meanwhile makes nothing any more.

    :param guarded: as in `apply_rule`.
    :param only: just this connection, after a run that changed nothing: then only time can have changed anything.
    """
    connections = (
        Connection.objects.at_work()
        .filter(pk__in=StoredRecord.objects.filter(type="repository").values("connection"))
        .order_by("pk")
    )
    # Within somebody's transaction, which may hold another connection, waiting for one could go in a circle. Whoever
    # has one then decides it themselves, or the next sync does.
    skips = transaction.get_connection().in_atomic_block
    for connection in connections.filter(pk=only.pk) if only else connections:
        seen = []
        try:
            with transaction.atomic():
                rows = Connection.objects.at_work().select_for_update(no_key=True, skip_locked=skips)
                locked = rows.filter(pk=connection.pk).first()
                if locked is None:
                    continue
                held = apply_rule(connection=locked, now=now, by=locked.label, asked=False, guarded=guarded)
            if held:
                seen.append(_held(connection, held))
        except (DomainError, ValidationError) as error:
            seen.append(_undecided(connection, error))
        subject = problems.Subject(
            type="connection", label=connection.label, uid=connection.uid, namespace=connection.namespace
        )
        problems.sync(
            raised_by=f"rule:{connection.slug}",
            seen=[(subject, item) for item in seen],
            within=Q(type="rule"),
            at=now,
        )


def lost_without(connection: Connection, *, among: QuerySet[Connection], now: datetime) -> int:
    """How many inferred components of others would go with a connection: what showed that they are built.

    :param among: the connections of which whoever asks may know.
    """
    count = 0
    repositories = StoredRecord.objects.filter(type="repository", deleted_at=None)
    for other in (
        Connection.objects.at_work()
        .exclude(pk=connection.pk)
        .filter(pk__in=repositories.values("connection"))
        .filter(pk__in=among.values("pk"))
    ):
        try:
            decisions = decide(connection=other, rule=rule_of(other), now=now, without=connection.slug)
        except (DomainError, ValidationError):  # then its components stay as they are
            continue
        no_longer = {
            d.external_id for d in decisions if not (d.is_component or d.is_declared or d.is_undecided)
        }
        count += len(no_longer & inferred(other))
    return count


def _held(connection: Connection, held: list[Decision]) -> problems.Seen:
    return problems.Seen(
        type="rule",
        severity=Severity.WARN,
        cause=_("The rule for components of %(connection)s would let go of many")
        % {"connection": connection.label},
        message=ngettext(
            "%(count)d component no longer fits the rule, more than usual. Nothing was removed. The first: %(reason)s",
            "%(count)d components no longer fit the rule, more than usual. Nothing was removed. The first: %(reason)s",
            len(held),
        )
        % {"count": len(held), "reason": held[0].reason},
        remedy=_("See on the connection's page of rules which they are; saving the rule there lets them go."),
        detail={"connection": connection.slug, "count": len(held)},
    )


def _undecided(connection: Connection, error: Exception) -> problems.Seen:
    return problems.Seen(
        type="rule",
        severity=Severity.WARN,
        cause=_("The rule for components of %(connection)s fails") % {"connection": connection.label},
        message=getattr(error, "message", None) or str(error),
        remedy=_("Correct the rule; until then the components stay as they are."),
        detail={"connection": connection.slug},
    )


def _declared(repo_keys: set[str], without: str, silent: list[str]) -> set[str]:
    """Repositories for which a declaration speaks: a component that is not inferred and lies in them.

    One that is shadowed speaks too: what was copied with its file is no second component.

    :param silent: as of `_evidence`: what is declared for fewer takes from the others nothing that is inferred.
    """
    return set(
        EntityKey.objects.filter(
            key__in=repo_keys,
            kind="component",
            is_identity=False,
            entity__deleted_at=None,
        )
        .exclude(_said_by(without))
        .exclude(claim__source__name__in=silent)
        .exclude(claim__rank=Rank.INFERRED)
        .values_list("key", flat=True)
    )


def _said_by(slug: str) -> Q:
    """The condition on keys that a connection has brought; without one, on none."""
    return Q(claim__source__key__startswith=f"connection:{slug}/") if slug else Q(pk__in=())


def _evidence(repo_keys: set[str], without: str, silent: list[str]) -> dict[str, set[str]]:
    """Kinds of what is built from each repository.

    :param silent: names of the sources that not all may know who see what comes of it.
    """
    found: dict[str, set[str]] = defaultdict(set)
    rows = EntityKey.objects.filter(
        kind__in=["pipeline", "artifact"], key__in=repo_keys, is_identity=False, entity__deleted_at=None
    ).exclude(_said_by(without) | Q(claim__source__name__in=silent))
    for key, kind in rows.values_list("key", "kind").distinct():
        found[key].add(kind)
    return found


def _refusal(
    rule: ComponentRule,
    data: dict[str, Any],
    *,
    key: str | None,
    declared: set[str],
    evidence: dict[str, set[str]],
    condition: Expression | None,
    path: str,
    now: datetime,
) -> str | None:
    """Why a repository does not become a component; None when it does.

    :raises ExpressionError: where the expression fails on it.
    """
    if not rule.is_on:
        return _("The rule is switched off.")
    if key is None:
        return _("It has no address that identifies it.")
    if key in declared:
        return _("A catalog file declares its components.")
    if path in rule.ignored:
        return _("It is on the list of ignored ones.")
    if data.get("is_archived") and not rule.with_archived:
        return _("It is archived.")
    if data.get("is_fork") and not rule.with_forks:
        return _("It is a fork.")
    if rule.active_within_months:
        last = data.get("last_activity_at")
        if not last or datetime.fromisoformat(last) < now - timedelta(days=30.44 * rule.active_within_months):
            return _("No commit within %(months)d months.") % {"months": rule.active_within_months}
    if rule.needs_evidence and not data.get("build_files") and not evidence.get(key):
        return _("Nothing shows that it is built: no build file, pipeline, image or package.")
    if condition is None:
        return None
    return None if condition.test(Context(repository=data)) else _("The expression does not hold.")


def _built_by(data: dict[str, Any], kinds: set[str]) -> str:
    found = []
    if files := data.get("build_files"):
        found.append(files[0])
    if "pipeline" in kinds:
        found.append(_("a pipeline"))
    if "artifact" in kinds:
        found.append(_("an image or package"))
    return _("Built: %(what)s.") % {"what": ", ".join(found)} if found else _("Active.")


def _claim(
    connection: Connection,
    external_id: str,
    data: dict[str, Any],
    as_of: datetime,
    key: str,
    groups: dict[str, str],
) -> ClaimIn:
    path = data.get("path") or data["name"]
    metadata: dict[str, Any] = {}
    if data.get("description"):
        metadata["description"] = data["description"]
    if data.get("tags"):
        metadata["tags"] = sorted({tag.lower() for tag in data["tags"]})
    spec: dict[str, Any] = {"type": "service", "lifecycle": "unknown"}
    if owner := owner_ref(data.get("owners", []), connection.namespace, keys=[key], teams=groups):
        spec["owner"] = owner
    return ClaimIn(
        external_id=external_id,
        kind="component",
        document={
            "apiVersion": "backstage.io/v1alpha1",
            "kind": "Component",
            "metadata": metadata,
            "spec": spec,
        },
        rank=Rank.INFERRED,
        as_of=as_of,
        suggested_name=path,
        namespace=connection.namespace,
        keys=(f"component:{key.removeprefix('repo:')}",),
        about=(key,),
        place={"connection": connection.slug, "repository": path},
    )
