"""Connections: made, changed, tested, previewed."""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from pydantic import BaseModel, SecretStr, ValidationError

from access.models import Group, Secret, User
from access.permissions import groups_of, has_everything, visible
from access.secrets import forget_secrets, keep_secret, read_secrets
from access.services.audit import differences, record_audit
from base.answers import require_state
from base.errors import Conflict, FieldError, InvalidInput
from catalog import identity
from catalog.audience import that_count
from catalog.kinds import TIE_TYPES
from catalog.models import Audience, Entity, EntityKey, Source
from catalog.services.activity import ActivityIn
from catalog.services.audience import set_audience
from catalog.services.ingest import ClaimIn
from integrations.components import ComponentRule, apply_rule, apply_rules
from integrations.contract import (
    Check,
    ConnectionConfig,
    Connector,
    Refused,
    ResourceSpec,
    Tools,
    is_secret,
)
from integrations.errors import AuthFailed, Misconfigured, SourceError, readable
from integrations.files import FileReader
from integrations.git import GitClient, GitLimits
from integrations.http import HttpClient, HttpLimits
from integrations.ignoring import ACTIVITY, IgnoreRule, ignore_rule_of, pattern_of
from integrations.ldap import LdapClient
from integrations.mapping import Context, RecordRefused, describe, map_activity, map_entity
from integrations.models import Connection, RuleRevision, StoredRecord
from integrations.models.connections import SLUG
from integrations.outbound import OutboundPolicy, Route, mask_url
from integrations.records import ActivityRecord, Record
from integrations.registry import connector as connector_class
from integrations.services.network import OWNER as NETWORK_OWNER
from integrations.services.network import keep_network, note_barred, outbound_policy, route_of
from integrations.writing import settle_ignored

logger = logging.getLogger(__name__)

OWNER = "connection"
# Both are done while somebody waits for the page, and hold one of the few threads that serve pages.
CHECK_SECONDS = 20
# So that what hangs is named before that.
CHECK_HTTP = HttpLimits(connect=8, read=15, total=18, attempts=1)
CHECK_GIT = GitLimits(network=15)
PREVIEW_SECONDS = 20
PREVIEW_RECORDS = 20
RESERVED = {"new", "import"}  # pages of the portal at the place where a connection's would be


# --- settings and secrets ---------------------------------------------------------------------------------


def secret_fields(config: type[BaseModel]) -> set[str]:
    """Names of the settings that are secrets."""
    return {name for name, field in config.model_fields.items() if is_secret(field)}


def validate_config(connector: str, values: Mapping[str, Any]) -> ConnectionConfig:
    """Settings as the connector's model has them.

    :raises InvalidInput: naming each wrong setting, what was expected and what came.
    :raises Misconfigured: if the connector is not installed.
    """
    model = connector_class(connector).Config
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        secrets = secret_fields(model)
        raise InvalidInput(
            _("These settings cannot be used."),
            errors=[
                FieldError(
                    path="/" + "/".join(str(part) for part in item["loc"]),
                    message=readable(item["msg"]),
                    # A setting that there is not may be a secret whose name was misspelt.
                    got=""
                    if item["type"] == "extra_forbidden" or (item["loc"] and item["loc"][0] in secrets)
                    else _shown(item.get("input")),
                )
                for item in error.errors(include_url=False)
            ],
        ) from None


def _shown(value: Any) -> str:
    return "" if isinstance(value, (dict, list)) or value is None else mask_url(str(value))[:200]


def _split(config: ConnectionConfig) -> tuple[dict[str, Any], dict[str, str]]:
    """Plain settings as JSON, and the secrets in the clear."""
    secrets = {}
    for name in secret_fields(type(config)):
        value = getattr(config, name)
        if isinstance(value, SecretStr) and value.get_secret_value():
            secrets[name] = value.get_secret_value()
    return config.model_dump(mode="json", exclude=secret_fields(type(config))), secrets


