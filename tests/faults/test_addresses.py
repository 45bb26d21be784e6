"""Every input that takes an address or a path: none leads to where the portal must not go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.test import Client
from django.utils import timezone

from access.models import User
from access.services import grant
from base.errors import DomainError
from catalog.models import Claim, Served
from integrations.models import CatalogLocation, Connection, RunState, StoredRecord
from integrations.services.connections import check_config, create_connection, preview_config, validate_config
from integrations.services.locations import import_paths, refresh_location
from tests.faults.conftest import Portal

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("impatient", "paged", "portal")]

ADDRESSES = [
    "http://169.254.169.254/latest/meta-data/", "http://169.254.169.254:80/", "http://[::ffff:169.254.169.254]/",
    "http://[::ffff:a9fe:a9fe]/", "http://[64:ff9b::169.254.169.254]/", "http://2852039166/", "http://0xA9FEA9FE/",
    "http://0251.0376.0251.0376/", "http://169.254.43518/", "http://[fd00:ec2::254]/", "http://100.100.100.200/",
    "http://metadata.google.internal/", "http://METADATA.google.internal./computeMetadata/v1/",
    "http://127.0.0.1:1/", "http://127.1:1/", "http://0:1/", "http://0.0.0.0:1/", "http://[::]:1/", "http://[::1]:1/",
    "http://localhost:1/", "http://LOCALHOST.:1/", "http://2130706433:1/", "http://0x7f.1:1/", "http://0177.0.0.1:1/",
    "http://acme.example@127.0.0.1:1/", "http://acme.example:80@127.0.0.1:1/", "http://127.0.0.1:1\\@acme.example/",
    "http://127.0.0.1:1#@acme.example/", "http://①②⑦.⓪.⓪.①:1/", "http://127。0。0。1:1/", "http://10.0.0.1/",
    "http://192.168.0.1/", "http://172.16.0.1/", "http://[fe80::1]/", "http://[fc00::1]/", "http://[2002:7f00:1::]/",
    "http://224.0.0.1/", "http://255.255.255.255/", "http://127.0.0.1:1\t/", "http://127.0.0.1:1\r\nHost: x/",
    "gopher://127.0.0.1:1/", "ftp://127.0.0.1/", "dict://127.0.0.1:1/", "file:///etc/passwd", "jar:http://127.0.0.1!/",
    "http:///", "http://", "//127.0.0.1:1/", "http:127.0.0.1:1/", "http:/127.0.0.1:1/",
]  # fmt: skip
PATHS = [
    "/etc/passwd", "/proc/self/environ", "/proc/self/fd/0", "/dev/zero", "/dev/stdin", "/etc", "/",
    "{home}/secret-key", "{home}/encryption-keys", "{home}", "{allowed}/../../../../../../../../etc/passwd",
    "{allowed}/link", "file:///etc/passwd", "file://localhost/etc/passwd", "file:/etc/passwd", "~root/.ssh/id_rsa",
]  # fmt: skip
REPOSITORIES = [
    "ssh://-oProxyCommand=touch%20{allowed}%2Fowned/x", "-oProxyCommand=touch {allowed}/owned:x",
    "--upload-pack=touch {allowed}/owned",
    "ext::sh -c touch% {allowed}/owned", "git+ext::sh", "git://127.0.0.1:1/x", "git@127.0.0.1:x", "ssh://root@127.0.0.1:1/x",
    "git+https://169.254.169.254/x.git", "file:///etc", "git+file:///etc//x.yaml", "fd::7", "transport::x",
]  # fmt: skip


@pytest.fixture
def allowed(tmp_path: Path, settings: Any) -> Path:
    folder = tmp_path / "allowed"
    folder.mkdir()
    (folder / "link").symlink_to("/etc/passwd")
    settings.PORTICO_FILES_ALLOW = [folder]
    settings.PORTICO_OUTBOUND_ALLOW = []
    return folder


def _filled(text: str, allowed: Path) -> str:
    return text.replace("{home}", str(django_settings.PORTICO_HOME)).replace("{allowed}", str(allowed))


def _configs(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Every connector that takes an address."""
    return [
        ("paged", {"base_url": text}),
        ("records", {"location": text}),
        ("git", {"repositories": [text]}),
        ("buildbot", {"base_url": text}),
        ("oci", {"base_url": text}),
    ]


