"""The connector of container registries against a real registry, with and without sign-in."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from integrations.connectors.oci.connector import Oci
from integrations.contract import AuthFailed, Misconfigured, SourceError
from integrations.records import ArtifactType
from tests.integrations import servers
from tests.integrations.reading import collect, read, use
from tests.integrations.servers import Registry

pytestmark = pytest.mark.server

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SOURCE = "https://git.acme.example/shop/payments"
LABELS = {
    "org.opencontainers.image.source": SOURCE,
    "org.opencontainers.image.revision": COMMIT,
    "org.opencontainers.image.description": "Takes money.",
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry with the images of Acme, which the tests only read."""
    with servers.required(), servers.run_registry(tmp_path_factory.mktemp("filled") / "storage") as registry:
        registry.push("acme/payments", "1.9.0", labels=LABELS, is_docker=True, content="nine")
        intel = registry.push(
            "acme/payments", labels=LABELS, created="2026-02-03T04:05:06Z", content="ten" * 500
        )
        arm = registry.push("acme/payments", labels=LABELS, platform="linux/arm64/v8", content="ten")
        proof = registry.push("acme/payments", platform="unknown/unknown", content="attestation")
        registry.push_index(
            "acme/payments", "1.10.0", "1.10", "latest", parts=[proof, arm, intel],
            annotations={"org.opencontainers.image.vendor": "Acme"},
        )  # fmt: skip
        registry.push("acme/payments", "2.0.0-rc.1", created="1980-01-01T00:00:00Z", content="two")
        registry.push("acme/payments", "sha256-" + "ab" * 32 + ".sig", content="signature")
        registry.push("acme/legacy", "build-7", "latest", labels={
            "org.label-schema.vcs-url": "git@git.acme.example:shop/legacy.git",
            "org.label-schema.vcs-ref": "f00ba4e",
        })  # fmt: skip
        registry.push("tools/plain", "latest")
        yield registry