def config_of(connection: Connection) -> ConnectionConfig:
    """The connection's whole settings, secrets included: for the moment of use.

    :raises InvalidInput: if the stored settings no longer fit the connector.
    """
    secrets = read_secrets(owner_type=OWNER, owner_uid=str(connection.uid))
    return validate_config(connection.connector, {**connection.config, **secrets})


def secrets_of(connections: Iterable[Connection]) -> dict[uuid.UUID, set[str]]:
    """Which secrets connections have, by their uid, without their values."""
    found: dict[uuid.UUID, set[str]] = {connection.uid: set() for connection in connections}
    rows = Secret.objects.filter(
        owner_type__in=[OWNER, NETWORK_OWNER], owner_uid__in=[str(uid) for uid in found]
    )
    for uid, name in rows.values_list("owner_uid", "name"):
        found[uuid.UUID(uid)].add(name)
    return found


def forget_secrets_of(connection: Connection) -> None:
    """Forget all secrets of a connection, those of its network settings too."""
    for owner in (OWNER, NETWORK_OWNER):
        forget_secrets(owner_type=owner, owner_uid=str(connection.uid))


def build_connector(connection: Connection, policy: OutboundPolicy | None = None) -> Connector[Any]:
    """The connection's connector, ready to read. Close it with `close_connector` in its event loop.

    :param policy: where it may go, which notes what it was refused; by default what holds now.
    """
    config, route = config_of(connection), route_of(connection)
    return _build(connection.connector, config, route, policy or outbound_policy())


def _build(
    slug: str,
    config: ConnectionConfig,
    route: Route | None,
    policy: OutboundPolicy,
    *,
    http_limits: HttpLimits | None = None,
    git_limits: GitLimits | None = None,
) -> Connector[Any]:
    tools = Tools(
        http=HttpClient(policy=policy, route=route, limits=http_limits),
        git=GitClient(policy=policy, route=route, limits=git_limits),
        files=FileReader(),
        ldap=LdapClient(policy=policy, route=route),
    )
    return connector_class(slug)(config, tools)


async def close_connector(connector: Connector[Any]) -> None:
    """Give back what the connector held open."""
    await connector.http.aclose()


# --- making and changing ----------------------------------------------------------------------------------


class BeingRemoved(Conflict):
    """The connection is on its way out, so nothing of it is changed or begun."""

    code = "connection-being-removed"


def etag_of(connection: Connection) -> str:
    """What names the present state of a connection's settings and rules: for `If-Match`."""
    return f'"{connection.pk}-{connection.updated_at.timestamp():.6f}"'


def lock_connection(connection: Connection, expected: str = "") -> Connection:
    """The connection as it is now, until the transaction ends.

    :param expected: the etag that the person saw who changes it; empty for any.
    :raises BeingRemoved: if it is, or is gone by now.
    :raises PreconditionFailed: if it has changed since.
    """
    locked = Connection.objects.select_for_update().filter(pk=connection.pk, removal_at=None).first()
    if locked is None:
        raise BeingRemoved(_("%(connection)s is being removed.") % {"connection": connection.label})
    require_state(expected, etag_of(locked), locked)
    return locked


def require_at_work(connection: Connection) -> None:
    """Let nothing begin of a connection that rests.

    :raises Conflict: if it is muted, or if what it brought is being brought back.
    """
    if connection.muted_at is not None:
        raise Conflict(_("%(connection)s is muted. Unmute it first.") % {"connection": connection.label})
    if connection.moving_since is not None:
        raise Conflict(
            _("What %(connection)s brought is being brought back; try again when that is over.")
            % {"connection": connection.label}
        )


