"""The whole API: its description, whether what that says is true for each role, whether nobody writes who may not,
and whether it has all that the pages have."""

from __future__ import annotations

import socket
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, connection, transaction
from django.test import Client
from django.urls import resolve
from django.utils import timezone
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema
from hypothesis import HealthCheck, Phase
from schemathesis import GenerationMode, checks

from access.api.permissions import OWN
from access.models import ApiToken, AuditEvent, Identity, Role, SignInLink, Undoable, User
from access.permissions import cache as access_cache
from access.services import claim_person, create_group, create_token, grant, invite, save_provider
from access.verbs import EVERYTHING
from catalog.models import Entity, Kind, KindChange, KindField, Problem
from catalog.services import edit
from catalog.services.joining import merge_into
from catalog.services.naming import create_owner, map_name
from catalog.services.render import render_dirty
from integrations import openid
from integrations.models import AllowedHost, Connection, Delivery, OperationRun, RuleRevision, StoredRecord
from integrations.records import Pipeline
from integrations.services.connections import update_connection
from integrations.services.targets import subject_of
from portal.models import Notice
from portal.saved_views import delete_view, make_view
from portal.watches import delete_watch, make_watch
from tests.catalog.saying import claim, say
from tests.integrations.tool import Tool, event, synced
from tests.routes import METHODS, WRITING, routes

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    """The API's description, made without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return made


class TestDescription:
    def test_it_is_valid_and_made_without_a_complaint(
        self, description: dict[str, Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        validate_schema(description)
        SchemaGenerator().get_schema(request=None, public=True)
        assert capsys.readouterr().err == ""

    def test_it_has_every_route_and_method_and_nothing_else(self, description: dict[str, Any]) -> None:
        def described() -> Iterator[tuple[str, str]]:
            for path, operations in description["paths"].items():
                for method in METHODS:
                    if method in operations:
                        yield _without_names(path), method

        served = {
            (_without_names(route.url(_Braces())), method)
            for route in routes("api/v1/")
            if route.pattern not in {"api/v1/schema/", "api/v1/docs/"}
            for method in route.methods
        }
        assert set(described()) == served

    def test_every_operation_tells_its_failures_and_every_list_its_pages(
        self, description: dict[str, Any]
    ) -> None:
        names = set()
        for path, operations in description["paths"].items():
            for method, operation in operations.items():
                assert operation["operationId"] not in names
                names.add(operation["operationId"])
                assert "default" in operation["responses"], (path, method)
                assert operation.get("description"), (path, method)
                good = next(answer for code, answer in operation["responses"].items() if code.startswith("2"))
                reference = str(good.get("content", {}).get("application/json", {}).get("schema", ""))
                if "List'" in reference or "ListOut'" in reference:
                    given = {parameter["name"] for parameter in operation.get("parameters", [])}
                    assert given >= {"limit", "cursor"}, (path, method)

    def test_the_one_that_is_served_is_this_one(
        self, client: Client, ben: User, as_token: Callable[..., dict[str, str]], description: dict[str, Any]
    ) -> None:
        headers = as_token(ben)
        answer = client.get("/api/v1/schema/?format=json", headers=headers)
        assert answer.json()["paths"].keys() == description["paths"].keys()
        assert client.get("/api/v1/docs/", headers=headers).status_code == 200

    def test_it_is_read_as_a_page_that_unfolds_what_is_asked_for(
        self, client: Client, browse: Callable[[User], Client], ben: User
    ) -> None:
        reader = browse(ben)
        alone = client.get("/api/v1/docs/?find=entities").content.decode()
        assert "po-plain-page" in alone
        assert "Entities in pages, as the viewer may see them." in alone
        assert "/api/v1/audit/" not in alone
        assert "If-None-Match" not in alone
        page = reader.get("/api/v1/docs/?find=entities&op=get-api-v1-entities").content.decode()
        assert 'id="po-side"' in page
        assert "If-None-Match" in page
        assert 'href="/api/v1/schema/?download=1"' in page
        wrong = reader.get("/api/v1/docs/?op=get-nothing")
        assert "There is no operation “get-nothing”" in wrong.content.decode()
        assert "1-100 of" in wrong.content.decode()
        assert reader.post("/api/v1/docs/").status_code == 405


class _Braces(dict[str, Any]):
    def get(self, name: Any, default: Any = None) -> Any:
        return f"{{{name}}}"


def _without_names(path: str) -> str:
    return "".join(
        part if not part.startswith("{") else "{}/" for part in path.replace("/", "/ ").split(" ") if part
    )


# --- a portal in which every operation has something to work on --------------------------------------------------

PAGE = {
    "slot": "home",
    "title": "Ours",
    "tabs": [{"widgets": [{"id": "problems", "type": "problem-list", "config": {"rows": 5}}]}],
}
COMPONENT = {
    "apiVersion": "backstage.io/v1alpha1",
    "kind": "Component",
    "spec": {"type": "service", "lifecycle": "production", "owner": "hush-team"},
}
PROVIDER = {
    "label": "Acme sign-in",
    "issuer": "https://login.acme.example",
    "client_id": "portico",
    "roles": {"*": "viewer"},
}
# What a good request of each writing operation holds; what a portal knows only when it is there stands in `Whole`.
BODIES: dict[str, Any] = {
    "allowed_hosts_allow": {"host": "10.2.3.4"},
    "allowed_hosts_withdraw": None,
    "changes_undo_create": None,
    "connections_check": None,
    "connections_create": {"slug": "another", "connector": "controlled", "config": {"place": "there"}},
    "connections_delete": None,
    "connections_deliveries_replay": {},
    "connections_deliveries_secret": None,
    "connections_decide_anew": None,
    "connections_mute": None,
    "connections_records_leave_out": None,
    "connections_rules_change": {"ignored": {"patterns": ["nightly-*"]}},
    "connections_rules_preview": {"components": {"only_if": "repository.path.startsWith('acme/')"}},
    "connections_rules_undo": None,
    "connections_sync": None,
    "connections_unmute": None,
    "connections_update": {"is_paused": True},
    "connectors_preview": {"config": {"place": "there"}},
    "connectors_test": {"config": {"token": "good"}},
    "definitions_restore": None,
    "entities_change_fields": {
        "entities": ["component:default/hush-pay"],
        "path": "spec.lifecycle",
        "action": "set",
        "value": "deprecated",
    },
    "entities_merge": {"into": "component:default/hush-doc"},
    "entities_operate": {
        "connection": "farm",
        "operation": "build",
        "target": "things/7",
        "params": {"branch": "next"},
    },
    "entities_override": {"overrides": {"spec.lifecycle": "deprecated"}},
    "entities_override_by_uid": {"overrides": {"spec.lifecycle": "deprecated"}},
    "entities_part": None,
    "entities_restore": {"reason": "It was right before."},
    "entities_set_owners": {"entities": ["component:default/hush-pay"], "owner": "group:elsewhere/crew"},
    "entities_upsert": {**COMPONENT, "metadata": {"name": "hush-new"}},
    "entities_withdraw": None,
    "entities_withdraw_by_uid": None,
    "favourites_add": None,
    "favourites_remove": None,
    "grants_create": {"user": "vic", "role": "editor"},
    "grants_destroy": None,
    "groups_create": {"name": "testers", "members": ["vic"]},
    "groups_destroy": None,
    "groups_partial_update": {"members": ["vic"]},
    "identity_provider_connect": PROVIDER,
    "identity_provider_remove": None,
    "invitations_create": {"email": "eve@acme.example", "role": "viewer"},
    "invitations_destroy": None,
    "invitations_renew_create": None,
    "locations_read": {"all": True},
    "locations_remove": None,
    "me_partial_update": {"name": "Somebody else"},
    "me_person_say": {"entity": "user:default/hush-someone"},
    "me_person_unsay": None,
    "names_create": {"title": "Others", "members": ["user:default/hush-vic"]},
    "names_map": {"ref": "group:default/hush-others", "target": "group:default/hush-team"},
    "names_unmap": None,
    "names_withdraw": None,
    "notices_read": None,
    "fields_delete": None,
    "fields_write": {"spec": {"kinds": ["Component"], "field": "spec.tier", "format": "text"}},
    "kind_changes_apply": {"anyway": True},
    "kind_changes_cancel": None,
    "kind_changes_check": None,
    "notices_update": {"is_read": True},
    "pages_reset": None,
    "pages_write": {"spec": PAGE},
    "person_claims_confirm": None,
    "person_claims_decline": None,
    "relations_reset": None,
    "relations_write": {"spec": {"inverse": "ownerOf", "check": "warn"}},
    "removed_connections_purge": None,
    "removed_connections_restore": None,
    "sample_load": None,
    "sample_remove": None,
    "sync_runs_cancel": None,
    "sync_runs_guard_decide": {"decision": "keep"},
    "sync_runs_restore": None,
    "ties_decide": {
        "source": "component:default/hush-pay",
        "type": "hasSource",
        "target": "repository:default/hush-twin",
        "state": "confirmed",
    },
    "tokens_create": {"name": "mine"},
    "tokens_destroy": None,
    "users_create": {"username": "dora"},
    "users_identities_destroy": None,
    "users_partial_update": {"name": "Vic L."},
    "users_person_tie": {"entity": "user:default/hush-someone"},
    "users_person_untie": None,
    "users_sign_in_link_create": None,
    "users_tokens_destroy": None,
    "views_create": {"title": "Apis", "query": "kind:api"},
    "views_delete": None,
    "views_restore": None,
    "views_update": {"title": "All"},
    "watches_create": {"about": "entities", "query": "kind:component"},
    "watches_delete": None,
    "watches_restore": None,
    "watches_update": {"when": "both"},
}


@dataclass(frozen=True)
class Whole:
    """What addresses and bodies can name.

    :ivar places: parameters of addresses by operation, or by how its name begins; those of "" hold for all.
    :ivar bodies: good bodies by operation.
    """

    places: dict[str, dict[str, Any]]
    bodies: dict[str, Any]

    def parameters(self, operation: str) -> dict[str, Any]:
        """What an operation's address is filled with."""
        found: dict[str, Any] = {}
        for start in sorted(self.places, key=len):
            if operation.startswith(start):
                found |= self.places[start]
        return found


