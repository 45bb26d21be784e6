"""The connector of Alertmanager against a real one, which delivers to a running portal."""

from __future__ import annotations

import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pydantic import ValidationError

from access.models import User
from catalog.models import Activity
from catalog.services.edit import upsert_documents
from catalog.services.render import render_dirty
from integrations import alerting
from integrations.connectors.alertmanager.connector import Alertmanager
from integrations.contract import SourceUnavailable, WebhookRequest, bears_token
from integrations.models import Connection, Delivery, RunState
from integrations.records import AlertStatus
from integrations.services.connections import create_connection, preview_config
from integrations.services.deliveries import process_deliveries
from tests.contract.test_connectors import SECRET, HttpConnectorContract
from tests.docs.pages import block
from tests.integrations.alerting_servers import fire, run_alertmanager, silence
from tests.integrations.reading import read, use
from tests.integrations.servers import wait_for
from tests.integrations.tool import synced

pytestmark = pytest.mark.server


@pytest.fixture(autouse=True, scope="module")
def settled() -> Iterator[None]:
    """An Alertmanager that has just started is taken for one that has run for long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alerting, "SETTLED", timedelta(0))
        yield


@pytest.fixture(scope="module")
def found(require_program: Callable[..., str]) -> str:
    return require_program("prometheus-alertmanager", "alertmanager")


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory, found: str) -> Iterator[str]:
    with run_alertmanager(found, tmp_path_factory.mktemp("alertmanager")) as url:
        fire(url, alertname="Down", service="pay", severity="critical")
        yield url


def test_alerts_fire_and_are_silenced(alertmanager: str) -> None:
    fire(alertmanager, alertname="Slow", app="web", job="node")
    first = read(Alertmanager, {"base_url": alertmanager}, "alerts").records
    named = {record.title.partition(":")[0]: record for record in first}
    slow, down = named["Slow"], named["Down"]
    assert (down.status, down.severity, down.title) == (AlertStatus.FIRING, "critical", "Down: No answer.")
    assert down.url == "https://prometheus.acme.example/graph?g0.expr=up"
    assert down.about == ["ref:component:pay"]
    assert slow.about == ["ref:component:web", "ref:component:node"]
    assert timedelta(seconds=50) < datetime.now(UTC) - down.started_at < timedelta(minutes=5)
    silence(alertmanager, "app", "web")
    again = read(Alertmanager, {"base_url": alertmanager}, "alerts").by_id()
    assert again[slow.external_id].status == AlertStatus.SILENCED
    assert again[down.external_id].status == AlertStatus.FIRING


def test_one_that_has_just_started_does_not_know_all(alertmanager: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(alerting, "SETTLED", timedelta(hours=1))
    with pytest.raises(SourceUnavailable, match="nothing is taken for resolved"):
        read(Alertmanager, {"base_url": alertmanager}, "alerts")


def test_the_settings_say_what_labels_name(alertmanager: str) -> None:
    keys = ["repo:git.acme.example/{team}/{service}", "pipeline:ci.acme.example/{service}", "severity"]
    config = {"base_url": alertmanager, "subjects": keys}
    about = [record.about for record in read(Alertmanager, config, "alerts").records]
    assert ["pipeline:ci.acme.example/pay", "ref:component:critical"] in about


@pytest.mark.parametrize("wrong", ["{service}", "repo: {service}", "ref:component:{a b}", "a-b", "", "ref:{"])
def test_what_is_neither_label_nor_key_is_told(wrong: str) -> None:
    with pytest.raises(ValidationError, match="neither a label"):
        Alertmanager.Config.model_validate({"base_url": "https://a.example", "subjects": [wrong]})


@pytest.mark.parametrize("value", ["other/pay", "api:pay", "Pay Service", "-", "x" * 300])
def test_a_label_that_holds_no_name_names_nothing(value: str) -> None:
    config = Alertmanager.Config.model_validate({"base_url": "https://a.example"})
    assert config.about({"service": value, "other": "pay"}) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"base_url": "https://a.example", "username": "a", "token": "t"}, "not both"),
        ({"base_url": "https://a:b@a.example"}, "may not hold a user"),
    ],
)
def test_one_signs_in_one_way(given: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Alertmanager.Config.model_validate(given)


def test_it_signs_in_with_name_and_password(server: Any, make_answer: Any) -> None:
    server.on("/api/v2/status", make_answer(json={"versionInfo": {"version": "0.25.0"}}))
    server.on("/api/v2/alerts", make_answer(json=[{"labels": {}}]))
    config = {"base_url": server.url, "username": "ana", "password": "p"}
    health = use(Alertmanager, config, lambda made: made.check())
    assert [check.label for check in health.checks] == [
        "Reached Alertmanager 0.25.0",
        "Reads alerts: 1, of which 0 have labels that may name something",
    ]
    assert "What labels name" in health.checks[1].remedy
    sent = server.asked("/api/v2/status")[0].headers
    assert {k.lower(): v for k, v in sent.items()}["authorization"] == "Basic " + b64encode(b"ana:p").decode()


@pytest.mark.parametrize(
    ("header", "proved"),
    [
        (f"Bearer {SECRET}", True),
        ("Basic " + b64encode(f"portico:{SECRET}".encode()).decode(), True),
        ("Bearer wrong", False),
        ("Basic " + b64encode(f"{SECRET}:wrong".encode()).decode(), False),
        (f"Basic {SECRET}", False),
        ("Basic é", False),
        (SECRET, False),
        ("", False),
    ],
)
def test_a_delivery_is_proved_by_token_or_password(header: str, proved: bool) -> None:
    request = WebhookRequest({"authorization": header} if header else {}, b"", timezone.now())
    assert bears_token(request, SECRET) is proved


def test_the_documented_configuration_is_one(require_program: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text(block("connect-alerts.md", "alertmanager.yml"))
    amtool = require_program("amtool")
    subprocess.run([amtool, "check-config", tmp_path / "config.yml"], check=True, capture_output=True)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("core_pack")
class TestInThePortal:
    """The whole way, through the portal's tables."""

    @pytest.fixture
    def connection(self, alertmanager: str, settings: Any) -> Connection:
        settings.PORTICO_OUTBOUND_ALLOW = ["127.0.0.1"]
        config = {"base_url": alertmanager, "webhook_secret": SECRET}
        return create_connection(slug="am", label="Alerts", connector="alertmanager", config=config)

    def told(self, connection: Connection, body: Any) -> Delivery:
        """Deliver to the portal, and have it taken in."""
        headers = {"Authorization": f"Bearer {SECRET}"}
        answer = Client().post("/hooks/am", body, content_type="application/json", headers=headers)
        assert answer.status_code == 202
        process_deliveries(connection_id=connection.pk)
        return Delivery.objects.latest("pk")

    def test_what_is_no_longer_listed_is_over_once(self, connection: Connection, alertmanager: str) -> None:
        labels = {"alertname": "Full", "app": "disk", "severity": "warning"}
        fire(alertmanager, **labels)
        assert synced(connection).state == RunState.SYNCED
        full = Activity.objects.get(title="Full: No answer.")
        assert (full.status, full.finished_at, full.data["severity"]) == ("firing", None, "warning")
        fire(alertmanager, over=True, **labels)
        synced(connection)
        full.refresh_from_db()
        assert (full.status, full.data["severity"]) == ("resolved", "warning")
        missed_at = full.finished_at
        synced(connection)
        full.refresh_from_db()
        assert full.finished_at == missed_at
        # A delivery comes later than the reading that missed the alert, and knows better when it ended.
        ended_at = missed_at - timedelta(milliseconds=500)
        alert = {"status": "resolved", "labels": labels, "fingerprint": full.external_id}
        alert |= {"startsAt": full.started_at.isoformat(), "endsAt": ended_at.isoformat()}
        assert self.told(connection, {"version": "4", "alerts": [alert]}).state == Delivery.State.DONE
        full.refresh_from_db()
        assert full.finished_at == ended_at
        assert [step.status for step in full.transitions.order_by("id")] == ["firing", "resolved"]
        assert Activity.objects.get(title="Down: No answer.").status == "firing"

        fire(alertmanager, ago=0, **labels)
        synced(connection)
        full.refresh_from_db()
        assert (full.status, full.finished_at) == ("firing", None)
        assert full.transitions.count() == 3

    def test_nothing_is_over_because_alertmanager_was_started_anew(
        self, connection: Connection, monkeypatch: Any
    ) -> None:
        gone = {"status": "firing", "labels": {"alertname": "Lost"}, "fingerprint": "1"}
        gone |= {"startsAt": "2026-01-02T03:04:05Z"}
        self.told(connection, {"version": "4", "alerts": [gone]})
        monkeypatch.setattr(alerting, "SETTLED", timedelta(hours=1))
        assert synced(connection).state == RunState.PARTIAL
        statuses = dict(Activity.objects.values_list("title", "status"))
        assert (statuses["Lost"], statuses["Down: No answer."]) == ("firing", "firing")
        monkeypatch.undo()
        synced(connection)
        assert Activity.objects.get(title="Lost").status == "resolved"

    @pytest.mark.parametrize("body", [{"version": "3", "alerts": []}, {"version": "4"}, []])
    def test_another_tools_delivery_is_given_up_with_the_reason(
        self, connection: Connection, body: Any
    ) -> None:
        delivery = self.told(connection, body)
        assert delivery.state == Delivery.State.DEAD
        assert "no delivery of Alertmanager" in delivery.message

    def test_an_odd_alert_is_refused_alone(self, connection: Connection) -> None:
        good = {"fingerprint": "2", "startsAt": "2026-01-02T03:04:05Z", "labels": {"alertname": "Good"}}
        delivery = self.told(connection, {"version": "4", "alerts": [{**good, "startsAt": "soon"}, 7, good]})
        assert delivery.state == Delivery.State.DEAD
        assert "started_at" in delivery.message or "external_id" in delivery.message
        assert Activity.objects.get().title == "Good"

    @pytest.mark.parametrize(
        "credentials",
        [
            {"authorization": {"credentials": SECRET}},
            {"basic_auth": {"username": "portico", "password": SECRET}},
        ],
    )
    def test_it_delivers(
        self, connection: Connection, live_server: Any, tmp_path: Path, found: str, credentials: Any
    ) -> None:
        hook = {"url": f"{live_server.url}/hooks/am", "send_resolved": True, "http_config": credentials}

        def taken(state: str) -> Activity | None:
            process_deliveries(connection_id=connection.pk)
            return Activity.objects.filter(connection="am", type="alert", status=state).first()

        with run_alertmanager(found, tmp_path, hook) as url:
            fire(url, alertname="Down", service="pay", severity="critical")
            firing = wait_for(lambda: taken("firing"), "the delivery")
            fire(url, over=True, alertname="Down", service="pay", severity="critical")
            resolved = wait_for(lambda: taken("resolved"), "the delivery of its end")
        assert resolved.pk == firing.pk
        assert resolved.duration > 50
        assert set(Delivery.objects.values_list("state", flat=True)) == {"done"}

    def test_it_is_about_the_component_of_the_connections_namespace_that_a_label_names(
        self, alertmanager: str, settings: Any, ana: User
    ) -> None:
        settings.PORTICO_OUTBOUND_ALLOW = ["127.0.0.1"]
        config = {"base_url": alertmanager}
        connection = create_connection(
            slug="am", label="Alerts", connector="alertmanager", config=config, namespace="shop"
        )
        declare(ana, "pay", "default")
        declare(ana, "pays", "shop")
        synced(connection)
        down = Activity.objects.get(title="Down: No answer.")
        assert (down.subject_ref, down.keys) == ("", ["ref:component:shop/pay"])
        declare(ana, "pay", "shop")
        down.refresh_from_db()
        assert down.subject_ref == "component:shop/pay"

        checked = Alertmanager.Config.model_validate(config)
        (row,) = [
            row
            for row in preview_config(connector="alertmanager", config=checked, namespace="shop").rows
            if row.tied
        ]
        assert (row.type, row.tied) == ("alert", ("pay",))


def declare(user: User, name: str, namespace: str) -> None:
    """Have a component declared by hand."""
    document = {
        "apiVersion": "backstage.io/v1alpha1",
        "kind": "Component",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"type": "service", "lifecycle": "production", "owner": "ana"},
    }
    upsert_documents(user=user, documents=[document])
    render_dirty(at=timezone.now())


class TestContract(HttpConnectorContract):
    connector = Alertmanager
    settings = {
        "base_url": "https://alerts.acme.example",
        "username": "ana",
        "password": SECRET,
        "webhook_secret": SECRET,
    }

    @pytest.fixture(scope="class")
    @classmethod
    def upstream(cls, alertmanager: str) -> dict[str, Any]:
        return {"base_url": alertmanager}