@transaction.atomic
def create_connection(
    *,
    slug: str,
    label: str,
    connector: str,
    config: Mapping[str, Any],
    namespace: str = "default",
    interval: int = 600,
    rules: Mapping[str, Any] | None = None,
    network: Mapping[str, Any] | None = None,
    visible_to: Collection[str] = (),
    by: User | None = None,
    is_sample: bool = False,
    now: datetime | None = None,
) -> Connection:
    """Make a connection; the schedule runs it soon.

    :param visible_to: names of the access groups that may see it and what it brings; empty: everybody.
    :param by: the person who asks for it, and must see it then.
    :param network: how the tool is reached, where that is not the usual way (`integrations.network.Network`).

    :raises InvalidInput: if slug or settings are wrong.
    :raises Conflict: if the slug is taken.
    """
    valid = validate_config(connector, config)
    plain, secrets = _split(valid)
    connection = Connection(
        slug=slug,
        label=label or slug,
        connector=connector,
        config=plain,
        namespace=namespace.lower(),
        interval=interval,
        rules=dict(rules or {}),
        is_sample=is_sample,
        due_at=now or timezone.now(),
    )
    _validate(connection)
    secrets_of_network = keep_network(connection, network) if network else []
    try:
        with transaction.atomic():
            connection.save()
    except IntegrityError:
        if Connection.objects.listed().filter(slug=slug).exists():
            raise Conflict(_("There is a connection %(slug)s already.") % {"slug": slug}) from None
        raise Conflict(
            _(
                "A connection %(slug)s was removed and can still be restored. Restore it, remove it for good, "
                "or choose another short name."
            )
            % {"slug": slug}
        ) from None
    for name, value in secrets.items():
        keep_secret(owner_type=OWNER, owner_uid=str(connection.uid), name=name, value=value)
    if visible_to:
        show_to(connection, visible_to, by=by)
    record_audit(
        "connection.create",
        connection,
        changes={
            "connector": connector,
            "config": plain,
            "network": connection.network,
            **({"visible_to": sorted(visible_to)} if visible_to else {}),
            "secrets": sorted([*secrets, *secrets_of_network]),
        },
    )
    return connection


def visible_to_of(connection: Connection) -> list[str]:
    """Names of the access groups that may see a connection; empty: everybody.

    A group that is gone is named by `#` and its key.
    """
    return sorted(groups_of_connections([connection]).get(connection.slug, ()))


def groups_of_connections(connections: Iterable[Connection]) -> dict[str, dict[str, int]]:
    """The access groups that may see each of some connections that are not for everybody: keys by name, by slug."""
    rows = Audience.objects.filter(name__in=[connection.slug for connection in connections])
    keys = dict(rows.values_list("name", "groups"))
    known = Group.objects.filter(pk__in={key for found in keys.values() for key in found})
    names = dict(known.values_list("pk", "name")) if keys else {}
    return {slug: {names.get(key, f"#{key}"): key for key in found} for slug, found in keys.items()}


def show_to(connection: Connection, names: Collection[str], *, by: User | None = None) -> None:
    """Say which access groups may see a connection and what it brings.

    :param names: of the groups; empty: everybody.
    :param by: the person who says so.
    :raises InvalidInput: if there is no such group, or that person would not see it any more.
    """
    now = groups_of_connections([connection]).get(connection.slug, {})
    known = dict(Group.objects.filter(name__in=names).values_list("name", "pk"))
    known |= {name: key for name, key in now.items() if name in names}
    errors = [
        FieldError(path="/visible_to", message=_("There is no such access group."), got=name[:100])
        for name in sorted(set(names) - set(known))
    ]
    if known and not errors and by and not has_everything(by) and groups_of(by).isdisjoint(known.values()):
        errors = [
            FieldError(
                path="/visible_to",
                message=_(
                    "You are in none of these access groups, so you would not see it. Add one of yours."
                ),
                expected=", ".join(by.access_groups.order_by("name").values_list("name", flat=True)),
                got=", ".join(sorted(known))[:100],
            )
        ]
    if errors:
        raise InvalidInput(_("This connection cannot be saved."), errors=errors)
    set_audience(name=connection.slug, uid=connection.uid, groups=sorted(known.values()) if known else None)