@pytest.fixture(scope="module")
def open_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry to which the tests push: each to a repository of its own."""
    with servers.required(), servers.run_registry(tmp_path_factory.mktemp("open") / "storage") as registry:
        yield registry


def artifacts(url: str, **config: Any) -> dict[str, Any]:
    return read(Oci, {"base_url": url, **config}, "repositories").by_id()


def versions(url: str, **config: Any) -> dict[str, Any]:
    """The images by their version."""
    found = read(Oci, {"base_url": url, **config}, "images")
    assert not found.refused
    return {record.version: record for record in found.by_id().values()}


# --- repositories and images --------------------------------------------------------------------------------


def test_repositories_become_artifacts_tied_to_their_source(filled: Registry) -> None:
    found = read(Oci, {"base_url": filled.url}, "repositories")
    assert found.expected == 3
    assert list(found.by_id()) == ["acme/legacy", "acme/payments", "tools/plain"]
    payments = found.by_id()["acme/payments"]
    assert payments.keys == [f"image:{filled.host}/acme/payments"]
    assert payments.about == []  # the newest version names no source
    assert (payments.artifact_type, payments.ecosystem) == (ArtifactType.IMAGE, "oci")
    assert (payments.latest_version, payments.latest_at) == ("2.0.0-rc.1", None)

    legacy = found.by_id()["acme/legacy"]
    assert legacy.about == ["repo:git@git.acme.example:shop/legacy.git", "commit:f00ba4e"]
    assert (legacy.latest_version, legacy.latest_at.year) == ("latest", 2026)
    assert found.by_id()["tools/plain"].about == []


def test_an_image_is_a_version_for_each_digest(filled: Registry) -> None:
    found = versions(filled.url, repositories=["acme/payments"])
    assert set(found) == {"1.9.0", "1.10.0", "2.0.0-rc.1"}
    single = found["1.9.0"]
    assert single.external_id == f"acme/payments@{single.digest}"
    assert single.about == [
        f"image:{filled.host}/acme/payments",
        f"image-digest:{single.digest}",
        f"repo:{SOURCE}",
        f"commit:{COMMIT}",
    ]
    assert (single.title, single.aliases, single.platforms) == ("acme/payments:1.9.0", [], ["linux/amd64"])
    assert single.labels == LABELS
    assert single.commit == COMMIT
    assert single.released_at == datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    assert single.is_prerelease is False
    candidate = found["2.0.0-rc.1"]
    assert (candidate.is_prerelease, candidate.released_at) == (True, None)


def test_an_index_is_one_version_for_all_its_platforms(filled: Registry) -> None:
    index = versions(filled.url, repositories=["acme/payments"])["1.10.0"]
    assert index.aliases == ["1.10", "latest"]
    assert index.platforms == ["linux/amd64", "linux/arm64/v8"]
    assert index.labels == {**LABELS, "org.opencontainers.image.vendor": "Acme"}
    assert index.released_at == datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
    digests = [key for key in index.about if key.startswith("image-digest:")]
    assert digests[0] == f"image-digest:{index.digest}"
    assert len(set(digests)) == 3


def test_the_size_is_that_of_the_platform_asked_for(open_registry: Registry) -> None:
    small = open_registry.push("size/app", content="x", platform="linux/arm64")
    large = open_registry.push("size/app", content="".join(map(str, range(5000))))
    assert small["content"] < large["content"]
    open_registry.push_index("size/app", "1.0", parts=[small, large], is_docker=True)
    sizes = {
        platform: versions(open_registry.url, repositories=["size/app"], platform=platform)["1.0"].size
        for platform in ("linux/amd64", "linux/arm64", "plan9/mips")
    }
    # An image without the platform asked for is measured by its first one.
    expected = {"linux/amd64": large, "linux/arm64": small, "plan9/mips": small}
    assert sizes == {platform: image["content"] for platform, image in expected.items()}


def test_an_image_made_and_pushed_by_other_tools(
    open_registry: Registry, tmp_path: Path, require_program: Callable[..., str]
) -> None:
    umoci, skopeo = require_program("umoci"), require_program("skopeo")
    for command in (
        [umoci, "init", "--layout", "img"],
        [umoci, "new", "--image", "img:1.0"],
        [
            umoci,
            "config",
            "--image",
            "img:1.0",
            "--config.label",
            f"org.opencontainers.image.source={SOURCE}",
        ],
        [
            skopeo,
            "copy",
            "--dest-tls-verify=false",
            "oci:img:1.0",
            f"docker://{open_registry.host}/made/app:1.0",
        ],
    ):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    asked = subprocess.run(
        [skopeo, "inspect", "--tls-verify=false", f"docker://{open_registry.host}/made/app:1.0"],
        check=True, capture_output=True,
    )  # fmt: skip
    image = versions(open_registry.url, repositories=["made/app"])["1.0"]
    assert image.digest == json.loads(asked.stdout)["Digest"]
    assert f"repo:{SOURCE}" in image.about


def test_the_most_telling_tags_are_read_first(open_registry: Registry) -> None:
    for number, tag in enumerate(["v1.2.3", "1.10.0", "1.9", "latest", "20260101", "main", "1.10.0-rc.1"]):
        open_registry.push("many/app", tag, content=str(number))
    config = {"repositories": ["many/app"]}
    assert set(versions(open_registry.url, **config, tags=3)) == {"1.10.0", "1.10.0-rc.1", "1.9"}
    assert set(versions(open_registry.url, **config, tags=5)) == {
        "1.10.0",
        "1.10.0-rc.1",
        "1.9",
        "v1.2.3",
        "latest",
    }
    assert artifacts(open_registry.url, **config)["many/app"].latest_version == "1.10.0"


def test_what_is_no_image_is_refused_alone(open_registry: Registry) -> None:
    open_registry.push("odd/app", "1.0")
    open_registry.push_index("odd/app", "2.0", parts=[], annotations={"a": "b"})
    found = read(Oci, {"base_url": open_registry.url, "repositories": ["odd/app"]}, "images")
    assert [record.version for record in found.records] == ["1.0"]
    assert [refused.reason for refused in found.refused] == ["The index names no image."]
    record = artifacts(open_registry.url, repositories=["odd/app"])["odd/app"]
    assert (record.latest_version, record.about) == ("2.0", [])


def test_labels_that_are_no_addresses_do_no_harm(open_registry: Registry) -> None:
    labels = {
        "org.opencontainers.image.source": "https://git.acme.example/a b\nc",
        "org.opencontainers.image.revision": "x" * 2000,
        "vcs-ref": COMMIT,
    }
    open_registry.push("rude/app", "1.0", labels=labels)
    found = read(Oci, {"base_url": open_registry.url, "repositories": ["rude/app"]}, "images")
    assert [refused.place for refused in found.refused] == []
    assert [key for key in found.records[0].about if key.startswith(("repo:", "commit:"))] == [
        f"commit:{COMMIT}"
    ]


# --- what moves ---------------------------------------------------------------------------------------------


def test_only_repositories_whose_tags_moved_are_read_again(open_registry: Registry) -> None:
    open_registry.push("still/app", "1.0")
    open_registry.push("moved/app", "1.0", "latest", content="one")
    with servers.run_front(open_registry) as front:
        config = {"base_url": front.url, "repositories": ["still/app", "moved/app"]}
        first = read(Oci, config, "images")
        assert len(first.records) == 2
        front.asked.clear()
        again = read(Oci, config, "images", first.marks[-1])
        assert (again.records, again.marks) == ([], [])
        methods = [method for method, path in front.asked if "/manifests/" in path or "/blobs/" in path]
        assert methods == ["HEAD"] * 3

        open_registry.push("moved/app", "1.1", "latest", content="two")
        front.asked.clear()
        moved = read(Oci, config, "images", first.marks[-1])
    assert {(r.version, *r.aliases) for r in moved.records} == {("1.0",), ("1.1", "latest")}
    assert not [
        path for method, path in front.asked if method == "GET" and "still" in path and "/tags/" not in path
    ]
    assert read(Oci, {**config, "base_url": open_registry.url}, "images", moved.marks[-1]).records == []


def test_a_deleted_tag_is_no_longer_listed(open_registry: Registry) -> None:
    open_registry.push("gone/app", "1.0", content="one")
    second = open_registry.push("gone/app", "1.1", content="two", labels=LABELS)
    config = {"base_url": open_registry.url, "repositories": ["gone/app"]}
    first = read(Oci, config, "images")
    assert artifacts(**_as_url(config))["gone/app"].latest_version == "1.1"
    open_registry.delete("gone/app", second["digest"])
    again = read(Oci, config, "images", first.marks[-1])
    assert [record.version for record in again.records] == ["1.0"]
    artifact = artifacts(**_as_url(config))["gone/app"]
    assert (artifact.latest_version, artifact.about) == ("1.0", [])


def test_a_repository_without_tags_stays_an_artifact(open_registry: Registry) -> None:
    only = open_registry.push("empty/app", "1.0")
    open_registry.delete("empty/app", only["digest"])
    found = read(Oci, {"base_url": open_registry.url, "repositories": ["empty/*"]}, "repositories")
    assert [(r.external_id, r.latest_version) for r in found.records] == [("empty/app", "")]
    assert read(Oci, {"base_url": open_registry.url, "repositories": ["empty/app"]}, "images").records == []


def _as_url(config: dict[str, Any]) -> dict[str, Any]:
    return {"url": config["base_url"], "repositories": config["repositories"]}


# --- selection ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("repositories", "names"),
    [
        ([], ["acme/legacy", "acme/payments", "tools/plain"]),
        (["acme/*"], ["acme/legacy", "acme/payments"]),
        (["tools/plain", "*/leg*"], ["acme/legacy", "tools/plain"]),
        (["tools/plain"], ["tools/plain"]),
        (["nobody/*"], []),
    ],
)
def test_only_selected_repositories_are_read(
    filled: Registry, repositories: list[str], names: list[str]
) -> None:
    assert list(artifacts(filled.url, repositories=repositories)) == names


def test_a_repository_that_is_not_there_is_refused_alone(filled: Registry) -> None:
    config = {"base_url": filled.url, "repositories": ["acme/typo", "tools/plain"]}
    for resource in ("repositories", "images"):
        found = read(Oci, config, resource)
        assert len(found.records) == 1
        assert [refused.external_id for refused in found.refused] == ["acme/typo"]
        assert "acme/typo" in found.refused[0].reason


def test_a_long_catalog_is_read_page_by_page(filled: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("integrations.connectors.oci.connector.CATALOG_PAGE", 1)
    with servers.run_front(filled) as front:
        assert len(artifacts(front.url)) == 3
    asked = [path for _method, path in front.asked if path.startswith("/v2/_catalog")]
    assert len(asked) >= 3


# --- signing in ---------------------------------------------------------------------------------------------

USER, PASSWORD = "reader", "reader-secret"
HTPASSWD = "reader:$2b$05$abcdefghijklmnopqrstuu8wfpWPKiFbOv2YUtr.E7lRfKvC0ot9a"
SIGNED_IN = {"username": USER, "password": PASSWORD}
STRANGERS = [{}, {"username": USER, "password": "wrong-secret"}, {"username": "nobody", "password": PASSWORD}]


@pytest.fixture(scope="module")
def with_password(filled: Registry) -> Iterator[Registry]:
    """The same images behind HTTP Basic authentication."""
    with servers.required(), servers.run_registry(filled.storage, htpasswd=HTPASSWD) as registry:
        yield registry


@pytest.fixture
def token_server() -> Iterator[servers.TokenServer]:
    with servers.run_token_server(USER, PASSWORD) as server:
        yield server


@pytest.fixture
def with_token(filled: Registry, token_server: servers.TokenServer) -> Iterator[Registry]:
    """The same images behind a token service."""
    with servers.required(), servers.run_registry(filled.storage, token=token_server) as registry:
        yield registry


def test_a_registry_with_a_password_is_read(with_password: Registry) -> None:
    assert len(artifacts(with_password.url, **SIGNED_IN)) == 3
    assert len(versions(with_password.url, **SIGNED_IN, repositories=["acme/payments"])) == 3


def test_a_registry_with_a_token_service_is_read(
    with_token: Registry, token_server: servers.TokenServer
) -> None:
    async def go(made: Oci) -> Any:
        return [await collect(made, "repositories"), await collect(made, "images")]

    both = use(Oci, {"base_url": with_token.url, **SIGNED_IN}, go)
    assert [len(found.records) for found in both] == [3, 5]
    # One token for the list and one for each repository, however many requests there were.
    scopes = [scope for scope, _authorization in token_server.asked]
    assert sorted(scopes) == [
        "registry:catalog:*",
        "repository:acme/legacy:pull",
        "repository:acme/payments:pull",
        "repository:tools/plain:pull",
    ]


@pytest.mark.parametrize("why", ["it has expired", "the registry no longer takes it"])
def test_a_token_that_does_not_hold_is_renewed(
    with_token: Registry, token_server: servers.TokenServer, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    async def go(made: Oci) -> Any:
        first = await made.tags_of("tools/plain")
        ((scope, (until, token)),) = made.tokens.items()
        assert time.monotonic() + 200 < until < time.monotonic() + token_server.lasts
        made.tokens[scope] = (0.0, token) if why == "it has expired" else (until, "rubbish")
        made.listed.clear()
        assert await made.tags_of("tools/plain") == first == ["latest"]
        assert made.tokens[scope][0] >= until

    use(Oci, {"base_url": with_token.url, **SIGNED_IN}, go)
    assert [scope for scope, _authorization in token_server.asked] == ["repository:tools/plain:pull"] * 2


@pytest.mark.parametrize("credentials", STRANGERS)
@pytest.mark.parametrize("kind", ["with_password", "with_token"])
def test_strangers_are_told_so(
    request: pytest.FixtureRequest, kind: str, credentials: dict[str, str]
) -> None:
    registry = request.getfixturevalue(kind)
    for selection in ([], ["acme/payments"]):
        config = {"base_url": registry.url, **credentials, "repositories": selection}
        for resource in ("repositories", "images"):
            with pytest.raises(AuthFailed) as raised:
                read(Oci, config, resource)
            assert not any(secret in raised.value.message for secret in ("secret", "Basic"))
        health = use(Oci, config, lambda made: made.check())
        assert not health.ok
        assert "user name and password" in health.checks[-1].remedy


def test_a_password_is_never_sent_from_https_to_http(
    filled: Registry, token_server: servers.TokenServer
) -> None:
    async def go(made: Oci) -> Any:
        return await made.token({"realm": token_server.url + "/token"})

    with pytest.raises(Misconfigured, match="not encrypted"):
        use(Oci, {"base_url": "https://registry.acme.example", **SIGNED_IN}, go)
    assert token_server.asked == []


def test_a_token_service_where_we_may_not_go_is_not_asked(with_token: Registry) -> None:
    challenge = 'Bearer realm="http://169.254.169.254/token",service="x",scope="repository:a/b:pull"'
    config = {"base_url": with_token.url, **SIGNED_IN}

    async def go(made: Oci) -> Any:
        return await made.authorize(with_token.url + "/v2/a/b/tags/list", challenge)

    with pytest.raises(SourceError) as raised:
        use(Oci, config, go)
    assert raised.value.code == "outbound-refused"


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_registry_that_keeps_its_list_to_itself(filled: Registry, status: int) -> None:
    with servers.run_front(filled, deny={"/v2/_catalog": status}) as front:
        for resource in ("repositories", "images"):
            for selection in ([], ["acme/*"]):
                with pytest.raises((AuthFailed, Misconfigured), match="under “Repositories”"):
                    read(Oci, {"base_url": front.url, "repositories": selection}, resource)
        health = use(Oci, {"base_url": front.url}, lambda made: made.check())
        assert [check.ok for check in health.checks] == [True, True, False]
        assert "name the repositories" in health.checks[-1].remedy

        named = {"repositories": ["acme/payments", "tools/plain"]}
        assert list(artifacts(front.url, **named)) == ["acme/payments", "tools/plain"]
        assert use(Oci, {"base_url": front.url, **named}, lambda made: made.check()).ok


def test_a_token_service_that_denies_the_list(
    with_token: Registry, token_server: servers.TokenServer
) -> None:
    token_server.denied.add("registry:catalog:*")
    with pytest.raises(AuthFailed, match=r"registry:catalog:\*"):
        artifacts(with_token.url, **SIGNED_IN)
    assert list(artifacts(with_token.url, **SIGNED_IN, repositories=["tools/plain"])) == ["tools/plain"]


# --- health and settings ------------------------------------------------------------------------------------


def test_the_check_tells_what_works(filled: Registry, with_token: Registry) -> None:
    health = use(Oci, {"base_url": filled.url}, lambda made: made.check())
    assert [check.label for check in health.checks] == [
        "Reached the registry",
        "Reads without signing in",
        "Sees 3 repositories",
        "Reads the tags of acme/legacy",
    ]
    assert health.ok
    health = use(Oci, {"base_url": with_token.url, **SIGNED_IN}, lambda made: made.check())
    assert health.ok
    assert health.checks[1].label == "Signed in as reader"


@pytest.mark.parametrize(
    ("repositories", "remedy"), [(["nobody/*"], "“Repositories”"), (["acme/typo"], "`docker pull`")]
)
def test_the_check_tells_what_is_wrong_with_the_names(
    filled: Registry, repositories: list[str], remedy: str
) -> None:
    health = use(Oci, {"base_url": filled.url, "repositories": repositories}, lambda made: made.check())
    assert not health.ok
    assert remedy in health.checks[-1].remedy


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("https://registry.acme.example", "registry.acme.example"),
        ("https://registry.acme.example:443/v2/", "registry.acme.example"),
        ("http://registry.acme.example:5000/", "registry.acme.example:5000"),
    ],
)
def test_the_host_is_what_image_names_begin_with(address: str, host: str) -> None:
    async def host_of(made: Oci) -> str:
        return made.host

    assert use(Oci, {"base_url": address}, host_of) == host


def test_an_address_with_a_path_is_refused() -> None:
    with pytest.raises(ValueError, match="has no path"):
        Oci.Config.model_validate({"base_url": "https://registry.acme.example/acme/payments"})
