"""In a company's network: a connection's proxy and authorities, and the button that allows a private host."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpcore2
import pytest
from django.test import Client
from django.utils import timezone

from access.models import AuditEvent, Role, Secret, User
from access.services import create_token, grant
from base.errors import Conflict, InvalidInput
from catalog.models import Problem
from integrations.models import AllowedHost, Connection, RunState, SyncRun
from integrations.outbound import OutboundRefused
from integrations.services import network
from integrations.services.connections import check_connection, create_connection
from integrations.services.removal import request_removal
from integrations.services.runs import report_runs, request_sync
from integrations.sync import execute_run
from tests.integrations.conftest import make_certificate

PASSWORD = "hunter2-of-the-proxy"
HERE = "/connections/new/buildbot"


@pytest.fixture(autouse=True)
def _core(core_pack: None) -> None:
    """Kinds, pages and roles."""


@pytest.fixture(autouse=True)
def inside(monkeypatch: pytest.MonkeyPatch, settings: Any) -> dict[str, str]:
    """Names of the company's network; nothing may be reached but by the button."""
    settings.PORTICO_OUTBOUND_ALLOW = []
    known = {
        "ci.corp": "10.2.3.4",
        "proxy.corp": "10.9.9.9",
        "trap.corp": "169.254.169.254",
        "here.corp": "127.0.0.1",
    }
    real = socket.getaddrinfo

    def look_up(host: Any, port: Any, *more: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        return real(known.get(name, host), port, *more, **named)

    async def refuse(*_args: Any, **_named: Any) -> Any:
        raise httpcore2.ConnectError("refused")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr("httpcore2.AnyIOBackend.connect_tcp", refuse)
    return known


@pytest.fixture
def admin(browse: Callable[[User], Client], ana: User) -> Client:
    return browse(ana)


@pytest.fixture
def builder(ben: User, roles: dict[str, Role]) -> User:
    """Ben may connect tools, and is no administrator."""
    role = Role.objects.create(
        name="builder", spec={"title": "Builder", "verbs": ["connection.read", "connection.write"]}
    )
    grant(role=role.name, user=ben)
    return ben


@pytest.fixture
def ci(db: Any) -> Connection:
    return create_connection(
        slug="ci", label="CI", connector="buildbot", config={"base_url": "http://ci.corp:9"}
    )


def text_of(answer: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


def sync(connection: Connection) -> SyncRun:
    run = request_sync(connection=connection, by="tests")
    execute_run(run_id=run.pk, now=timezone.now())
    run.refresh_from_db()
    return run


def typed(**more: str) -> dict[str, str]:
    return {
        "connection_name": "CI",
        "connection_slug": "",
        "connection_namespace": "default",
        "base_url": "http://ci.corp:9",
        "days": "14",
        **{f"connection_network.{name}": value for name, value in more.items()},
    }


class TestSettings:
    def test_every_connection_has_a_folded_part_for_its_network(self, admin: Client) -> None:
        for connector in ("git", "github", "npm", "records"):
            page = admin.get(f"/connections/new/{connector}").content.decode()
            assert '<details class="po-fold"><summary>Network</summary>' in page

    def test_a_password_is_kept_shown_to_nobody_and_used(
        self, admin: Client, ci: Connection, tmp_path: Path, ana: User
    ) -> None:
        make_certificate("corp", tmp_path / "k", tmp_path / "c")
        pem = (tmp_path / "c").read_text()
        url = "/connections/ci/settings"
        given = {
            "connection_label": "CI",
            "connection_interval": "600",
            **typed(proxy="proxy.corp:3128", proxy_user="ana", proxy_password=PASSWORD, ca_bundle=pem),
        }
        assert admin.post(url, given)["Location"] == url
        ci.refresh_from_db()
        assert ci.network == {"proxy": "http://proxy.corp:3128", "proxy_user": "ana", "ca_bundle": pem}
        assert network.route_of(ci).proxy == f"http://ana:{PASSWORD}@proxy.corp:3128"
        page = admin.get(url).content.decode()
        assert '<details class="po-fold" open><summary>Network</summary>' in page
        token = create_token(user=ana, name="t", by=ana).text
        answer = Client(headers={"Authorization": f"Bearer {token}"}).get("/api/v1/connections/ci/")
        assert answer.json()["network"]["proxy"] == "http://proxy.corp:3128"
        assert "proxy_password" in answer.json()["secrets"]
        for shown in (
            page,
            answer.content.decode(),
            str(list(AuditEvent.objects.values_list("changes", flat=True))),
        ):
            assert PASSWORD not in shown
        admin.post(url, given | {"connection_network.proxy_password": ""})
        assert PASSWORD in network.route_of(ci).proxy
        admin.post(url, {"forget": "connection_network.proxy_password"})
        ci.refresh_from_db()
        assert network.route_of(ci).proxy == "http://ana:@proxy.corp:3128"

    def test_without_its_proxy_a_password_is_forgotten(self, admin: Client, ci: Connection) -> None:
        network_ = {"proxy": "http://proxy.corp:3128", "proxy_user": "ana", "proxy_password": PASSWORD}
        made = create_connection(
            slug="b", label="B", connector="buildbot", config=ci.config, network=network_
        )
        given = {"connection_label": "B", "connection_interval": "600", **typed(proxy="", proxy_user="")}
        assert admin.post("/connections/b/settings", given).status_code == 302
        assert not Secret.objects.filter(owner_uid=str(made.uid)).exists()

    def test_it_goes_with_the_connection(self, ci: Connection) -> None:
        network_ = {"proxy": "http://proxy.corp:3128", "proxy_user": "ana", "proxy_password": PASSWORD}
        made = create_connection(
            slug="b", label="B", connector="buildbot", config=ci.config, network=network_
        )
        request_removal(connection=made, by="ana", now=timezone.now(), with_secrets=True)
        assert not Secret.objects.filter(owner_uid=str(made.uid)).exists()

    def test_what_is_wrong_stands_at_its_field_and_the_part_is_open(self, admin: Client) -> None:
        answer = admin.post(HERE, typed(ca_bundle="/etc/ssl/corp.pem", proxy="ftp://proxy.corp"))
        assert answer.status_code == 422
        page = answer.content.decode()
        assert '<details class="po-fold" open><summary>Network</summary>' in page
        assert "This is the name of a file" in page
        assert "ftp:// is neither" in page
        assert 'href="#field-connection_network.ca_bundle"' in page

    def test_the_draft_carries_it_to_the_connection(self, admin: Client, queue: list[int]) -> None:
        admin.post(HERE, typed(proxy="http://proxy.corp:3128", proxy_user="ana", proxy_password=PASSWORD))
        assert PASSWORD not in str(admin.session.items())
        assert PASSWORD not in admin.get(HERE).content.decode()
        admin.post(f"{HERE}/schedule", {"connection_interval": "600"})
        made = Connection.objects.get()
        assert network.route_of(made).proxy == f"http://ana:{PASSWORD}@proxy.corp:3128"

    def test_the_api_takes_it_and_refuses_what_is_wrong(self, ana: User) -> None:
        client = Client(headers={"Authorization": f"Bearer {create_token(user=ana, name='t', by=ana).text}"})
        given = {"slug": "ci", "connector": "buildbot", "config": {"base_url": "http://ci.corp"}}
        wrong = client.post(
            "/api/v1/connections/", {**given, "network": {"proxy": "socks5://p"}}, "application/json"
        )
        assert wrong.status_code == 422
        assert wrong.json()["errors"][0]["path"] == "/network/proxy"
        good = client.post(
            "/api/v1/connections/", {**given, "network": {"proxy": "p.corp:1"}}, "application/json"
        )
        assert good.status_code == 201
        assert good.json()["network"] == {"proxy": "http://p.corp:1"}


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Runs whose message would be sent."""
    sent: list[int] = []
    monkeypatch.setattr(
        "integrations.tasks.execute_run.delay_on_commit", lambda *, run_id: sent.append(run_id), raising=False
    )
    return sent


class TestAllowing:
    def test_the_test_of_a_new_connection_offers_the_button(self, admin: Client) -> None:
        admin.post(HERE, typed())
        page = admin.get(f"{HERE}/test")
        assert "ci.corp is 10.2.3.4, a private address." in text_of(page)
        assert "Allow this host" in text_of(page)
        answer = admin.post(f"{HERE}/allow", {"host": "ci.corp", "next": f"{HERE}/test"})
        assert answer["Location"] == f"{HERE}/test"
        row = AllowedHost.objects.get()
        assert (row.host, row.connection, row.what) == (
            "ci.corp",
            "ci",
            "ci.corp is 10.2.3.4, a private address",
        )
        again = text_of(admin.get(f"{HERE}/test"))
        assert "Allow this host" not in again
        assert "a private address" not in again, "it was tested anew"
        assert AuditEvent.objects.get(verb="host.allow").changes["host"] == "ci.corp"

    @pytest.mark.parametrize(
        ("connector", "more"),
        [("buildbot", {"base_url": "{}"}), ("git", {"repositories": "{}/acme/pay.git"})],
    )
    def test_an_address_in_numbers_is_offered_at_each_step(
        self, admin: Client, connector: str, more: dict[str, str]
    ) -> None:
        """Some connectors judge their address when they are made, before they are asked anything."""
        url = f"/connections/new/{connector}"
        admin.post(url, typed() | {name: text.format("https://10.2.3.4") for name, text in more.items()})
        assert "10.2.3.4 is a private address." in text_of(admin.get(f"{url}/test"))
        assert "Allow this host" in text_of(admin.get(f"{url}/test"))
        admin.post(f"{url}/preview")
        assert "Allow this host" in text_of(admin.get(f"{url}/preview"))
        config = {name: text.format("https://10.2.3.4") for name, text in more.items()}
        config = {name: [text] if name == "repositories" else text for name, text in config.items()}
        made = create_connection(slug="c", label="C", connector=connector, config=config)
        sync(made)
        assert "Allow this host" in text_of(admin.get("/connections/c"))
        admin.post("/connections/c/allow", {"host": "10.2.3.4"})
        assert AllowedHost.objects.get().host == "10.2.3.4"

    def test_so_does_the_preview(self, admin: Client) -> None:
        admin.post(HERE, typed())
        admin.post(f"{HERE}/preview")
        assert "Allow this host" in text_of(admin.get(f"{HERE}/preview"))

    def test_a_failed_sync_offers_it_on_every_page_of_the_connection(
        self, admin: Client, ci: Connection
    ) -> None:
        run = sync(ci)
        assert (run.state, run.error_code) == (RunState.FAILED, "outbound-refused")
        assert "Settings > Outbound calls" in run.message
        report_runs(now=timezone.now())
        assert "10.2.3.4, a private address" in Problem.objects.get(type="sync").message
        for page in ("", f"/runs/{run.pk}", "/settings"):
            shown = admin.get(f"/connections/ci{page}").content.decode()
            assert '<input type="hidden" name="host" value="ci.corp">' in shown
        admin.post("/connections/ci/allow", {"host": "ci.corp", "next": f"/connections/ci/runs/{run.pk}"})
        assert "Allow this host" not in text_of(admin.get("/connections/ci"))
        assert "allowed by Ana Ruiz" in text_of(admin.get("/connections/ci/settings"))
        again = sync(ci)
        assert "10.2.3.4" not in again.message or "cannot be reached" in again.message
        assert "private address" not in again.message

    def test_the_own_proxy_has_to_be_allowed_too(self, admin: Client, ci: Connection) -> None:
        AllowedHost.objects.create(host="ci.corp", what="x", by="Ana")
        ci.network = {"proxy": "http://proxy.corp:3128"}
        ci.save()
        assert check_connection(connection=ci).barred == {
            "proxy.corp": "proxy.corp is 10.9.9.9, a private address"
        }

    def test_this_machine_itself_is_opened_by_the_port_alone(self, admin: Client) -> None:
        admin.post(HERE, typed() | {"base_url": "http://here.corp:9"})
        assert "here.corp:9" in text_of(admin.get(f"{HERE}/test"))
        admin.post(f"{HERE}/allow", {"host": "here.corp:9"})
        assert AllowedHost.objects.get().host == "here.corp:9"
        with pytest.raises(InvalidInput, match="Name the port too"):
            network.allow_host(host="here.corp", by="ana")

    def test_metadata_addresses_are_never_offered_nor_allowed(self, admin: Client, ci: Connection) -> None:
        admin.post(HERE, typed() | {"base_url": "http://trap.corp"})
        assert "may never reach" in text_of(admin.get(f"{HERE}/test"))
        assert "Allow this host" not in text_of(admin.get(f"{HERE}/test"))
        admin.post(f"{HERE}/allow", {"host": "trap.corp"})
        never = [
            "169.254.169.254",
            "trap.corp",
            "fd00:ec2::254",
            "[::ffff:169.254.169.254]",
            "169.254.1.1",
            "fe80::1",
        ]
        for host in never:
            ci.barred_hosts = {host: "x"}  # however it came to be offered
            ci.save()
            admin.post("/connections/ci/allow", {"host": host})
            assert admin.post("/settings/outbound", {"host": host}).status_code == 422
            with pytest.raises(OutboundRefused, match="never"):
                network.allow_host(host=host, by="ana")
        assert not AllowedHost.objects.exists()

    def test_nobody_but_an_administrator_may(
        self, browse: Callable[[User], Client], builder: User, vic: User, ci: Connection
    ) -> None:
        sync(ci)
        client = browse(builder)
        client.post(HERE, typed())
        for page in (client.get(f"{HERE}/test"), client.get("/connections/ci")):
            assert "An administrator can allow this host here." in text_of(page)
            assert "Allow this host" not in text_of(page).replace("can allow this host", "")
        for who in (client, browse(vic)):
            for url in (
                f"{HERE}/allow",
                "/connections/ci/allow",
                "/settings/outbound",
                "/settings/outbound/1/withdraw",
            ):
                assert who.post(url, {"host": "ci.corp"}).status_code == 403
        assert "10.2.3.4" not in browse(vic).get("/connections/ci").content.decode().split("po-banner")[0]
        assert not AllowedHost.objects.exists()

    def test_only_what_was_refused_here_is_allowed_by_the_button(self, admin: Client, ci: Connection) -> None:
        sync(ci)
        for host in ("proxy.corp", "10.0.0.0/8", "*.corp", ""):
            answer = admin.post("/connections/ci/allow", {"host": host}, follow=True)
            assert "is not refused any more" in text_of(answer)
        assert not AllowedHost.objects.exists()


class TestSettingsPage:
    def test_hosts_are_listed_allowed_and_closed_again(
        self, admin: Client, ci: Connection, settings: Any
    ) -> None:
        settings.PORTICO_OUTBOUND_ALLOW = ["git.corp"]
        assert "git.corp" in text_of(admin.get("/settings/outbound"))
        assert admin.post("/settings/outbound", {"host": "ci.corp"}).status_code == 302
        row = AllowedHost.objects.get()
        assert "ci.corp is 10.2.3.4" in text_of(admin.get("/settings/outbound"))
        admin.post(f"/settings/outbound/{row.pk}/withdraw")
        assert not AllowedHost.objects.exists()
        assert AuditEvent.objects.get(verb="host.withdraw").changes["host"] == "ci.corp"
        assert "private address" in sync(ci).message

    @pytest.mark.parametrize("host", ["10.0.0.0/8", "*.corp", "https://", "a b", "10.2.3"])
    def test_a_word_that_is_not_one_host_is_refused(self, admin: Client, host: str) -> None:
        answer = admin.post("/settings/outbound", {"host": host})
        assert answer.status_code == 422
        assert "PORTICO_OUTBOUND_ALLOW holds" not in text_of(answer)
        assert not AllowedHost.objects.exists()

    def test_a_web_address_stands_for_its_host(self, admin: Client) -> None:
        assert admin.post("/settings/outbound", {"host": "https://ci.corp/api/v3?x=1"}).status_code == 302
        assert AllowedHost.objects.get().host == "ci.corp"

    def test_what_is_open_already_needs_nothing(self) -> None:
        with pytest.raises(Conflict, match="may be reached already"):
            network.allow_host(host="8.8.8.8", by="ana")