@transaction.atomic
def update_connection(
    *,
    connection: Connection,
    label: str | None = None,
    config: Mapping[str, Any] | None = None,
    network: Mapping[str, Any] | None = None,
    interval: int | None = None,
    is_paused: bool | None = None,
    allows_operations: bool | None = None,
    visible_to: Collection[str] | None = None,
    by: User | None = None,
    expected: str = "",
) -> Connection:
    """Change a connection. Secrets that are not given stay as they are; an empty one is forgotten.

    :param visible_to: names of the access groups that may see it and what it brings; empty: everybody.
    :param by: the person who asks for it, and must see it then.

    :raises InvalidInput: if a setting is wrong.
    :raises: as `lock_connection` does.
    """
    connection = lock_connection(connection, expected)
    before = _state(connection)
    changed_secrets: list[str] = []
    if config is not None:
        model = connector_class(connection.connector).Config
        kept = read_secrets(owner_type=OWNER, owner_uid=str(connection.uid))
        given = {name: config[name] for name in secret_fields(model) if name in config}
        forgotten = {name for name, value in given.items() if not value}
        merged = {**kept, **{k: v for k, v in config.items() if k not in forgotten}}
        merged = {k: v for k, v in merged.items() if k not in forgotten}
        plain, secrets = _split(validate_config(connection.connector, merged))
        connection.config = plain
        for name in forgotten:
            forget_secrets(owner_type=OWNER, owner_uid=str(connection.uid), name=name)
        for name, value in secrets.items():
            if kept.get(name) != value:
                keep_secret(owner_type=OWNER, owner_uid=str(connection.uid), name=name, value=value)
                changed_secrets.append(name)
        changed_secrets += sorted(forgotten)
        if changed_secrets or connection.config != before["config"]:
            # With other settings it is another list: what is not on it is asked for anew.
            connection.records.exclude(kept_at=None).update(kept_at=None)
    if network is not None:
        changed_secrets += keep_network(connection, network)
    given_facts: dict[str, Any] = {
        "label": label,
        "interval": interval,
        "is_paused": is_paused,
        "allows_operations": allows_operations,
    }
    for name, value in given_facts.items():
        if value is not None:
            setattr(connection, name, value)
    if is_paused is False:
        connection.due_at = timezone.now()
    _validate(connection)
    connection.save()
    if visible_to is not None:
        before["visible_to"] = visible_to_of(connection)
        show_to(connection, visible_to, by=by)
        if sorted(visible_to) != sorted(before["visible_to"]):
            # What it shows of others' repositories counts for more or fewer now.
            apply_rules(now=timezone.now())
    if label is not None:
        Source.objects.filter(key__startswith=f"connection:{connection.slug}/").update(label=label)
    record_audit(
        "connection.update",
        connection,
        changes={
            **differences(
                before,
                _state(connection)
                | ({"visible_to": visible_to_of(connection)} if visible_to is not None else {}),
            ),
            **({"secrets": changed_secrets} if changed_secrets else {}),
        },
    )
    return connection


def _validate(connection: Connection) -> None:
    errors = []
    if not re.fullmatch(SLUG.regex, connection.slug):
        errors.append(FieldError(path="/slug", message=str(SLUG.message), got=connection.slug[:100]))
    elif connection.slug in RESERVED:
        errors.append(
            FieldError(path="/slug", message=_("This word is a page of the portal; choose another."))
        )
    if not re.fullmatch(SLUG.regex, connection.namespace):
        errors.append(
            FieldError(path="/namespace", message=str(SLUG.message), got=connection.namespace[:100])
        )
    if not 30 <= connection.interval <= 7 * 86_400:
        errors.append(
            FieldError(
                path="/interval", message=_("Between 30 seconds and 7 days."), got=str(connection.interval)
            )
        )
    if not connection.label or len(connection.label) > 100:
        errors.append(
            FieldError(path="/label", message=_("A name of 1 to 100 characters."), got=connection.label[:100])
        )
    if errors:
        raise InvalidInput(_("This connection cannot be saved."), errors=errors)


