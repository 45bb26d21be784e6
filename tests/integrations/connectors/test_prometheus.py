"""The connector of Prometheus against a real one, which finds that a server does not answer."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from catalog.models import Activity
from integrations import alerting
from integrations.connectors.prometheus.connector import Prometheus
from integrations.contract import SourceUnavailable
from integrations.models import RunState
from integrations.records import Alert, AlertStatus
from integrations.services.connections import create_connection
from tests.contract.test_connectors import SECRET, HttpConnectorContract
from tests.docs.pages import block
from tests.integrations.alerting_servers import run_prometheus
from tests.integrations.reading import read, use
from tests.integrations.servers import serve, wait_for
from tests.integrations.tool import synced

pytestmark = pytest.mark.server

RULES = [
    {
        "alert": "Down",
        "expr": 'up{job="shop"} == 0',
        "labels": {"severity": "critical", "service": "pay"},
        "annotations": {"summary": "{{ $labels.job }} does not answer."},
    },
    {"alert": "Slow", "expr": "vector(1)", "for": "1h", "labels": {"app": "web"}},
    {"alert": "Odd", "expr": 'label_replace(vector(1), "a", "b", "c", "(")'},
    {"record": "shop:up", "expr": "sum(up)"},
]


@dataclass
class Shop:
    """The server that Prometheus looks at, and the settings of a connection to Prometheus."""

    config: dict[str, Any]
    is_up: bool = False

    def alerts(self, **more: Any) -> dict[str, Alert]:
        """What the connector reads, by the alerts' names."""
        found = read(Prometheus, {**self.config, **more}, "alerts")
        assert not found.refused
        return {record.title.partition(":")[0]: record for record in found.records}


