"""The connector of Python indexes against a real one, and what devpi lacks against PyPI's own words."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from integrations.connectors.pypi import connector
from integrations.connectors.pypi.connector import PyPI
from integrations.contract import BadPayload
from tests.contract.test_connectors import SECRET, HttpConnectorContract
from tests.integrations import servers
from tests.integrations.package_servers import Devpi, run_devpi
from tests.integrations.reading import Reading, read, use

pytestmark = pytest.mark.server

SOURCE = "https://git.acme.example/acme/pay"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devpi]:
    with servers.required(), run_devpi(tmp_path_factory.mktemp("devpi")) as running:
        for version in ("1.9", "1.10", "2.0rc1"):
            running.upload(
                "acme-pay",
                version,
                Project_URL=f"Source Code, {SOURCE}",
                Summary="Takes money.",
                License="MIT",
            )
        running.upload("Acme.Web", "0.1", Home_page="https://www.acme.example/web")
        running.upload("tools", "3.0")
        yield running


def reading(index: Devpi, resource: str, *packages: str, since: Any = None, **more: Any) -> Reading:
    return read(PyPI, {"base_url": index.index, "packages": packages, **more}, resource, since)


def test_a_package_is_tied_to_the_repository_of_its_newest_version(index: Devpi) -> None:
    (found,) = reading(index, "packages", "Acme_Pay").records
    assert (found.external_id, found.keys, found.about) == ("acme-pay", ["pypi:acme-pay"], [f"repo:{SOURCE}"])
    assert (found.description, found.labels) == ("Takes money.", {"license": "MIT"})
    assert found.latest_version == "1.10"


def test_versions_are_ordered_by_number(index: Devpi) -> None:
    found = reading(index, "versions", "acme-pay").records
    assert [(r.version, r.is_prerelease, r.is_deprecated) for r in found] == [
        ("2.0rc1", True, False),
        ("1.10", False, False),
        ("1.9", False, False),
    ]
    assert found[0].about == ["pypi:acme-pay"]
    assert len(reading(index, "versions", "acme-pay", versions=2).records) == 2


@pytest.mark.parametrize(
    ("packages", "names"),
    [
        (["*"], ["acme-pay", "acme-web", "tools"]),
        (["acme-*"], ["acme-pay", "acme-web"]),
        (["tools", "*-pay"], ["acme-pay", "tools"]),
        (["nothing-*"], []),
    ],
)
def test_patterns_are_asked_of_the_index(index: Devpi, packages: list[str], names: list[str]) -> None:
    found = reading(index, "packages", *packages)
    assert ([record.external_id for record in found.records], found.expected) == (names, len(names))
    assert [record.about for record in found.records if record.external_id != "acme-pay"] == [
        [] for name in names if name != "acme-pay"
    ]


def test_what_is_not_there_is_refused_alone(index: Devpi) -> None:
    for resource in ("packages", "versions"):
        found = reading(index, resource, "tools", "no-such-package")
        assert [refused.external_id for refused in found.refused] == ["no-such-package"]
        assert len(found.records) == 1


def test_only_packages_that_changed_are_read_again(index: Devpi) -> None:
    index.upload("moving", "1.0")
    first = reading(index, "versions", "moving", "tools")
    again = reading(index, "versions", "moving", "tools", since=first.marks[-1])
    assert (again.records, again.marks) == ([], [])
    index.upload("moving", "1.1")
    changed = reading(index, "versions", "moving", "tools", since=first.marks[-1])
    assert [record.version for record in changed.records] == ["1.1", "1.0"]


def test_the_check_tells_what_works(index: Devpi) -> None:
    config = {"base_url": index.index, "packages": ["acme-*"]}
    signed_in = {"username": index.user, "password": index.password}
    health = use(PyPI, {**config, **signed_in}, lambda made: made.check())
    assert [check.label for check in health.checks] == ["Reached the index", "Finds 2 packages"]
    assert health.ok
    health = use(PyPI, {**config, "packages": ["no-such-*"]}, lambda made: made.check())
    assert not health.ok
    assert "“Packages”" in health.checks[-1].remedy


# What PEP 700 and PyPI's JSON have, and devpi has not.

FILE = {"filename": "pay-1.0-py3-none-any.whl", "url": "https://files.acme.example/pay.whl", "hashes": {}}


def test_dates_sizes_and_yanked_files(server: Any, make_answer: Any) -> None:
    files = [
        FILE | {"size": 10, "upload-time": "2026-01-02T03:04:06Z", "yanked": "Charges twice."},
        FILE
        | {"filename": "pay-1.0.tar.gz", "size": 5, "upload-time": "2026-01-02T03:04:05Z", "yanked": True},
        FILE | {"filename": "pay-0.9.tar.gz", "upload-time": "2025-01-02T03:04:05Z", "yanked": False},
    ]
    server.on("/simple/pay/", make_answer(json={"name": "pay", "files": files}))
    info = {"info": {"summary": "S", "project_urls": None, "home_page": "https://github.com/acme/pay"}}
    server.on("/pypi/pay/json", make_answer(json=info))
    config = {"base_url": f"{server.url}/simple", "packages": ["pay"]}
    yanked, good = read(PyPI, config, "versions").records
    assert (yanked.version, yanked.is_deprecated, yanked.notes) == ("1.0", True, "Charges twice.")
    assert (yanked.released_at, yanked.size) == (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), 15)
    assert (good.version, good.is_deprecated, good.size) == ("0.9", False, None)
    (artifact,) = read(PyPI, config, "packages").records
    assert (artifact.latest_version, artifact.latest_at) == ("0.9", good.released_at)
    assert artifact.about == ["repo:https://github.com/acme/pay"]


def test_an_index_of_html_is_told_so(server: Any, make_answer: Any) -> None:
    page = make_answer("<a>pay-1.0.tar.gz</a>", headers={"Content-Type": "text/html"})
    server.on("/simple/pay/", page)
    with pytest.raises(BadPayload, match="PEP 691"):
        read(PyPI, {"base_url": f"{server.url}/simple", "packages": ["pay"]}, "packages")


@pytest.mark.parametrize(
    ("filename", "version"),
    [
        ("acme_pay-1.0-py3-none-any.whl", "1.0"),
        ("acme-pay-1.0.tar.gz", "1.0"),
        ("acme_pay-1.0.post1.zip", "1.0.post1"),
        ("acme_pay-1.0-py3.11.egg", "1.0"),
    ],
)
def test_the_version_in_a_file_name(filename: str, version: str) -> None:
    assert connector._version_of(filename) == version


def test_the_order_of_versions() -> None:
    right = [
        "0.9",
        "1.0.dev1",
        "1.0a1",
        "1.0b2",
        "1.0rc1",
        "1.0",
        "1.0.post1",
        "1.0.1",
        "1.2",
        "1.10",
        "1!0.1",
    ]
    assert sorted(set(right), key=connector._order) == right


class TestContract(HttpConnectorContract):
    connector = PyPI
    settings = {"packages": ["acme-pay"], "username": "ana", "password": SECRET}

    @pytest.fixture(scope="class")
    @classmethod
    def upstream(cls, index: Devpi) -> dict[str, Any]:
        return {"base_url": index.index, "packages": ["acme-*"]}