def _state(connection: Connection) -> dict[str, Any]:
    return {
        name: getattr(connection, name)
        for name in ("label", "config", "network", "interval", "is_paused", "allows_operations")
    }


@transaction.atomic
def change_rule(
    *, connection: Connection, rule: ComponentRule | IgnoreRule, by: str, expected: str = ""
) -> None:
    """Change how repositories become components, or what is left out, and decide anew at once; nothing is fetched.

    :raises: as `lock_connection` does.
    """
    connection = lock_connection(connection, expected)
    require_at_work(connection)
    RuleRevision.objects.create(connection=connection, rules=connection.rules, by=by)
    name = "components" if isinstance(rule, ComponentRule) else "ignored"
    before = connection.rules
    connection.rules = {**connection.rules, name: rule.model_dump(exclude_defaults=True)}
    connection.save()
    record_audit("connection.rule", connection, changes=differences(before, connection.rules))
    _decide_anew(connection, by)


def ignore_record(*, record: StoredRecord, by: str) -> None:
    """Leave out one thing that a connection brought, for good: its id becomes a pattern of the rule.

    :raises Conflict: if it is left out already, or is something that happened.
    :raises InvalidInput: if the rule has all the patterns that it can hold.
    """
    if record.type in ACTIVITY:
        raise Conflict(_("What happened cannot be left out by itself, but what it happened to can."))
    if record.is_ignored:
        raise Conflict(_("This is left out already."))
    patterns = [*ignore_rule_of(record.connection).patterns, pattern_of(record)]
    try:
        rule = IgnoreRule(patterns=patterns)
    except ValidationError as error:
        reason = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise InvalidInput(_("This cannot be left out: %(reason)s") % {"reason": reason}) from None
    change_rule(connection=record.connection, rule=rule, by=by)


def _decide_anew(connection: Connection, by: str) -> None:
    now = timezone.now()
    settle_ignored(connection=connection, by=by, now=now)
    if connection.records.filter(type="repository").exists():
        apply_rule(connection=connection, now=now, by=by)


@transaction.atomic
def undo_rule(*, connection: Connection, by: str) -> bool:
    """Go back to the rules before the last change.

    :returns: False when there is nothing to go back to.
    """
    connection = lock_connection(connection)
    require_at_work(connection)
    last = connection.rule_revisions.first()
    if last is None:
        return False
    before, connection.rules = connection.rules, last.rules
    connection.save()
    last.delete()
    record_audit("connection.rule-undo", connection, changes=differences(before, connection.rules))
    _decide_anew(connection, by)
    return True


# --- testing and previewing -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tested:
    """The outcome of a connection test.

    :ivar barred: hosts that the guard refused and an administrator can allow: by the word that does, what they are.
    """

    checks: list[Check]
    barred: dict[str, str]

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)


def check_config(*, connector: str, config: ConnectionConfig, route: Route | None = None) -> Tested:
    """Ask the tool whether these settings work."""
    policy = outbound_policy()

    async def ask() -> list[Check]:
        instance = _build(connector, config, route, policy, http_limits=CHECK_HTTP, git_limits=CHECK_GIT)
        try:
            return (await asyncio.wait_for(instance.check(), CHECK_SECONDS)).checks
        finally:
            await close_connector(instance)

    try:
        return Tested(asyncio.run(ask()), policy.refusals)
    except TimeoutError:
        said = _("The tool did not answer within %(seconds)d seconds.") % {"seconds": CHECK_SECONDS}
        remedy = _("Test again, or see whether the tool is up.")
    except SourceError as error:
        said = error.message
        if error.remedy:
            remedy = str(error.remedy)
        elif isinstance(error, AuthFailed | Misconfigured):
            remedy = _("Correct the settings.")
        else:
            remedy = _("Test again, or see whether the tool is up.")
    failed = Check.failed(_("It could not be tested"), said, remedy)
    return Tested([failed], policy.refusals)