@pytest.fixture
def whole(
    world: dict[str, Any],
    tool: Tool,
    connect: Callable[..., Connection],
    ana: User,
    vic: User,
    tmp_path: Path,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Whole:
    """The company of two namespaces, a tool that takes operations and deliveries, and one of each other noun."""

    def unknown(*_asked: Any, **_more: Any) -> Any:
        raise OSError("Names of other machines are not known here.")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(openid, "check_provider", lambda issuer: None)
    files, settings.PORTICO_HOME = tmp_path / "files", tmp_path / "home"
    files.mkdir()
    settings.PORTICO_FILES_ALLOW = [files, settings.PORTICO_HOME / "sample"]
    file = files / "catalog-info.yaml"
    file.write_text("apiVersion: backstage.io/v1alpha1\nkind: Component\nmetadata: {name: hush-file}\n")
    people = {"profile": {}, "memberOf": []}
    say(
        "yaml:people",
        claim("user:hush-vic", people),
        claim("user:hush-someone", people),
        claim("component:hush-old", {"type": "service", "lifecycle": "production", "owner": "hush-team"}),
    )
    pay = Entity.objects.get(ref="component:default/hush-pay")
    merge_into(user=ana, loser=Entity.objects.get(ref="component:default/hush-old"), winner=pay)
    edit.upsert_documents(user=ana, documents=[{**COMPONENT, "metadata": {"name": "hush-mine"}}])
    edit.upsert_documents(
        user=ana, documents=[{**COMPONENT, "metadata": {"name": "hush-mine", "title": "Mine"}}]
    )
    mine = Entity.objects.get(ref="component:default/hush-mine")
    claim_person(vic, entity_uid=Entity.objects.get(ref="user:default/hush-vic").uid)

    tool.things = [Pipeline(external_id="7", name="build", keys=["pipeline:ci.example/9"])]
    tool.events = [event("over", about="pipeline:ci.example/9", title="build", number="1")]
    farm = connect(slug="farm", config={"webhook_secret": "s", "token": "good"})
    update_connection(connection=farm, allows_operations=True)
    synced(farm)
    render_dirty(at=timezone.now())
    RuleRevision.objects.create(connection=farm, rules={}, by="tests")
    record = StoredRecord.objects.get(connection=farm, external_id="7")
    subject = subject_of(farm, record)
    assert subject is not None
    operation = OperationRun.objects.create(
        connection=farm, operation="build", target_type="pipeline", target_id="things/7", subject_uid=subject.uid,
        idempotency_key="k", requested_by="tests", requested_at=timezone.now(), state=OperationRun.State.DONE,
    )  # fmt: skip
    delivery = Delivery.objects.create(
        connection=farm, digest="0" * 64, body=b"[]", state=Delivery.State.DEAD, received_at=timezone.now()
    )
    now = timezone.now()
    Connection.objects.filter(pk=connect(slug="quiet").pk).update(muted_at=now)
    Connection.objects.filter(pk=connect(slug="gone").pk).update(
        removal_at=now, kept_until=now + timedelta(days=30)
    )
    create_owner(user=ana, ref="group:default/hush-made")
    map_name(
        user=ana, ref="group:default/hush-former", target=Entity.objects.get(ref="group:default/hush-team")
    )
    group = create_group(name="builders", members=[vic])
    save_provider(
        {
            **PROVIDER,
            "scopes": "openid",
            "groups_claim": "",
            "access_groups": {},
            "email_domains": [],
            "makes_accounts": False,
            "trusts_email": False,
            "is_active": True,
        },
        by=None,
    )
    invite(email="fay@acme.example", role="viewer")
    host = AllowedHost.objects.create(host="ghe.corp.example", what="private", by="tests")
    stale = Problem.objects.filter(type="stale")[0]
    hers = make_watch(user=ana, about="entities", query="kind:api")
    deleted = make_watch(user=ana, about="activity", name="No more")
    delete_watch(watch=deleted)
    view, dropped = (make_view(user=ana, title=title, query="kind:api") for title in ("Ours", "No more"))
    delete_view(user=ana, view=dropped)
    notice = Notice.objects.create(user=ana, watch=hers, new=1, new_uids=[pay.uid], started_at=now, at=now)
    kind = Kind.objects.get(name="component")
    KindField.objects.create(
        name="hush-field", spec={"kinds": ["Component"], "field": "spec.hush", "format": "text"}
    )
    changed = KindChange.objects.create(
        definition="component", kind="component", spec={**kind.spec, "description": "Hush"}, before=kind.spec,
        state=KindChange.State.CHECKED, made_at=now, made_by="tests",
    )  # fmt: skip
    here = {"namespace": subject.namespace, "kind": subject.kind, "name": subject.name}
    return Whole(
        places={
            "": world
            | {
                "username": "vic",
                "connector": "controlled",
                "resource": "hush-things",
                "host_id": host.pk,
                "operation_id": operation.pk,
                "delivery_id": delivery.pk,
            },
            "audit_": {"id": AuditEvent.objects.latest("pk").pk},
            "changes_": {"change": Undoable.objects.get(event__verb="entity.merge").event_id},
            "connections_": {"slug": "farm", "record_id": record.pk},
            "connections_unmute": {"slug": "quiet"},
            "definitions_": {"kind": "Page", "name": "home"},
            "entities_operat": here,
            "entities_part": {"name": "hush-old"},
            "entities_restore": {"name": "hush-mine", "number": 1},
            "entities_withdraw": {"name": "hush-mine", "uid": mine.uid},
            "fields_": {"name": "hush-field"},
            "kind_changes_": {"change_id": changed.pk},
            "kind_changes_propose": {"kind": "component"},
            "kinds_": {"kind": "component"},
            "relations_": {"name": "ownedBy"},
            "grants_": {"id": grant(role="viewer", group=group).pk},
            "groups_": {"id": group.pk},
            "invitations_": {"id": SignInLink.objects.invitations().get().pk},
            "notices_": {"notice_id": notice.pk},
            "names_": {"kind": "group", "name": "hush-former"},
            "names_create": {"name": "hush-others"},
            "names_withdraw": {"name": "hush-made"},
            "pages_": {"name": "home"},
            "removed_connections_": {"slug": "gone"},
            "roles_": {"name": "viewer"},
            "tokens_": {"id": create_token(user=ana, name="hers").token.pk},
            "users_identities_": {
                "id": Identity.objects.create(user=vic, issuer="https://login.acme.example", subject="7").pk
            },
            "users_tokens_": {"id": create_token(user=vic, name="his").token.pk},
            "views_": {"view_id": view.pk},
            "views_restore": {"view_id": dropped.pk},
            "watches_": {"watch_id": hers.pk},
            "watches_restore": {"watch_id": deleted.pk},
        },
        bodies=BODIES
        | {
            "kind_changes_propose": {"spec": kind.spec},
            "locations_import": {"address": str(file)},
            "locations_preview": {"address": str(file)},
            "problems_snooze": {"type": stale.type, "cause": stale.cause, "days": 3},
        },
    )


def digests() -> dict[str, str]:
    """All that the database holds, by table; not who has a session where."""
    tables = sorted(set(connection.introspection.table_names()) - {"django_session"})
    parts = (
        f"SELECT '{table}', count(*) || ':' || coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) "
        f'FROM "{table}" t'
        for table in tables
    )
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(parts))
        return dict(cursor.fetchall())