@pytest.fixture(autouse=True, scope="module")
def settled() -> Iterator[None]:
    """A Prometheus that has just started is taken for one that has run for long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alerting, "SETTLED", timedelta(0))
        yield


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, require_program: Callable[..., str]) -> Iterator[Shop]:
    found, folder = require_program("prometheus"), tmp_path_factory.mktemp("prometheus")
    made = Shop({"username": "ana", "password": SECRET})

    def metrics(_request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        return (200, {"Content-Type": "text/plain"}, b"sold 1\n") if made.is_up else (503, {}, b"")

    def finds_all() -> bool:
        try:
            return set(made.alerts(pending=True)) == {"Down", "Slow"}
        except SourceUnavailable:  # it has not evaluated its rules yet
            return False

    with (
        serve(metrics) as target,
        run_prometheus(found, folder, RULES, [target.removeprefix("http://")]) as url,
    ):
        made.config["base_url"] = url
        wait_for(finds_all, "Prometheus' first alerts")
        yield made


def test_what_fires_is_read_and_what_is_pending_where_it_is_wanted(shop: Shop) -> None:
    assert set(shop.alerts()) == {"Down"}
    found = shop.alerts(pending=True)
    down, slow = found["Down"], found["Slow"]
    assert (down.status, down.severity) == (AlertStatus.FIRING, "critical")
    assert down.title == "Down: shop does not answer."
    assert down.about == ["ref:component:pay", "ref:component:shop"]
    assert (
        down.url == shop.config["base_url"] + "/graph?g0.expr=up%7Bjob%3D%22shop%22%7D%20%3D%3D%200&g0.tab=1"
    )
    assert timedelta(0) < datetime.now(UTC) - down.started_at < timedelta(minutes=5)
    assert (slow.status, slow.title, slow.about) == (AlertStatus.PENDING, "Slow", ["ref:component:web"])


def test_an_alert_is_the_same_while_its_labels_are(shop: Shop) -> None:
    first, second = shop.alerts()["Down"], shop.alerts()["Down"]
    assert (first.external_id, first.started_at) == (second.external_id, second.started_at)
    assert first.external_id != shop.alerts(pending=True)["Slow"].external_id


def test_one_that_has_just_started_may_not_have_found_all(shop: Shop, monkeypatch: Any) -> None:
    monkeypatch.setattr(alerting, "SETTLED", timedelta(hours=1))
    with pytest.raises(SourceUnavailable, match="nothing is taken for resolved"):
        shop.alerts()


def test_the_check_tells_what_works_and_which_rules_do_not(shop: Shop) -> None:
    health = use(Prometheus, shop.config, lambda made: made.check())
    assert health.ok
    assert health.checks[0].label.startswith("Reached Prometheus 2.")
    assert (
        health.checks[1].label
        == "Reads alerting rules: 3; alerts that fire: 1, of which 1 have labels that may name something"
    )
    assert health.checks[1].detail.startswith("Odd: ")
    assert "Mend the rules" in health.checks[1].remedy


@pytest.mark.parametrize("wrong", [{"username": ""}, {"password": "wrong"}])
def test_a_sign_in_that_is_missing_or_wrong_is_told(shop: Shop, wrong: dict[str, str]) -> None:
    health = use(Prometheus, {**shop.config, **wrong}, lambda made: made.check())
    (check,) = health.checks
    assert (check.ok, check.label) == (False, "Not permitted")
    assert "user name and password" in check.remedy


@pytest.mark.parametrize("said", [{"data": []}, {"data": {}}, {"data": {"groups": [7]}}])
def test_another_program_is_told_from_prometheus(server: Any, make_answer: Any, said: Any) -> None:
    server.on("/api/v1/status/buildinfo", make_answer(json={"data": {"version": "1"}}))
    server.on("/api/v1/rules", make_answer(json=said))
    health = use(Prometheus, {"base_url": server.url}, lambda made: made.check())
    assert [check.label for check in health.checks] == ["This is not Prometheus"]


def test_of_two_rules_that_find_the_same_the_one_that_fires_counts(server: Any, make_answer: Any) -> None:
    def rule(state: str) -> dict[str, Any]:
        alert = {"labels": {"alertname": "A"}, "state": state, "activeAt": "2026-01-02T03:04:05.123456789Z"}
        return {"name": "A", "query": "up", "alerts": [alert]}

    groups = [{"rules": [rule("firing"), rule("pending")], "lastEvaluation": "2026-01-02T03:04:05Z"}]
    server.on("/api/v1/rules", make_answer(json={"data": {"groups": groups}}))
    server.on("/api/v1/status/runtimeinfo", make_answer(json={"data": {"startTime": "2026-01-02T03:04:05Z"}}))
    (found,) = read(Prometheus, {"base_url": server.url, "pending": True}, "alerts").records
    assert found.status == AlertStatus.FIRING


def test_the_documented_rule_is_one(require_program: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(block("connect-alerts.md", "rules.yml"))
    promtool = require_program("promtool")
    subprocess.run([promtool, "check", "rules", tmp_path / "rules.yml"], check=True, capture_output=True)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("core_pack")
def test_an_alert_is_over_when_its_condition_no_longer_holds(shop: Shop, settings: Any) -> None:
    settings.PORTICO_OUTBOUND_ALLOW = ["127.0.0.1"]
    connection = create_connection(
        slug="pr", label="Prometheus", connector="prometheus", config=shop.config | {"pending": True}
    )

    def statuses() -> dict[str, str]:
        assert synced(connection).state == RunState.SYNCED
        return dict(Activity.objects.values_list("title", "status"))

    assert statuses() == {"Down: shop does not answer.": "firing", "Slow": "pending"}
    shop.is_up = True
    wait_for(lambda: "Down" not in shop.alerts(), "the alert's end")
    assert statuses() == {"Down: shop does not answer.": "resolved", "Slow": "pending"}
    down = Activity.objects.get(status="resolved")
    assert down.started_at < down.finished_at
    shop.is_up = False
    wait_for(lambda: "Down" in shop.alerts(), "the alert anew")
    assert statuses()["Down: shop does not answer."] == "firing"
    down.refresh_from_db()
    assert [step.status for step in down.transitions.order_by("at")] == ["firing", "resolved", "firing"]


class TestContract(HttpConnectorContract):
    connector = Prometheus
    settings = {"base_url": "https://prometheus.acme.example", "username": "ana", "password": SECRET}

    @pytest.fixture(scope="class")
    @classmethod
    def upstream(cls, shop: Shop) -> dict[str, Any]:
        return shop.config