def check_connection(*, connection: Connection) -> Tested:
    """Test a stored connection and remember the outcome.

    :raises InvalidInput: if the stored settings no longer fit the connector.
    """
    config, route = config_of(connection), route_of(connection)
    health = check_config(connector=connection.connector, config=config, route=route)
    with transaction.atomic():
        note_barred(connection, health.barred)
        Connection.objects.filter(pk=connection.pk).update(
            checked_at=timezone.now(), check_result=[asdict(check) for check in health.checks]
        )
        record_audit("connection.check", connection, changes={"ok": health.ok})
    return health


@dataclass(frozen=True, slots=True)
class Previewed:
    """One record and what it would become.

    :ivar becomes: the entity or activity in words; empty when it is refused.
    :ivar is_known: the catalog has its entity already, so it would say more of that one.
    :ivar tied: titles of the entities that it would be tied to, by key.
    """

    resource: str
    type: str
    external_id: str
    name: str
    becomes: str
    is_known: bool
    reason: str = ""
    tied: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Preview:
    """The first records of a tool.

    :ivar errors: why some of its lists could not be read, or not to their end.
    :ivar barred: as in `Tested`.
    """

    rows: list[Previewed]
    errors: list[str]
    barred: dict[str, str] = field(default_factory=dict)


def preview_config(
    *,
    connector: str,
    config: ConnectionConfig,
    namespace: str = "default",
    route: Route | None = None,
    viewer: User | None = None,
) -> Preview:
    """The first records that these settings bring, and what they would become. Writes nothing.

    What cannot be read is told beside what can: one broken list must not hide the others.
    """
    policy = outbound_policy()
    try:
        instance = _build(connector, config, route, policy, http_limits=CHECK_HTTP)
        found, errors = asyncio.run(_first_records(instance))
    except SourceError as error:  # it could not even begin
        return Preview([], [error.message], policy.refusals)
    context = Context(connection="preview", connector=connector, namespace=namespace, read_at=timezone.now())
    mapped = [(resource, item, _mapped(item, context)) for resource, item in found]
    near = _Neighbours(
        [outcome for _resource, _item, outcome in mapped if not isinstance(outcome, str)], viewer
    )
    rows = [_previewed(resource, item, outcome, near) for resource, item, outcome in mapped]
    return Preview(rows, errors, policy.refusals)


async def _first_records(
    instance: Connector[Any],
) -> tuple[list[tuple[str, Record | Refused]], list[str]]:
    found: list[tuple[str, Record | Refused]] = []
    failed: dict[str, list[str]] = {}  # lists by what was said of them
    stopped: list[str] = []
    try:
        async with asyncio.timeout(PREVIEW_SECONDS):
            for spec in instance.resources():
                try:
                    async for item in _some(instance, spec):
                        found.append((spec.name, item))
                except SourceError as error:
                    failed.setdefault(error.message, []).append(_(spec.label))
                    if isinstance(error, (AuthFailed, Misconfigured)):  # the other lists would say the same
                        break
                except Exception:
                    logger.exception("The preview of %s of %s failed.", spec.name, instance.slug)
                    said = _("An internal error; the log of the server tells more.")
                    failed.setdefault(said, []).append(_(spec.label))
    except TimeoutError:
        stopped.append(
            _(
                "The preview stopped after %(seconds)d seconds, before all lists were read. "
                "A sync takes the time that it needs."
            )
            % {"seconds": PREVIEW_SECONDS}
        )
    finally:
        await close_connector(instance)
    return found, [*(f"{', '.join(labels)}: {said}" for said, labels in failed.items()), *stopped]


async def _some(instance: Connector[Any], spec: ResourceSpec) -> AsyncIterator[Record | Refused]:
    """The first records of one list."""
    method = getattr(instance, spec.method)
    count = 0
    async with aclosing(method(None) if spec.incremental else method()) as stream:
        async for item in stream:
            if isinstance(item, (Record, Refused)):
                yield item
                count += 1
            if count >= PREVIEW_RECORDS:
                return


