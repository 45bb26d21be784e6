"""The connector of LDAP directories, against a real slapd."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from access.models import User
from catalog.models import Entity
from catalog.permissions import own_refs_of
from catalog.services.people import tie_all_by_email
from catalog.services.render import render_dirty
from integrations.connectors.ldap.connector import Ldap, folded, id_of
from integrations.contract import AuthFailed, Entry, Health, Misconfigured, SourceUnavailable
from integrations.models import RunState
from integrations.outbound import OutboundRefused, Route
from integrations.services.connections import create_connection
from tests.contract.test_connectors import SECRET, ConnectorContract
from tests.integrations.ldap_server import BASE, PASSWORD, READER, Slapd, run_slapd
from tests.integrations.reading import Reading, read, use
from tests.integrations.servers import free_port
from tests.integrations.tool import synced

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory, require_program: Callable[..., str]) -> Iterator[Slapd]:
    with run_slapd(tmp_path_factory.mktemp("slapd"), require_program("slapd")) as running:
        yield running


def reads(slapd: Slapd, **more: Any) -> dict[str, Any]:
    return {"address": slapd.url, "base": BASE, "user": READER, "password": PASSWORD, **more}


def reading(slapd: Slapd, resource: str, *, route: Route | None = None, **more: Any) -> Reading:
    return read(Ldap, reads(slapd, **more), resource, route=route)


def check(slapd: Slapd, **more: Any) -> Health:
    return use(Ldap, reads(slapd, **more), lambda made: made.check())


class TestPeople:
    def test_they_are_users_with_address_and_title(self, slapd: Slapd) -> None:
        found = {record.name: record for record in reading(slapd, "people").records}
        assert set(found) == {"ana.ruiz", "ben"}
        ana = found["ana.ruiz"]
        assert (ana.title, ana.email, ana.description) == ("Ana Ruiz", "ana@acme.example", "Engineer")
        assert ana.keys == ["user:ana@acme.example"]
        assert len(ana.external_id) == 36
        assert found["ben"].title == "Ben O."
        assert found["ben"].keys == []

    def test_their_id_survives_a_new_name(self, slapd: Slapd) -> None:
        before = {record.name: record.external_id for record in reading(slapd, "people").records}
        old, new = f"uid=ben,ou=People,{BASE}", f"uid=benedict,ou=People,{BASE}"
        slapd.change(lambda link: link.modify_dn(old, "uid=benedict"))
        try:
            after = {record.name: record.external_id for record in reading(slapd, "people").records}
        finally:
            slapd.change(lambda link: link.modify_dn(new, "uid=ben"))
        assert after["benedict"] == before["ben"]

    def test_another_attribute_may_name_them(self, slapd: Slapd) -> None:
        assert {r.name for r in reading(slapd, "people", login="sn").records} == {"ruiz", "okafor"}

    def test_a_filter_and_a_part_of_the_directory_choose(self, slapd: Slapd) -> None:
        assert len(reading(slapd, "people", people="(mail=*)").records) == 1
        assert reading(slapd, "people", base=f"ou=Groups,{BASE}").records == []


class TestGroups:
    def test_they_are_teams_with_their_people(self, slapd: Slapd) -> None:
        found = {record.name: record for record in reading(slapd, "groups").records}
        assert {name: (team.members, team.parent) for name, team in found.items()} == {
            # Names are compared whatever their case; who is not there is no member, and a group is one below.
            "platform-team": (["ana.ruiz"], ""),
            "payments": (["ben"], "platform-team"),
            "unix": (["ben"], ""),
        }
        team = found["platform-team"]
        assert (team.title, team.description) == ("Platform Team", "Runs what others stand on.")


def test_long_lists_come_whole(tmp_path: Path, require_program: Callable[..., str]) -> None:
    with run_slapd(tmp_path, require_program("slapd"), people=1_200) as slapd:
        assert len(reading(slapd, "people").by_id()) == 1_202


def test_a_list_that_is_cut_short_is_an_error(tmp_path: Path, require_program: Callable[..., str]) -> None:
    """Else all whom it does not show would be taken for gone."""
    with (
        run_slapd(tmp_path, require_program("slapd"), limit="100", people=200) as slapd,
        pytest.raises(SourceUnavailable, match="sizeLimitExceeded"),
    ):
        reading(slapd, "people")


class TestEncryption:
    @pytest.mark.parametrize("how", ["ldaps", "start_tls"])
    def test_a_certificate_of_ones_own_authority(self, slapd: Slapd, how: str) -> None:
        given = {"address": slapd.tls_url} if how == "ldaps" else {"start_tls": True}
        route = Route(authorities=slapd.certificate)
        assert len(reading(slapd, "people", route=route, **given).records) == 2
        with pytest.raises(Misconfigured, match="not trusted"):
            reading(slapd, "people", **given)


class TestWhatGoesWrong:
    @pytest.mark.parametrize(
        ("given", "error", "words"),
        [
            ({"password": "wrong"}, AuthFailed, "user and password"),
            ({"user": "no name"}, AuthFailed, "user and password"),
            ({"address": "ldap://127.0.0.1:{port}"}, SourceUnavailable, "does not answer"),
            ({"address": "http://127.0.0.1"}, Misconfigured, "ldap://, ldaps://"),
            ({"address": "ldap://10.1.2.3"}, OutboundRefused, "PORTICO_OUTBOUND_ALLOW"),
            ({"address": "ldap://169.254.169.254"}, OutboundRefused, "never"),
            ({"base": "dc=other,dc=example"}, Misconfigured, "no such place"),
            ({"base": "no name"}, Misconfigured, "no such place"),
            ({"people": "(broken"}, Misconfigured, "filter"),
        ],
    )
    def test_it_is_told_by_what_a_person_can_do(
        self, slapd: Slapd, given: dict[str, str], error: type[Exception], words: str
    ) -> None:
        if "address" in given:
            given = {"address": given["address"].format(port=free_port())}
        with pytest.raises(error, match=words) as caught:
            reading(slapd, "people", **given)
        assert PASSWORD not in str(caught.value)

    def test_it_does_not_go_around_the_proxy_in_silence(self, slapd: Slapd) -> None:
        with pytest.raises(Misconfigured, match="does not go through the connection's proxy"):
            reading(slapd, "people", route=Route(proxy="http://127.0.0.1:3128"))

    def test_the_check_says_what_is_missing(self, slapd: Slapd) -> None:
        assert check(slapd).ok
        assert [one.label for one in check(slapd).checks] == [
            f"Signed in as {READER}",
            "Finds people",
            "Finds groups",
        ]
        few = check(slapd, people="(mail=nobody)")
        assert [one.ok for one in few.checks] == [True, False, True]
        assert few.checks[1].remedy
        wrong = check(slapd, password="wrong")
        assert not wrong.ok
        assert "user and password" in wrong.checks[-1].detail


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("core_pack")
def test_who_somebody_is_and_what_is_theirs_comes_with_the_directory(
    slapd: Slapd, settings: Any, ana: User
) -> None:
    settings.PORTICO_OUTBOUND_ALLOW = ["127.0.0.1"]
    connection = create_connection(slug="ldap", label="LDAP", connector="ldap", config=reads(slapd))
    assert synced(connection).state == RunState.SYNCED
    render_dirty(at=timezone.now())
    assert tie_all_by_email() == 1
    ana.refresh_from_db()
    assert own_refs_of(ana) == {"user:default/ana.ruiz", "group:default/platform-team"}
    payments = Entity.objects.get(ref="group:default/payments")
    assert set(payments.relations_out.values_list("type", "target__ref")) == {
        ("childOf", "group:default/platform-team"),
        ("hasMember", "user:default/ben"),
    }


def test_ids_of_active_directory_are_read_in_its_order_of_bytes() -> None:
    raw = bytes.fromhex("33221100554477668899aabbccddeeff")
    entry = Entry("cn=Ana,dc=acme", {"objectguid": [raw]})
    assert id_of(entry) == "00112233-4455-6677-8899-aabbccddeeff"
    assert id_of(Entry("CN=Ana, dc=Acme", {})) == folded("cn=ana,dc=acme")


class TestContract(ConnectorContract):
    connector = Ldap
    settings = {"address": "ldap://127.0.0.1", "base": BASE, "user": READER, "password": SECRET}
