"""Requests that fit a description of the API, Backstage's own or ours, and some that do not: answers are as it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import orjson
import pytest
import schemathesis
import yaml
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, transaction
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from schemathesis import GenerationMode, checks

from access.models import User
from access.permissions import cache
from catalog.api.backstage.description import description
from catalog.api.backstage.errors import PREFIX
from catalog.models import Entity
from integrations.models import CatalogLocation
from tests.catalog.saying import claim, say

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]

CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
NAMES = {"kind": "component", "namespace": "default", "name": "pay"}
ENTITY = {
    "apiVersion": "backstage.io/v1alpha1",
    "kind": "Component",
    "metadata": {"name": "new"},
    "spec": {"type": "service", "lifecycle": "production", "owner": "crew"},
}
PREDICATE = {"$all": [{"kind": "component"}, {"$not": {"spec.type": {"$in": ["library"]}}}]}
# Good requests, so that more is answered than refusals.
GOOD: dict[str, list[dict[str, Any]]] = {
    "RefreshEntity": [{"body": {"entityRef": "component:default/pay"}}],
    "GetDescription": [{}],
    "GetEntities": [{"query": {"filter": ["kind=component"], "fields": ["metadata"], "limit": 1}}],
    "GetEntityByUid": [{}],
    "DeleteEntityByUid": [{}],
    "GetEntityByName": [{}],
    "GetEntityAncestryByName": [{}],
    "GetEntitiesByRefs": [{"body": {"entityRefs": ["component:default/pay", "x"], "query": PREDICATE}}],
    "GetEntitiesByQuery": [{"query": {"limit": 1, "orderField": ["metadata.name,desc"]}}],
    "QueryEntitiesByPredicate": [
        {"body": {"query": PREDICATE, "limit": 1, "fullTextFilter": {"term": "a", "fields": ["kind"]}}}
    ],
    "GetEntityFacets": [{"query": {"facet": ["kind", "spec.type"]}}],
    "QueryEntityFacetsByPredicate": [{"body": {"facets": ["kind"], "query": PREDICATE}}],
    "CreateLocation": [
        {"body": {"type": "url", "target": "http://127.0.0.1:9/x.yaml"}},
        {"body": {"type": "url", "target": "http://127.0.0.1:9/x.yaml"}, "query": {"dryRun": "true"}},
    ],
    "GetLocations": [{}],
    "GetLocationsByQuery": [{"body": {"limit": 1, "query": {"type": "url"}}}],
    "GetLocation": [{}],
    "UpdateLocation": [{"body": {"type": "url", "target": "http://127.0.0.1:9/y.yaml"}}],
    "DeleteLocation": [{}],
    "getLocationByEntity": [{}],
    "AnalyzeLocation": [{"body": {"location": {"type": "url", "target": "https://github.com/acme/pay"}}}],
    "ValidateEntity": [
        {"body": {"entity": ENTITY, "location": "url:https://a.example/x.yaml"}},
        {"body": {"entity": {**ENTITY, "kind": 7}, "location": "url:https://a.example/x.yaml"}},
    ],
}


@pytest.fixture
def wsgi() -> Iterator[Any]:
    """The portal as a web server calls it, on the connection of the test, which requests must not close."""
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    yield get_wsgi_application()
    for signal in signals:
        signal.connect(close_old_connections)


def theirs(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((folder / "backstage" / "catalog-openapi.yaml").read_text())
    # It allows nothing in the metadata of an offered entity, which Backstage's own answers have too.
    del found["components"]["schemas"]["RecursivePartialEntityMeta"]["additionalProperties"]
    return found


def ours() -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(description())
    found["paths"] = {path.removeprefix(PREFIX): one for path, one in found["paths"].items()}
    return found


@pytest.fixture(params=["Backstage's", "ours"])
def schema(wsgi: Any, settings: Any, request: pytest.FixtureRequest) -> Any:
    settings.PORTICO_OUTBOUND_ALLOW = ["127.0.0.1"]
    described = ours() if request.param == "ours" else theirs(request.getfixturevalue("test_data"))
    found = schemathesis.openapi.from_dict(described)
    found.app = wsgi
    return found


@pytest.fixture
def places() -> dict[str, str]:
    """What addresses can name."""
    location = CatalogLocation.objects.create(address="url:http://127.0.0.1:9/pay.yaml")
    links = [{"url": "https://pay.example", "title": "Pay", "icon": "web", "type": "page"}]
    say(
        location.source_key,
        claim("group:crew", {"type": "team", "children": []}),
        claim(
            "component:pay",
            {"type": "service", "lifecycle": "production", "owner": "crew", "dependsOn": ["component:loose"]},
            metadata={"links": links, "tags": ["java"], "labels": {"a": "b"}, "annotations": {"a.b/c": "d"}},
        ),
        claim("component:loose", {"type": "library"}),
    )
    say("connection:git/repositories", claim("repository:pay", {"path": "acme/pay"}))
    uid = str(Entity.objects.get(ref="component:default/pay").uid)
    return {**NAMES, "uid": uid, "id": str(location.uid)}


def explore(
    schema: Any, places: dict[str, str], headers: dict[str, str], *, examples: int, nonsense: bool
) -> set[str]:
    """Ask every operation, each request taken back.

    :returns: those that did not once do what they were asked for.
    """
    good: set[str] = set()
    every = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        name = operation.definition.raw["operationId"]
        every.add(name)
        wanted = {parameter.definition["name"] for parameter in operation.path_parameters}
        known = {"path_parameters": {key: places[key] for key in wanted}} if wanted else {}
        cases = [operation.as_strategy()]
        if wanted:
            cases.append(operation.as_strategy(**known))
        if nonsense and (operation.query or operation.body):
            cases.append(operation.as_strategy(GenerationMode.NEGATIVE))

        for more in GOOD[name]:
            good |= _ask(operation.as_strategy(**known, **more), name, headers, examples=1)
        good |= _ask(st.one_of(cases), name, headers, examples=examples)
    assert len(every) >= 20
    return every - good


def _ask(cases: Any, name: str, headers: dict[str, str], *, examples: int) -> set[str]:
    good: set[str] = set()

    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(cases)
    def ask(case: Any) -> None:
        with transaction.atomic():
            answer = case.call(headers=headers, base_url="http://testserver/api/catalog")
            transaction.set_rollback(True)
        cache.clear()
        # Of a part of an entity the description asks what only a whole one has.
        is_part = "fields" in (case.query or {}) or (isinstance(case.body, dict) and "fields" in case.body)
        case.validate_response(answer, checks=CHECKS[:-1] if is_part else CHECKS)
        if answer.status_code < 300:
            good.add(name)

    ask()
    return good


def test_answers_are_as_they_are_described(
    schema: Any, places: dict[str, str], ana: User, as_token: Callable[..., dict[str, str]]
) -> None:
    assert explore(schema, places, as_token(ana), examples=6, nonsense=False) == set()


@pytest.mark.full
def test_so_they_are_at_length(
    schema: Any, places: dict[str, str], ana: User, as_token: Callable[..., dict[str, str]]
) -> None:
    assert explore(schema, places, as_token(ana), examples=200, nonsense=True) == set()