def _mapped(item: Record | Refused, context: Context) -> ClaimIn | ActivityIn | str:
    """What a record becomes, or why it is refused."""
    if isinstance(item, Refused):
        return item.reason
    try:
        return map_activity(item, context) if isinstance(item, ActivityRecord) else map_entity(item, context)
    except RecordRefused as error:
        return error.message


def _previewed(
    resource: str, item: Record | Refused, outcome: ClaimIn | ActivityIn | str, near: _Neighbours
) -> Previewed:
    if isinstance(item, Refused):
        return Previewed(
            resource, "", item.external_id, item.place or item.external_id, "", False, item.reason
        )
    name = getattr(item, "name", "") or getattr(item, "title", "") or item.external_id
    if number := getattr(item, "number", ""):
        name = f"{name} #{number}"
    if isinstance(outcome, str):
        return Previewed(resource, item.type, item.external_id, name, "", False, outcome)
    tied = near.tied(outcome)
    if isinstance(outcome, ActivityIn):
        told = outcome.title or outcome.version or outcome.number
        words = " ".join(
            part for part in (outcome.type, "" if told in name else told, outcome.status) if part
        )
        return Previewed(resource, item.type, item.external_id, name, words, False, "", tied)
    return Previewed(
        resource, item.type, item.external_id, name, describe(outcome), near.knows(outcome), "", tied
    )


class _Neighbours:
    """What the catalog has on the keys of some outcomes, in two queries."""

    def __init__(self, outcomes: list[ClaimIn | ActivityIn], viewer: User | None) -> None:
        keys = {key for outcome in outcomes for key in (*self._own(outcome), *self._about(outcome))}
        refs = {ref for o in outcomes if isinstance(o, ClaimIn) and (ref := o.declared_ref())}
        refs |= {key.removeprefix("ref:") for key in keys if key.startswith("ref:")}
        living = Entity.objects.filter(ref__in=refs, deleted_at=None)
        self.by_key: dict[str, list[tuple[str, str, bool]]] = {}
        rows = that_count(EntityKey.objects.filter(key__in=keys, entity__deleted_at=None))
        if viewer is not None:
            living, rows = visible(viewer, living), visible(viewer, rows)
        self.titles = dict(living.values_list("ref", "title"))
        for key, kind, title, is_identity in rows.values_list("key", "kind", "entity__title", "is_identity"):
            self.by_key.setdefault(key, []).append((kind, title, is_identity))

    @staticmethod
    def _own(outcome: ClaimIn | ActivityIn) -> list[str]:
        keys = outcome.keys if isinstance(outcome, ClaimIn) else ()
        return [known for key in keys if (known := identity.normalise(key))]

    @staticmethod
    def _about(outcome: ClaimIn | ActivityIn) -> list[str]:
        return [
            identity.split_folder(known)[0] for key in outcome.about if (known := identity.normalise(key))
        ]

    def knows(self, claim: ClaimIn) -> bool:
        return claim.declared_ref() in self.titles or any(
            kind == claim.kind and is_identity
            for key in self._own(claim)
            for kind, _title, is_identity in self.by_key.get(key, ())
        )

    def tied(self, outcome: ClaimIn | ActivityIn) -> tuple[str, ...]:
        own_kind = outcome.kind if isinstance(outcome, ClaimIn) else ""
        found = [
            title
            for key in self._about(outcome)
            for kind, title, is_identity in self.by_key.get(key, ())
            if is_identity and (not own_kind or (kind, own_kind) in TIE_TYPES)
        ]
        if not own_kind:
            found += [
                title for key in self._about(outcome) if (title := self.titles.get(key.removeprefix("ref:")))
            ]
        found += [
            title
            for key in self._own(outcome)
            for kind, title, is_identity in self.by_key.get(key, ())
            if not is_identity and (own_kind, kind) in TIE_TYPES
        ]
        return tuple(dict.fromkeys(found))