@pytest.mark.parametrize("text", [*ADDRESSES, *PATHS, *REPOSITORIES])
def test_no_connection_leads_there(
    portal: Portal, allowed: Path, contacted: set[tuple[str, int]], text: str
) -> None:
    """Neither its test, its preview nor its sync; each says why."""
    for number, (connector, given) in enumerate(_configs(_filled(text, allowed))):
        try:
            config = validate_config(connector, given)
        except DomainError as error:
            assert error.errors  # noqa: PT017 - some are taken, and then contact nobody
            continue
        try:
            health = check_config(connector=connector, config=config)
        except DomainError as error:
            assert error.message  # noqa: PT017
        else:
            assert not health.ok
            assert any(check.detail and check.remedy for check in health.checks if not check.ok)
        try:
            shown = preview_config(connector=connector, config=config)
        except DomainError as error:
            assert error.message  # noqa: PT017
        else:
            assert shown.errors or shown.rows
            assert all(item.reason for item in shown.rows)
        run = portal.sync(portal.connect(f"c{number}", connector, **given))
        assert run.state in {RunState.FAILED, RunState.PARTIAL}
        assert run.message
        assert "internal error" not in run.message
    assert contacted == set()
    assert not (allowed / "owned").exists()
    assert not any("root:" in str(record.data) for record in StoredRecord.objects.all())


@pytest.mark.parametrize("text", [*ADDRESSES, *PATHS, *REPOSITORIES])
def test_no_import_leads_there(
    allowed: Path, contacted: set[tuple[str, int]], admin_client: Client, text: str
) -> None:
    """Neither in the browser, previewed or done, nor beneath it."""
    address = _filled(text, allowed)
    for action in ("preview", "import"):
        answer = admin_client.post("/connections/import", {"address": address, "action": action})
        # Taken in words, or read and found to hold nothing: both lead nowhere.
        assert answer.status_code in {200, 302, 422}, answer.status_code
        assert b"root:x:0" not in answer.content
    for location in CatalogLocation.objects.all():  # a worker is asked to read it, and says why it does not
        assert refresh_location(location_id=location.pk, now=timezone.now()) is None
        location.refresh_from_db()
        assert location.message
        location.delete()
    summary = import_paths(addresses=[address], by="tests")
    assert summary.accepted == 0
    assert summary.problems
    assert summary.unread
    assert not CatalogLocation.objects.exists()
    assert contacted == set()
    assert not (allowed / "owned").exists()
    assert Claim.objects.count() == Served.objects.count() == 0


@pytest.mark.parametrize("role", ["viewer", "editor"])
def test_who_may_not_make_connections_reaches_nothing(
    allowed: Path, contacted: set[tuple[str, int]], client: Client, request: pytest.FixtureRequest, role: str
) -> None:
    client.force_login(request.getfixturevalue({"viewer": "vic", "editor": "ben"}[role]))
    there = "https://acme.example/all.yaml"
    asked = [
        client.post("/connections/import", {"address": there, "action": "preview"}),
        client.post("/connections/new/records/test", {"location": there}),
        client.post("/connections/new/records", {"location": there}),
        client.post(
            "/api/v1/connections/",
            {"slug": "x", "connector": "records", "config": {"location": there}},
            content_type="application/json",
        ),
    ]
    assert [answer.status_code for answer in asked] == [403] * 4
    assert contacted == set()
    assert not Connection.objects.exists()


def test_a_secret_of_the_portal_is_not_read_by_a_wider_permission(
    settings: Any, portal: Portal, tmp_path: Path
) -> None:
    """The default lets the checkout be read, and in it lies the portal's own folder."""
    home = tmp_path / "var"
    home.mkdir()
    (home / "secret-key").write_text("hush-hush")
    settings.PORTICO_HOME, settings.PORTICO_FILES_ALLOW = home, [tmp_path]
    connection = create_connection(
        slug="key", label="Key", connector="records", config={"location": str(home / "secret-key")}
    )
    run = portal.sync(connection)
    assert run.state == RunState.FAILED
    assert "lies in the portal's own folder" in run.message
    assert "hush" not in run.message
    for from_shell in (False, True):
        summary = import_paths(addresses=[str(home / "secret-key")], by="tests", from_shell=from_shell)
        assert "lies in the portal's own folder" in summary.problems[0].message


def test_who_administers_one_namespace_imports_nothing_for_it_may_declare_any(
    allowed: Path, client: Client, roles: Any, cleo: User
) -> None:
    grant(role="administrator", user=cleo, scope_type="namespace", scope="elsewhere")
    client.force_login(cleo)
    (allowed / "a.yaml").write_text(
        "apiVersion: backstage.io/v1alpha1\nkind: Component\nmetadata: {name: a, namespace: default}\n"
        "spec: {type: service, lifecycle: production, owner: team}\n"
    )
    for action in ("preview", "import"):
        asked = {"address": str(allowed / "a.yaml"), "action": action}
        assert client.post("/connections/import", asked).status_code == 403
    assert Claim.objects.count() == 0
