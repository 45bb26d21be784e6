"""The connector of npm registries against a real one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from catalog.identity import normalise
from integrations.connectors.npm import connector
from integrations.connectors.npm.connector import Npm
from integrations.contract import AuthFailed, Misconfigured
from tests.contract.test_connectors import SECRET, HttpConnectorContract
from tests.integrations import servers
from tests.integrations.package_servers import Verdaccio, run_verdaccio
from tests.integrations.reading import Reading, read, use

pytestmark = pytest.mark.server

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SOURCE = {
    "type": "git",
    "url": "git+https://git.acme.example/acme/mono.git",
    "directory": "./packages/pay",
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verdaccio]:
    with servers.required(), run_verdaccio(tmp_path_factory.mktemp("verdaccio")) as running:
        running.publish("@acme/pay", "1.0.0", repository=SOURCE, gitHead=COMMIT)
        running.publish(
            "@acme/pay", "1.1.0", repository=SOURCE, description="Takes money.", keywords=["money"], license="MIT",
            _npmUser={"name": "ana", "email": "ana@acme.example"},
        )  # fmt: skip
        running.publish("@acme/pay", "2.0.0-rc.1", tag="next", repository=SOURCE)
        running.deprecate("@acme/pay", "1.0.0", "Charges twice.")
        running.publish("@acme/web", "0.1.0", repository="acme/web")
        running.publish("@acme-tools/lint", "3.0.0")
        running.publish("plain", "1.0.0")
        running.publish("@closed/vault", "1.0.0")
        yield running


def reading(registry: Verdaccio, resource: str, *packages: str, since: Any = None, **more: Any) -> Reading:
    return read(Npm, {"base_url": registry.url, "packages": packages, **more}, resource, since)


def test_a_package_is_tied_to_the_folder_of_its_repository(registry: Verdaccio) -> None:
    (found,) = reading(registry, "packages", "@acme/pay").records
    assert (found.external_id, found.keys) == ("@acme/pay", ["npm:@acme/pay"])
    assert [normalise(key) for key in found.about] == ["repo:git.acme.example/acme/mono#packages/pay"]
    assert (found.description, found.tags, found.latest_version) == ("Takes money.", ["money"], "1.1.0")
    assert abs(found.latest_at - datetime.now(UTC)) < timedelta(minutes=10)
    assert found.labels == {"license": "MIT", "dist-tag/next": "2.0.0-rc.1"}


def test_versions_have_dates_tags_and_deprecations(registry: Verdaccio) -> None:
    found = reading(registry, "versions", "@acme/pay").by_id()
    assert list(found) == ["@acme/pay@2.0.0-rc.1", "@acme/pay@1.1.0", "@acme/pay@1.0.0"]
    candidate, latest, old = found.values()
    assert (candidate.is_prerelease, candidate.aliases) == (True, ["next"])
    assert (latest.is_prerelease, latest.aliases, latest.is_deprecated) == (False, ["latest"], False)
    assert (latest.actor, latest.actor_email, latest.size) == (
        "ana",
        "ana@acme.example",
        len("@acme/pay 1.1.0"),
    )
    assert (old.is_deprecated, old.notes, old.commit) == (True, "Charges twice.", COMMIT)
    assert old.about[0] == "npm:@acme/pay"
    assert f"commit:{COMMIT}" in old.about
    assert old.released_at < latest.released_at < candidate.released_at
    assert len(reading(registry, "versions", "@acme/pay", versions=2).records) == 2


@pytest.mark.parametrize(
    ("packages", "names"),
    [
        (["@acme/*"], ["@acme/pay", "@acme/web"]),
        (["@acme*/*"], ["@acme-tools/lint", "@acme/pay", "@acme/web"]),
        (["pl*", "@acme/web"], ["@acme/web", "plain"]),
        (["**"], ["@acme-tools/lint", "@acme/pay", "@acme/web", "plain"]),
        (["nothing-*"], []),
    ],
)
def test_patterns_are_asked_of_the_search(
    registry: Verdaccio, monkeypatch: pytest.MonkeyPatch, packages: list[str], names: list[str]
) -> None:
    monkeypatch.setattr(connector, "PAGE", 2)
    found = reading(registry, "packages", *packages)
    assert [record.external_id for record in found.records] == names
    assert found.expected == len(names)


def test_what_is_not_there_is_refused_alone(registry: Verdaccio) -> None:
    for resource in ("packages", "versions"):
        found = reading(registry, resource, "plain", "no-such-package")
        assert [refused.external_id for refused in found.refused] == ["no-such-package"]
        assert len(found.records) == 1


def test_only_packages_that_changed_are_read_again(registry: Verdaccio) -> None:
    registry.publish("moving", "1.0.0")
    first = reading(registry, "versions", "moving", "plain")
    again = reading(registry, "versions", "moving", "plain", since=first.marks[-1])
    assert (again.records, again.marks) == ([], [])
    registry.publish("moving", "1.0.1")
    changed = reading(registry, "versions", "moving", "plain", since=first.marks[-1])
    assert [record.version for record in changed.records] == ["1.0.1", "1.0.0"]
    assert set(changed.marks[-1]["known"]) == {"moving", "plain"}
    wider = reading(registry, "versions", "moving", since=first.marks[-1], versions=1)
    assert [record.version for record in wider.records] == ["1.0.1"]


def test_a_private_package_needs_a_token(registry: Verdaccio) -> None:
    config = {"base_url": registry.url, "packages": ["@closed/vault"]}
    health = use(Npm, config, lambda made: made.check())
    assert not health.ok
    assert "token" in health.checks[-1].remedy
    health = use(Npm, {**config, "token": registry.token}, lambda made: made.check())
    assert [check.label for check in health.checks] == [
        "Reached the registry",
        "Signed in as ana",
        "Finds 1 package",
    ]
    assert health.ok
    found = read(Npm, {**config, "token": registry.token}, "packages")
    assert [record.external_id for record in found.records] == ["@closed/vault"]


def test_a_token_that_is_not_good_is_told(registry: Verdaccio) -> None:
    config = {"base_url": registry.url, "packages": ["plain"], "token": "rubbish"}
    health = use(Npm, config, lambda made: made.check())
    assert [check.ok for check in health.checks] == [True, False, True]
    assert "valid" in health.checks[1].remedy


@pytest.mark.parametrize("status", [403, 404])
def test_a_registry_need_not_tell_whose_a_token_is(server: Any, make_answer: Any, status: int) -> None:
    server.on("/-/whoami", make_answer(status=status))
    server.on("/plain", make_answer(json={"versions": {}, "dist-tags": {}}))
    config = {"base_url": server.url, "packages": ["plain"], "token": "t"}
    assert use(Npm, config, lambda made: made.check()).ok


@pytest.mark.parametrize("status", [401, 403, 404])
def test_where_there_is_no_search_full_names_are_asked_for(
    server: Any, make_answer: Any, status: int
) -> None:
    server.on("/-/v1/search", make_answer(status=status))
    config = {"base_url": server.url, "packages": ["@acme/*"]}
    with pytest.raises((AuthFailed, Misconfigured), match="Give full names under “Packages”"):
        read(Npm, config, "packages")


def _found(*names: str, total: int) -> dict[str, Any]:
    return {"objects": [{"package": {"name": name}} for name in names], "total": total}


def test_a_scope_is_found_on_pages_as_short_as_the_registry_likes(server: Any, make_answer: Any) -> None:
    pages = [_found("@acme/a", total=2), _found("@acme/b", total=2), _found(total=2)]
    server.on("/-/v1/search", *(make_answer(json=page) for page in pages))
    for name in "ab":
        server.on(f"/@acme%2F{name}", make_answer(json={"versions": {}, "dist-tags": {}}))
    found = read(Npm, {"base_url": server.url, "packages": ["@acme/*"]}, "packages")
    assert [record.external_id for record in found.records] == ["@acme/a", "@acme/b"]
    assert "text=scope%3Aacme" in server.asked("/-/v1/search")[0].query


def test_a_search_that_shows_a_part_is_no_list(server: Any, make_answer: Any) -> None:
    server.on("/-/v1/search", make_answer(json=_found("@acme/a", "@acme/b", total=300)))
    with pytest.raises(Misconfigured, match="2 of 300 packages"):
        read(Npm, {"base_url": server.url, "packages": ["@acme/*"]}, "packages")


@pytest.mark.parametrize(
    ("said", "reason"),
    [({"time": {"unpublished": {"time": "2026-01-02T03:04:05Z"}}}, "unpublished"), ({"ok": 1}, "“versions”")],
)
def test_a_package_without_versions_is_refused_alone(
    server: Any, make_answer: Any, said: dict[str, Any], reason: str
) -> None:
    server.on("/gone", make_answer(json=said))
    server.on("/plain", make_answer(json={
        "versions": {"1.0.0": {"license": {"type": "MIT"}}}, "dist-tags": {"latest": "1.0.0"},
    }))  # fmt: skip
    config = {"base_url": server.url, "packages": ["gone", "plain"]}
    for resource in ("packages", "versions"):
        found = read(Npm, config, resource)
        assert [refused.external_id for refused in found.refused] == ["gone"]
        assert reason in found.refused[0].reason
        assert len(found.records) == 1
    assert read(Npm, config, "packages").records[0].labels == {"license": "MIT"}


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ("acme/web", "repo:github.com/acme/web"),
        ("gitlab:acme/web", "repo:gitlab.com/acme/web"),
        ("git+ssh://git@git.acme.example/acme/web.git#main", "repo:git.acme.example/acme/web"),
        ({"url": "git@git.acme.example:acme/web.git"}, "repo:git.acme.example/acme/web"),
        ({"url": "https://git.acme.example/a b"}, None),
        ({"directory": "x"}, None),
        (["odd"], None),
        (None, None),
    ],
)
def test_every_spelling_of_a_repository(said: Any, key: str | None) -> None:
    assert [normalise(found) for found in connector._repository(said)] == ([key] if key else [])


class TestContract(HttpConnectorContract):
    connector = Npm
    settings = {"packages": ["@acme/pay"], "token": SECRET}

    @pytest.fixture(scope="class")
    @classmethod
    def upstream(cls, registry: Verdaccio) -> dict[str, Any]:
        return {"base_url": registry.url, "packages": ["@acme/*", "plain"], "token": registry.token}
