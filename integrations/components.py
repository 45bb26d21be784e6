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
from django.db.models import JSONField, Q
from django.db.models.expressions import RawSQL
from django.utils.translation import gettext as _
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from base.errors import DomainError
from base.expressions import Context, Expression, ExpressionError, compile_expression
from catalog import identity
from catalog.models import Claim, EntityKey, Rank, Severity, Source, SourceType
from catalog.services import problems
from catalog.services.ingest import Applied, ClaimIn, apply_claims, drop_claims
from integrations.mapping import owner_ref
from integrations.models import Connection, StoredRecord

PAGE = 500
RESOURCE = "components"


class ComponentRule(BaseModel):
    """When a repository without a catalog file becomes a component."""

    model_config = ConfigDict(extra="forbid", title=str(_("Components from repositories")))

    is_on: bool = Field(
        True,
        title="Infer components",
        description="Make a component of a repository that no catalog file speaks for.",
    )
    with_archived: bool = Field(False, title="Archived ones too", description="Archived repositories too.")
    with_forks: bool = Field(False, title="Forks too", description="Forks too.")
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
        description="An expression over `repository`, such as repository.path.startsWith('acme/'). Empty for all.",
    )
    ignored: list[str] = Field(
        default_factory=list,
        max_length=10_000,
        title="Never",
        description="Repositories that are never a component, by their path.",
    )


@dataclass(frozen=True, slots=True)
class Decision:
    """What the rule says of one repository, and why."""

    external_id: str
    path: str
    is_component: bool
    reason: str
    claim: ClaimIn | None = None


def rule_of(connection: Connection) -> ComponentRule:
    """The connection's rule for components."""
    return ComponentRule.model_validate(connection.rules.get("components", {}))


def decide(*, connection: Connection, rule: ComponentRule, now: datetime) -> list[Decision]:
    """What the rule makes of every repository that the connection has brought. Writes nothing."""
    rows = list(
        StoredRecord.objects.filter(connection=connection, type="repository", deleted_at=None)
        .order_by("external_id")
        # A rule asks nothing of a README, and it is most of a record.
        .annotate(facts=RawSQL("data - 'readme'", [], output_field=JSONField()))
        .values_list("external_id", "facts", "as_of")
    )
    if not rows:
        return []
    repo_keys = {
        external_id: next((k for key in data.get("keys", ()) if (k := identity.normalise(key))), None)
        for external_id, data, _as_of in rows
    }
    wanted = {key for key in repo_keys.values() if key}
    declared = _declared(wanted)
    evidence = _evidence(wanted)
    condition = compile_expression(rule.only_if, variables=["repository"]) if rule.only_if else None
    decisions = []
    for external_id, data, as_of in rows:
        key = repo_keys[external_id]
        path = data.get("path") or data["name"]
        reason = _refusal(
            rule, data, key=key, declared=declared, evidence=evidence, condition=condition, path=path, now=now
        )
        claim = None
        if reason is None and key is not None:
            claim = _claim(connection, external_id, data, as_of, key)
            reason = _built_by(data, evidence.get(key, set()))
            decisions.append(Decision(external_id, path, True, reason, claim))
        else:
            decisions.append(Decision(external_id, path, False, reason or ""))
    return decisions


def apply_rule(*, connection: Connection, now: datetime, by: str) -> Applied | None:
    """Make the components that the connection's rule asks for, and let go of those that it no longer does."""
    decisions = decide(connection=connection, rule=rule_of(connection), now=now)
    key = f"connection:{connection.slug}/{RESOURCE}"
    claims = [decision.claim for decision in decisions if decision.claim is not None]
    source = Source.objects.filter(key=key).first()
    if source is None:
        if not claims:
            return None
        source, _created = Source.objects.get_or_create(
            key=key,
            defaults={
                "type": SourceType.CONNECTION,
                "name": connection.slug,
                "label": connection.label,
                "connector": connection.connector,
            },
        )
    have = set(Claim.objects.filter(source=source).values_list("external_id", flat=True))
    gone = have - {claim.external_id for claim in claims}
    outcomes: list[Any] = []
    written: set[int] = set()
    for start in range(0, len(claims), PAGE):
        applied = apply_claims(source=source, claims=claims[start : start + PAGE], at=now, by=by)
        outcomes += applied.outcomes
        written |= applied.written
    if gone:
        written |= drop_claims(source=source, external_ids=gone, at=now, by=by)
    return Applied(outcomes, written, [])


def apply_rules(*, now: datetime) -> None:
    """Decide anew for every connection that brings repositories, or did: another may have brought the evidence.

    A rule that cannot be decided leaves what is there, and is a problem of its own connection alone.
    """
    for connection in Connection.objects.filter(
        pk__in=StoredRecord.objects.filter(type="repository").values("connection")
    ):
        seen = []
        try:
            with transaction.atomic():
                apply_rule(connection=connection, now=now, by=connection.label)
        except (DomainError, ValidationError) as error:
            subject = problems.Subject(
                type="connection", label=connection.label, uid=connection.uid, namespace=connection.namespace
            )
            seen.append((subject, _undecided(connection, error)))
        problems.sync(raised_by=f"rule:{connection.slug}", seen=seen, within=Q(type="rule"), at=now)


def _undecided(connection: Connection, error: Exception) -> problems.Seen:
    return problems.Seen(
        type="rule",
        severity=Severity.WARN,
        cause=_("The rule for components of %(connection)s fails") % {"connection": connection.label},
        message=getattr(error, "message", None) or str(error),
        remedy=_("Correct the rule; until then the components stay as they are."),
        detail={"connection": connection.slug},
    )


def _declared(repo_keys: set[str]) -> set[str]:
    """Repositories for which a declaration speaks: a component that is not inferred and lies in them."""
    return set(
        EntityKey.objects.filter(
            key__in=repo_keys,
            kind="component",
            is_identity=False,
            claim__is_shadowed=False,
            entity__deleted_at=None,
        )
        .exclude(claim__rank=Rank.INFERRED)
        .values_list("key", flat=True)
    )


def _evidence(repo_keys: set[str]) -> dict[str, set[str]]:
    """Kinds of what is built from each repository."""
    found: dict[str, set[str]] = defaultdict(set)
    rows = EntityKey.objects.filter(
        Q(kind__in=["pipeline", "artifact"]), key__in=repo_keys, is_identity=False, entity__deleted_at=None
    )
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
    """Why a repository does not become a component; None when it does."""
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
    try:
        return None if condition.test(Context(repository=data)) else _("The expression does not hold.")
    except ExpressionError as error:  # such as one about a field that this repository lacks
        return error.message


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
    connection: Connection, external_id: str, data: dict[str, Any], as_of: datetime, key: str
) -> ClaimIn:
    path = data.get("path") or data["name"]
    metadata: dict[str, Any] = {}
    if data.get("description"):
        metadata["description"] = data["description"]
    if data.get("tags"):
        metadata["tags"] = sorted({tag.lower() for tag in data["tags"]})
    spec: dict[str, Any] = {"type": "service", "lifecycle": "unknown"}
    if owner := owner_ref(data.get("owners", []), connection.namespace):
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