# --- nobody writes who may not ------------------------------------------------------------------------------------


def _writing(description: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Method, path and operation of all that writes."""
    for path, operations in description["paths"].items():
        for method in WRITING:
            if method in operations:
                yield method, path, operations[method]["operationId"]


def _verbs(method: str, url: str) -> set[str]:
    """Of which one is enough."""
    found = resolve(url).func
    view = getattr(found, "cls", None) or found.view_class  # type: ignore[attr-defined]
    verbs = view.verbs[method.upper()]
    return {verbs} if isinstance(verbs, str) else set(verbs)


def _sign_in(who: str) -> Client:
    client = Client(raise_request_exception=False)
    if who:
        client.force_login(User.objects.get(username=who))
    return client


@pytest.mark.parametrize("who", ["", "noor", "cleo", "vic", "ana's token", "ben", "ana"])
def test_each_writes_what_they_may_and_nothing_else(
    who: str,
    whole: Whole,
    description: dict[str, Any],
    ana: User,
    ben: User,
    cleo: User,
    no_access: User,
    as_token: Callable[..., dict[str, str]],
) -> None:
    """Good requests of every writing operation; what is refused has changed no row of any table.

    Noor may do nothing, Cleo edit what lies elsewhere, which is nothing of this.
    """
    grant(role="editor", user=cleo, scope_type="namespace", scope="elsewhere")
    roles = {"": None, "noor": None, "cleo": None, "vic": "viewer", "ana's token": "viewer", "ben": "editor"}
    role = roles.get(who, "administrator")
    verbs = Role.objects.get(name=role).verbs if role else frozenset()
    client = _sign_in("" if who == "ana's token" else who)
    headers = as_token(ana, role="viewer") if who == "ana's token" else {}
    client.get("/api/v1/me/", headers=headers)  # that a token is in use is noted
    before, written = digests(), set()
    for method, path, operation in _writing(description):
        assert operation in whole.bodies, (
            f"{operation} is new: say in BODIES what a good request of it holds."
        )
        url = path.format_map({name: str(value) for name, value in whole.parameters(operation).items()})
        body = whole.bodies[operation]
        sent = {} if body is None else {"data": body, "content_type": "application/json"}
        wanted = _verbs(method, url)
        own = {OWN, "token.write"} if who in {"noor", "cleo", "vic", "ben", "ana"} else set()
        own -= {"token.write"} if who == "noor" else set()
        may = wanted & own or (who in {"ben", "ana"} and (wanted & verbs or EVERYTHING in verbs))
        with transaction.atomic():
            answer = getattr(client, method)(url, headers=headers, **sent)
            after = digests()
            transaction.set_rollback(True)
        access_cache.clear()
        told = (operation, answer.status_code, answer.content[:300])
        assert answer.status_code < 500, told
        if may:
            assert who != "ana" or answer.status_code < 300, told
            assert answer.status_code not in {401, 403}, told
            written |= {operation} if answer.status_code < 300 else set()
            continue
        changed = [table for table in before if before[table] != after[table]]
        assert changed == [], told
        if who != "cleo":  # who may do it elsewhere, so that she finds nothing here, or does nothing to it
            assert answer.status_code == (403 if who else 401), told
    least = {"ana": len(BODIES), "ben": 15, "vic": 4, "cleo": 2, "noor": 2}.get(who, 0)
    assert len(written) >= least, written


def test_who_has_not_seen_a_change_of_somebody_else_changes_nothing(whole: Whole, ana: User) -> None:
    client = _sign_in("ana")
    changes: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
        ("patch", "connections/farm/", {"label": "Farm A"}, {"label": "Farm B"}),
        ("patch", "connections/farm/", {"config": {"token": "other"}}, {"label": "Farm B"}),
        (
            "patch",
            "connections/farm/rules/",
            {"ignored": {"patterns": ["a"]}},
            {"ignored": {"patterns": ["b"]}},
        ),
        ("put", "identity-provider/", PROVIDER | {"label": "A"}, PROVIDER | {"label": "B"}),
    ]
    for method, path, first, second in changes:

        def change(body: dict[str, Any], tag: str, method: str = method, path: str = path) -> Any:
            return getattr(client, method)(
                f"/api/v1/{path}", body, content_type="application/json", headers={"If-Match": tag}
            )

        tag = client.get(f"/api/v1/{path}").headers["ETag"]
        done = change(first, tag)
        assert done.status_code == 200, done.content
        late = change(second, tag)
        assert (late.status_code, late.json()["code"]) == (412, "precondition-failed")
        now = client.get(f"/api/v1/{path}")
        assert (now.json(), now.headers["ETag"]) == (done.json(), done.headers["ETag"])
        assert change(second, now.headers["ETag"]).status_code == 200


def test_a_field_that_there_is_not_is_refused_and_the_known_ones_are_named(whole: Whole, ana: User) -> None:
    client = _sign_in("ana")
    wrong = {"is_pased": True, "network": {"prxy": "http://proxy.acme.example:3128"}}
    before = digests()
    answer = client.patch("/api/v1/connections/farm/", wrong, content_type="application/json")
    assert answer.status_code == 422
    found = {error["path"]: error["expected"] for error in answer.json()["errors"]}
    assert set(found) == {"is_pased", "network.prxy"}
    assert "is_paused" in found["is_pased"]
    assert "proxy_password" in found["network.prxy"]
    assert digests() == before


# --- whether it is true -------------------------------------------------------------------------------------------

# Of what a client may send and the server refuses, the description need not know everything; what it says of the
# answers must hold.
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


@pytest.fixture
def wsgi() -> Iterator[Any]:
    """The portal as a web server calls it, on the connection of the test, which requests must not close."""
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    yield get_wsgi_application()
    for signal in signals:
        signal.connect(close_old_connections)


@dataclass(frozen=True)
class Explorer:
    """Sends requests that fit the description, each taken back, and checks the answers.

    :ivar reads_only: whether no request may change a row.
    """

    wsgi: Any
    description: dict[str, Any]
    whole: Whole
    headers: dict[str, str]
    reads_only: bool = False

    def explore(self, *, examples: int, with_nonsense: bool = False, part: int = 0, of: int = 1) -> set[str]:
        """Go through all operations, or a part of them.

        :param of: into so many parts they are cut.
        :returns: those that did what they were asked for at least once.
        """
        schema = schemathesis.openapi.from_dict(self.description)
        schema.app = self.wsgi
        good: set[str] = set()
        for result in islice(schema.get_all_operations(), part, None, of):
            operation = result.ok()
            name = operation.definition.raw["operationId"]
            places = self.whole.parameters(name)
            wanted = {parameter.definition["name"] for parameter in operation.path_parameters}
            known = {key: str(value) for key, value in places.items() if key in wanted}
            cases = operation.as_strategy()
            if known:
                cases = operation.as_strategy(path_parameters=known) | cases
            if body := self.whole.bodies.get(name):
                cases = operation.as_strategy(path_parameters=known, body=body) | cases
            if with_nonsense and (operation.query or operation.body):
                cases = cases | operation.as_strategy(GenerationMode.NEGATIVE)
            if self._answers(cases, examples=examples):
                good.add(name)
        return good

    def _answers(self, cases: Any, *, examples: int) -> list[int]:
        """The good statuses that some requests were answered with."""
        good: list[int] = []
        before = digests() if self.reads_only else {}

        @hypothesis.settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(cases)
        def check(case: Any) -> None:
            with transaction.atomic():
                answer = case.call(headers=self.headers, base_url="http://testserver")
                after = digests() if self.reads_only else {}
                transaction.set_rollback(True)
            access_cache.clear()
            case.validate_response(answer, checks=CHECKS)
            assert before == after, case.as_curl_command()
            if answer.status_code < 300:
                good.append(answer.status_code)

        check()
        return good


REACHED = {"nobody": 0, "viewer": 15, "editor": 25, "administrator": 45, "one namespace": 15}


@pytest.fixture
def explorer(
    wsgi: Any,
    description: dict[str, Any],
    whole: Whole,
    ana: User,
    as_token: Callable[..., dict[str, str]],
) -> Callable[[str], Explorer]:
    """Explore as nobody, by a token of a role, or by an administrator's for one namespace."""

    def as_role(role: str) -> Explorer:
        limits = {
            "nobody": None,
            "administrator": {},
            "one namespace": {"scope_type": "namespace", "scope": "elsewhere"},
        }.get(role, {"role": role})
        headers = {} if limits is None else as_token(ana, **limits)
        ApiToken.objects.update(last_used_at=timezone.now())  # which is noted by its first use
        return Explorer(wsgi, description, whole, headers, reads_only=role in {"nobody", "viewer"})

    return as_role


@pytest.mark.parametrize("role", REACHED)
def test_what_it_says_of_the_answers_is_true(role: str, explorer: Callable[[str], Explorer]) -> None:
    reached = explorer(role).explore(examples=1 if role == "nobody" else 2)
    assert len(reached) >= REACHED[role], (len(reached), reached)


PARTS = 8


@pytest.mark.full
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("role", REACHED)
def test_what_it_says_of_the_answers_is_true_at_length(
    role: str, part: int, explorer: Callable[[str], Explorer]
) -> None:
    explorer(role).explore(examples=60, with_nonsense=True, part=part, of=PARTS)


# --- whether it has what the pages have ---------------------------------------------------------------------------

# The pages that take a form, and the operations by which a program does the same.
PAGES: dict[str, tuple[str, ...]] = {
    "connect-allow": ("allowed_hosts_allow", "connectors_test"),
    "connect-preview": ("connectors_preview",),
    "connect-schedule": ("connections_create", "connections_sync"),
    "connect-settings": ("connectors_retrieve", "connectors_test"),
    "connect-test": ("connectors_test",),
    "connection-allow": ("allowed_hosts_allow", "connections_check"),
    "connection-cancel": ("sync_runs_cancel",),
    "connection-check": ("connections_check",),
    "connection-decide-anew": ("connections_decide_anew",),
    "connection-delete": ("connections_delete",),
    "connection-guard": ("sync_runs_guard_list", "sync_runs_guard_decide"),
    "connection-leave-out": ("connections_records_leave_out",),
    "connection-left-out": (
        "connections_rules_preview", "connections_rules_change", "connections_rules_undo",
    ),
    "connection-mute": ("connections_mute",),
    "connection-pause": ("connections_update",),
    "connection-purge": ("removed_connections_purge",),
    "connection-replay": ("connections_deliveries_replay",),
    "connection-restore": ("sync_runs_restore",),
    "connection-resume": ("connections_update",),
    "connection-rules": ("connections_rules_preview", "connections_rules_change", "connections_rules_undo"),
    "connection-secret": ("connections_deliveries_secret",),
    "connection-settings": ("connections_update", "connections_check"),
    "connection-sync": ("connections_sync",),
    "connection-undelete": ("removed_connections_restore",),
    "connection-unmute": ("connections_unmute",),
    "entity-delete": ("entities_deletion", "entities_withdraw", "names_withdraw"),
    "entity-edit": ("entities_override",),
    "entity-merge": ("entities_merge", "entities_part"),
    "entity-run": ("entities_operations", "entities_operate"),
    "entity-tie": ("ties_decide",),
    "entity-unknown": ("names_create", "names_map"),
    "entity-new": ("entities_upsert",),
    "entity-restore": ("entities_restore",),
    "favourite": ("favourites_add", "favourites_remove"),
    "bulk-change": ("entities_change_fields", "entities_set_owners"),  # whose answer a program waits for
    "fields": ("entities_change_fields",),
    "import": ("locations_preview", "locations_import"),
    "import-read": ("locations_read",),
    "import-remove": ("locations_remove",),
    "notice-mark": ("notices_update",),
    "notice-open": ("notices_update",),
    "notices-end": ("watches_update",),
    "notices-read": ("notices_read",),
    "owners": ("entities_set_owners",),
    "problems-snooze": ("problems_snooze",),
    "sample": ("sample_load", "sample_remove"),
    "settings": ("me_partial_update",),
    "settings-access": (
        "invitations_create", "invitations_renew_create", "invitations_destroy", "users_partial_update",
        "person_claims_confirm", "person_claims_decline",
    ),
    "settings-change": ("changes_retrieve", "changes_undo_create"),
    "settings-field": ("fields_write",),
    "settings-field-delete": ("fields_delete", "fields_impact"),
    "settings-field-move": ("fields_write",),
    "settings-field-new": ("fields_write",),
    "settings-group": (
        "groups_partial_update", "groups_destroy", "grants_create", "grants_destroy",
    ),
    "settings-groups": ("groups_create",),
    "settings-kind-change": (
        "kind_changes_retrieve", "kind_changes_apply", "kind_changes_cancel", "kind_changes_check",
    ),
    "settings-kind-propose": ("kind_changes_propose",),
    "settings-outbound": ("allowed_hosts_allow",),
    "settings-outbound-withdraw": ("allowed_hosts_withdraw",),
    "settings-packs-restore": ("definitions_restore",),
    "settings-provider": ("identity_provider_connect", "identity_provider_remove"),
    "settings-relation": ("relations_write", "relations_reset"),
    "settings-token-revoke": ("tokens_destroy",),
    "settings-tokens": ("tokens_create",),
    "settings-user": (
        "users_partial_update", "users_person_tie", "users_person_untie", "users_sign_in_link_create",
        "users_identities_destroy", "users_tokens_destroy", "grants_create", "grants_destroy",
    ),
    "settings-watch": ("watches_update",),
    "settings-watch-delete": ("watches_delete",),
    "settings-watch-new": ("watches_create",),
    "settings-watch-pause": ("watches_update",),
    "settings-watch-restore": ("watches_restore",),
    "settings-who": ("me_person_say", "me_person_unsay"),
    "tie": ("ties_decide",),
    "unknown-owners": ("names_unmap", "names_withdraw"),
    "view-delete": ("views_delete",),
    "view-edit": ("views_update",),
    "view-new": ("views_create",),
    "view-restore": ("views_restore",),
    "view-save": ("views_update",),
}  # fmt: skip
# Those that concern the browser alone: its session, and how it shows the portal.
OF_THE_BROWSER = {"settings-look", "sign-in", "sign-in-link", "sign-out"}


def _methods(view: Any) -> list[str] | None:
    """The methods that a page's decorator lets in; None if it has none."""
    while view is not None:
        names = view.__code__.co_freevars
        if "request_method_list" in names:
            return list(view.__closure__[names.index("request_method_list")].cell_contents)
        view = getattr(view, "__wrapped__", None)
    return None


def test_what_a_page_does_a_program_can_do(description: dict[str, Any]) -> None:
    operations = {
        operation["operationId"]
        for described in description["paths"].values()
        for operation in described.values()
    }
    taking = set()
    for route in routes():
        if route.name and route.name.startswith("portal:"):
            methods = _methods(route.view)
            assert methods is not None, (
                f"{route.name} says not by which methods it is asked (require_safe, ...)."
            )
            if "POST" in methods:
                taking.add(route.name.removeprefix("portal:"))
    assert taking > OF_THE_BROWSER
    for name in taking - OF_THE_BROWSER:
        assert name in PAGES, (
            f"The page {name} takes a form: say in PAGES by which operations a program does it."
        )
        assert set(PAGES[name]) <= operations, name
    assert set(PAGES) <= taking
