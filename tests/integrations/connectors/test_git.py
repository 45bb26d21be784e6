"""The Git connector on real repositories: in place, and over HTTP with Git's own backend."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from catalog.identity import normalise
from catalog.models import Entity
from integrations import repository_files as reading
from integrations.connectors.git.connector import Git
from integrations.contract import AuthFailed, Misconfigured, NotThere, SourceUnavailable
from integrations.models import RunState, SeenPage
from integrations.services.connections import create_connection
from tests.integrations.reading import Reading, collect, read, use
from tests.integrations.tool import synced

COMPONENT = """\
apiVersion: backstage.io/v1alpha1
kind: Component
metadata:
  name: {name}
spec:
  type: service
  lifecycle: production
  owner: payments
"""


@pytest.fixture(autouse=True)
def open_to_the_test(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's folder and loopback may be read; no proxy stands between."""
    settings.PORTICO_FILES_ALLOW = [tmp_path]
    settings.PORTICO_OUTBOUND_ALLOW = ["127.0.0.1"]
    settings.PORTICO_HOME = tmp_path / "home"
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def work(make_work: Callable[..., Any]) -> Any:
    return make_work("org/pay")


def of(*places: Any, **more: Any) -> dict[str, Any]:
    return {"repositories": [str(place) for place in places], **more}


def bare(work: Any, name: str) -> Path:
    """A bare copy of a repository, as a server has it, without a trace of where it came from."""
    target = work.folder.parent.parent / name
    subprocess.run(["git", "clone", "--quiet", "--bare", str(work.folder), str(target)], check=True)
    subprocess.run(["git", "-C", str(target), "remote", "remove", "origin"], check=True)
    return target


# --- repositories -------------------------------------------------------------------------------------------


def test_a_repository_says_what_it_is(work: Any, tmp_path: Path) -> None:
    work.commit(
        {
            "README.md": "# Pay\n\n[![build](x)](y)\n\nTakes **money** from [people](z).\nFast.\n\nMore.\n",
            ".github/CODEOWNERS": "# all\n* @acme/all\n*  @acme/payments  ana@acme.example # us\n/x/ @x\n",
            "src/pay.py": "x" * 1000,
            "web/app.ts": "y" * 500,
            "web/node_modules/left/pad.js": "z" * 9000,
            "proto/pay_pb2.py": "w" * 9000,
            "pyproject.toml": "",
            "web/package.json": "{}",
            "web/node_modules/left/package.json": "{}",
            "Dockerfile": "FROM x",
            "docs/use.md": "# Use",
            "web/README.md": "no catalog file lies beside it",
            "api/catalog-info.yaml": "",
            "api/README.md": "# API",
            ".mailmap": "Ana Ruiz <ana@acme.example>\nAna Ruiz <ana@acme.example> <ana@laptop.example>\n",
        },
        "Begin",
        at=datetime.now(UTC).isoformat(),
        GIT_AUTHOR_EMAIL="ana@laptop.example",
    )
    at = datetime.now(UTC).replace(microsecond=0)
    head = work.commit({"src/pay.py": "x" * 1001}, "Go on", at=at.isoformat())
    work.git("remote", "add", "origin", "https://ci:s3cret@Git.Acme.example/Acme/Pay.git")

    found = read(Git, of(work.folder), "repositories")
    (repository,) = found.records
    assert found.expected == 1
    assert repository.external_id == "git.acme.example/acme/pay"
    assert normalise(repository.keys[0]) == "repo:git.acme.example/acme/pay"
    assert (repository.name, repository.path) == ("Pay", "Acme/Pay")
    assert repository.url == "https://Git.Acme.example/Acme/Pay"
    assert "s3cret" not in repository.model_dump_json()
    assert (repository.default_branch, repository.head) == ("main", head)
    assert repository.last_activity_at == at
    assert repository.description == "Takes money from people. Fast."
    assert (repository.readme_path, repository.readme[:5]) == ("README.md", "# Pay")
    assert (repository.owners, repository.owners_from) == (
        ["@acme/payments", "ana@acme.example"],
        ".github/CODEOWNERS:3",
    )
    assert repository.languages == {"Python": 1001, "TypeScript": 500, "Dockerfile": 6}
    assert repository.build_files == ["Dockerfile", "pyproject.toml", "web/package.json"]
    assert repository.docs == {
        "README.md": repository.readme,
        "docs/use.md": "# Use",
        "api/README.md": "# API",
    }
    assert repository.top_committers == ["Ana Ruiz <ana@acme.example>"]


def test_a_folder_of_repositories_gives_each_by_its_path(work: Any, make_work: Any, tmp_path: Path) -> None:
    work.commit({"a": "1"})
    bare(work, "srv/team/pay.git")
    other = make_work("srv/shop")
    other.commit({"b": "2"})
    (tmp_path / "srv/not-a-repository").mkdir()
    found = read(Git, of(tmp_path / "srv"), "repositories").by_id()
    assert {id_: record.path for id_, record in found.items()} == {
        f"file{tmp_path}/srv/team/pay": "team/pay",
        f"file{tmp_path}/srv/shop": "shop",
    }
    for record in found.values():
        assert normalise(record.keys[0]) == f"repo:{record.external_id}"


@pytest.mark.parametrize(
    ("patterns", "paths"),
    [
        ({}, ["a/pay", "a/web", "b/pay"]),
        ({"include": ["a/*"]}, ["a/pay", "a/web"]),
        ({"include": ["**/pay"], "exclude": ["b/**"]}, ["a/pay"]),
        ({"exclude": ["{a,b}/pay"]}, ["a/web"]),
    ],
)
def test_patterns_select_by_path(make_work: Any, tmp_path: Path, patterns: dict, paths: list[str]) -> None:
    for path in ("a/pay", "a/web", "b/pay"):
        make_work(f"srv/{path}").commit({"a": path})
    found = read(Git, of(tmp_path / "srv", **patterns), "repositories")
    assert sorted(record.path for record in found.records) == paths


def test_patterns_that_fit_nothing_are_an_error_and_no_empty_list(work: Any) -> None:
    work.commit({"a": "1"})
    with pytest.raises(Misconfigured, match="No repository fits"):
        read(Git, of(work.folder, include=["nothing"]), "repositories")


def test_an_empty_repository_is_one_without_history(work: Any) -> None:
    (repository,) = read(Git, of(work.folder), "repositories").records
    assert (repository.head, repository.last_activity_at, repository.languages) == ("", None, {})
    for resource in ("documents", "tags", "commits"):
        assert read(Git, of(work.folder), resource).records == []


def test_a_head_that_names_no_branch_falls_back_to_the_usual_one(work: Any) -> None:
    head = work.commit({"a": "1"})
    work.git("symbolic-ref", "HEAD", "refs/heads/gone")
    (repository,) = read(Git, of(work.folder), "repositories").records
    assert (repository.default_branch, repository.head) == ("main", head)


# --- what cannot be read ------------------------------------------------------------------------------------


def broken(folder: Path) -> Path:
    (folder / ".git").mkdir(parents=True)
    (folder / ".git/HEAD").write_text("nonsense")
    return folder


def test_one_broken_remote_among_many_is_refused_and_the_rest_goes_on(work: Any, git_server: Any) -> None:
    work.commit({"catalog-info.yaml": COMPONENT.format(name="pay")}, at=datetime.now(UTC).isoformat())
    bare(work, "pay.git")
    good, bad = f"{git_server.url}/pay.git", f"{git_server.url}/gone.git"
    host = git_server.url.removeprefix("http://")

    async def read_all(connector: Git) -> dict[str, Reading | SourceUnavailable]:
        return {name: await reading_of(connector, name) for name in ("repositories", "documents", "commits")}

    async def reading_of(connector: Git, name: str) -> Any:
        records, error = [], None
        method = getattr(connector, name)
        try:
            async for item in method(None) if name == "commits" else method():
                records.append(item)
        except SourceUnavailable as raised:
            error = raised
        return records, error

    found: Any = use(Git, of(bad, good), read_all)
    records, error = found["repositories"]
    assert [item.external_id for item in records[1:]] == [f"{host}/gone", f"{host}/pay"]
    assert "There is no Git repository" in records[1].reason
    assert error is None, "a refused repository is seen, so nothing of it is swept"
    for name in ("documents", "commits"):
        records, error = found[name]
        assert records, "the readable one is read"
        assert f"{host}/gone" in error.message, "a list that is not whole must not pass for one"


def test_a_broken_clone_leaves_the_list_of_repositories_incomplete(work: Any, tmp_path: Path) -> None:
    work.commit({"a": "1"})
    broken(work.folder.parent / "lost")
    found: list[Any] = []

    async def read_all(connector: Git) -> None:
        async for item in connector.repositories():
            found.append(item)

    with pytest.raises(SourceUnavailable, match="org/lost"):
        use(Git, of(work.folder.parent), read_all)
    assert [type(item).__name__ for item in found] == ["Expect", "Refused", "Repository"]


def test_a_damaged_branch_of_a_folder_is_no_empty_repository(work: Any, make_work: Any) -> None:
    work.commit({"catalog-info.yaml": "kind: Component"})
    (work.folder / ".git/refs/heads/main").write_text("junk\n")

    async def read_all(connector: Git) -> None:
        async for _item in connector.documents():
            pass

    with pytest.raises(SourceUnavailable, match="damaged"):
        use(Git, of(work.folder), read_all)


def test_the_only_repository_tells_its_own_error(work: Any, git_server: Any) -> None:
    work.commit({"a": "1"})
    bare(work, "pay.git")
    git_server.password = "s3cret"
    with pytest.raises(AuthFailed):
        read(Git, of(f"{git_server.url}/pay.git"), "repositories")


@pytest.mark.parametrize(("folder", "error"), [("empty", Misconfigured), ("gone", NotThere)])
def test_a_list_that_cannot_be_had_is_an_error(
    work: Any, tmp_path: Path, folder: str, error: type[Exception]
) -> None:
    work.commit({"a": "1"})
    (tmp_path / "empty").mkdir()
    with pytest.raises(error):
        read(Git, of(work.folder, tmp_path / folder), "repositories")


def test_a_second_copy_of_a_repository_is_named_and_left_out(make_work: Any, tmp_path: Path) -> None:
    for name in ("one", "two"):
        copy = make_work(f"srv/{name}")
        copy.commit({"catalog-info.yaml": COMPONENT.format(name="pay")})
        copy.git("remote", "add", "origin", "git@git.acme.example:acme/pay.git")
    found = read(Git, of(tmp_path / "srv"), "repositories")
    assert list(found.by_id()) == ["git.acme.example/acme/pay"]
    (refused,) = found.refused
    assert refused.external_id == str(tmp_path / "srv/two")
    assert str(tmp_path / "srv/one") in refused.reason
    assert len(read(Git, of(tmp_path / "srv"), "documents").records) == 1


def test_an_address_with_a_password_is_not_accepted() -> None:
    with pytest.raises(ValidationError, match="may not hold a user or a password"):
        Git.Config.model_validate(of("https://ana:s3cret@git.acme.example/pay"))


# --- over HTTP ----------------------------------------------------------------------------------------------


def test_a_remote_is_read_with_user_and_token_and_fetched_once(work: Any, secure_git_servers: Any) -> None:
    git_server, _other = secure_git_servers
    head = work.commit({"README.md": "# Pay"}, at=datetime.now(UTC).isoformat())
    bare(work, "acme/pay.git")
    git_server.password = "s3cret"

    async def read_all(connector: Git) -> dict[str, Reading]:
        names = ("repositories", "documents", "tags", "commits")
        return {name: await collect(connector, name) for name in names}

    found = use(Git, of(f"{git_server.url}/acme/pay.git", user="ana", token="s3cret"), read_all)
    (repository,) = found["repositories"].records
    assert (repository.path, repository.head) == ("acme/pay", head)
    assert repository.url == f"{git_server.url}/acme/pay"
    assert normalise(repository.keys[0]) == f"repo:{git_server.url.removeprefix('https://')}/acme/pay"
    assert found["commits"].records[0].sha == head
    fetches = [
        path for method, path, authorization in git_server.requests if method == "POST" and authorization
    ]
    assert len(fetches) == 3, "the refs, the refs again and the objects: once for all four lists"


def test_the_check_names_what_fails_and_what_to_do(work: Any, git_server: Any) -> None:
    work.commit({"a": "1"})
    bare(work, "pay.git")
    health = use(Git, of(f"{git_server.url}/pay.git", f"{git_server.url}/gone.git"), lambda git: git.check())
    assert [check.label for check in health.checks] == [
        "Reached 1 of 2 repositories",
        f"Can read {git_server.url}/gone.git",
    ]
    assert not health.ok
    assert "There is no Git repository" in health.checks[1].detail
    assert "Correct the address" in health.checks[1].remedy

    git_server.password = "s3cret"
    health = use(Git, of(f"{git_server.url}/pay.git"), lambda git: git.check())
    assert [check.ok for check in health.checks] == [False, False]
    assert "a token" in health.checks[1].remedy
    health = use(Git, of(f"{git_server.url}/pay.git", user="ana", token="s3cret"), lambda git: git.check())
    assert "over https only" in health.checks[1].remedy
    assert not any(authorization for _method, _path, authorization in git_server.requests)


def test_a_token_goes_to_its_own_host_only(work: Any, secure_git_servers: Any) -> None:
    work.commit({"a": "1"}, at=datetime.now(UTC).isoformat())
    bare(work, "pay.git")
    bare(work, "web.git")
    one, other = secure_git_servers
    one.password = other.password = "s3cret"
    both = of(f"git+{one.url}/pay.git", f"{other.url}/web.git", user="ana", token="s3cret")

    health = use(Git, both, lambda git: git.check())
    assert [check.ok for check in health.checks] == [True, False]
    assert "Hosts of the token" in health.checks[1].remedy
    assert one.url.removeprefix("https://") in health.checks[1].remedy
    assert read(Git, both, "repositories").refused
    assert not any(authorization for _method, _path, authorization in other.requests)

    hosts = [server.url.removeprefix("https://").upper() for server in (one, other)]
    assert use(Git, {**both, "token_hosts": hosts}, lambda git: git.check()).ok
    health = use(Git, {**both, "token_hosts": ["git.acme.example"]}, lambda git: git.check())
    assert [check.ok for check in health.checks] == [False, False, False]


@pytest.mark.parametrize("host", ["https://git.acme.example", "git.acme.example/x", "ana@git", "", "a b"])
def test_a_tokens_host_is_a_host(host: str) -> None:
    with pytest.raises(ValueError, match="is no host"):
        Git.Config.model_validate(of("https://git.acme.example/pay", token_hosts=[host]))


def test_a_folder_below_that_cannot_be_listed_leaves_lists_incomplete(
    work: Any, tmp_path: Path, locked: Any
) -> None:
    work.commit({"a": "1"}, at=datetime.now(UTC).isoformat())

    async def take(items: Any, found: list[Any]) -> None:
        async for item in items:
            found.append(item)

    async def read_all(connector: Git) -> tuple[Any, list[Any], list[Any]]:
        listed: list[Any] = []
        commits: list[Any] = []
        for items, found in ((connector.repositories(), listed), (connector.commits(None), commits)):
            with pytest.raises(SourceUnavailable, match=r"^1 repository could not be read, and what it held"):
                await take(items, found)
        return await connector.check(), listed, commits

    with locked(tmp_path / "org" / "private"):
        health, listed, commits = use(Git, of(tmp_path / "org"), read_all)
    assert [check.ok for check in health.checks] == [True, False]
    assert "Permission denied" in health.checks[1].detail
    assert [type(item).__name__ for item in listed] == ["Expect", "Repository", "Refused"]
    assert listed[2].place == str(tmp_path / "org" / "private")
    assert [type(item).__name__ for item in commits] == ["Commit", "Mark"]


def test_the_check_of_a_forbidden_folder_fails(settings: Any, work: Any, tmp_path: Path) -> None:
    settings.PORTICO_FILES_ALLOW = [tmp_path / "elsewhere"]
    health = use(Git, of(work.folder), lambda git: git.check())
    assert not health.ok
    assert "PORTICO_FILES_ALLOW" in health.checks[0].detail


# --- documents ----------------------------------------------------------------------------------------------


def test_catalog_files_are_found_with_place_and_folder(work: Any) -> None:
    head = work.commit(
        {
            "catalog-info.yaml": COMPONENT.format(name="shop")
            + "---\nkind: System\nmetadata: {name: shop}\n",
            "services/pay/catalog-info.yml": "# first line\n" + COMPONENT.format(name="Pay"),
            ".backstage/extra.yaml": COMPONENT.format(name="extra"),
            "node_modules/x/catalog-info.yaml": COMPONENT.format(name="foreign"),
            "other.yaml": COMPONENT.format(name="other"),
        }
    )
    work.git("remote", "add", "origin", "git@github.com:acme/mono.git")
    found = read(Git, of(work.folder), "documents")
    documents = found.by_id()
    assert not found.refused
    assert set(documents) == {
        "github.com/acme/mono:catalog-info.yaml#component:default/shop",
        "github.com/acme/mono:catalog-info.yaml#system:default/shop",
        "github.com/acme/mono:services/pay/catalog-info.yml#component:default/pay",
        "github.com/acme/mono:.backstage/extra.yaml#component:default/extra",
    }
    pay = documents["github.com/acme/mono:services/pay/catalog-info.yml#component:default/pay"]
    assert (pay.file, pay.document_number, pay.line, pay.commit) == (
        "services/pay/catalog-info.yml",
        1,
        1,
        head,
    )
    assert pay.document["metadata"]["name"] == "Pay"
    assert pay.about == ["repo:github.com/acme/mono#services/pay"]
    assert pay.keys == ["component:github.com/acme/mono#services/pay"]
    system = documents["github.com/acme/mono:catalog-info.yaml#system:default/shop"]
    assert (system.document_number, system.line, system.keys) == (2, 9, [])
    assert system.about == ["repo:github.com/acme/mono"]
    for name in ("catalog-info.yaml#component:default/shop", ".backstage/extra.yaml#component:default/extra"):
        # Two components speak for the top, so neither of them is it.
        assert documents[f"github.com/acme/mono:{name}"].keys == []


def test_the_only_component_of_a_repository_is_the_one_that_was_found_in_it(work: Any) -> None:
    work.commit({"catalog-info.yaml": COMPONENT.format(name="pay")})
    (document,) = read(Git, of(work.folder), "documents").records
    assert [normalise(key) for key in document.keys] == [f"component:file{work.folder}"]


@pytest.mark.parametrize(
    ("location", "keys"),
    [
        ("url:https://git.acme.example/acme/pay/tree/main/", ["component:git.acme.example/acme/pay"]),
        ("url:https://git.acme.example/acme/pay/tree/main/api", ["component:git.acme.example/acme/pay#api"]),
        ("url:https://git.acme.example/acme/other", []),
    ],
)
def test_a_components_own_word_on_its_source_counts_more_than_its_file(
    work: Any, location: str, keys: list[str]
) -> None:
    work.git("remote", "add", "origin", "https://git.acme.example/acme/pay")
    annotations = f"metadata:\n  annotations: {{backstage.io/source-location: '{location}'}}\n"
    work.commit({"x/catalog-info.yaml": COMPONENT.format(name="pay").replace("metadata:\n", annotations)})
    (document,) = read(Git, of(work.folder), "documents").records
    assert document.keys == keys


def test_placeholders_are_filled_from_the_same_commit(work: Any) -> None:
    work.commit(
        {
            "api/catalog-info.yaml": "kind: API\nmetadata: {name: x}\nspec:\n  definition: {$text: ./pay.yaml}\n"
            "---\nkind: API\nmetadata: {name: gone}\nspec:\n  definition: {$text: /api/gone.yaml}\n",
            "api/pay.yaml": "openapi: 3.1.0\n",
        }
    )
    (work.folder / "api/pay.yaml").write_text("not committed")
    found = read(Git, of(work.folder), "documents")
    (document,) = found.records
    assert document.document["spec"]["definition"].strip() == "openapi: 3.1.0"
    (refused,) = found.refused
    assert refused.place == "api/catalog-info.yaml, document 2, line 9, column 3"
    assert "gone.yaml" in refused.reason


def test_bad_documents_stay_alone_and_name_their_file(work: Any) -> None:
    long = "/".join(["deep"] * 110) + "/catalog-info.yaml"
    work.commit(
        {
            "a/catalog-info.yaml": "\n".join(
                [
                    "kind: [unclosed",
                    "---",
                    COMPONENT.format(name="a"),
                    "---",
                    "just text",
                    "---",
                    "kind: Component",
                    "---",
                ]
            )
            + "\n"
            + COMPONENT.format(name="A"),
            "b/catalog-info.yaml": COMPONENT.format(name="b"),
            long: COMPONENT.format(name="long"),
        }
    )
    found = read(Git, of(work.folder), "documents")
    base = f"file{work.folder}:a/catalog-info.yaml"
    assert set(found.by_id()) == {
        f"{base}#component:default/a",
        f"{base}#component:default/a~2",  # the catalog says which of the two counts
        f"{base}#4",  # it declares nothing that has a name; the catalog says what is missing
        f"file{work.folder}:b/catalog-info.yaml#component:default/b",
    }
    refused = {item.external_id: item for item in found.refused}
    assert set(refused) - {f"{base}#{number}" for number in (1, 3)} == {f"file{work.folder}:{long[:500]}#0"}
    assert refused[f"{base}#1"].place.startswith("a/catalog-info.yaml, document 1, line ")
    assert "object with keys" in refused[f"{base}#3"].reason
    for item in refused.values():
        assert item.external_id.rpartition("#")[0].partition(":")[2] in (base.partition(":")[2], long[:500])


def test_links_are_not_followed(work: Any, tmp_path: Path) -> None:
    (tmp_path / "secret.yaml").write_text(COMPONENT.format(name="secret"))
    (work.folder / "catalog-info.yaml").symlink_to(tmp_path / "secret.yaml")
    work.commit({"a": "1"})
    assert read(Git, of(work.folder), "documents").records == []


# --- tags and commits ---------------------------------------------------------------------------------------


def test_tags_become_versions(work: Any) -> None:
    first = work.commit({"a": "1"}, at="2026-01-01T00:00:00Z")
    work.git("tag", "v1.0.0")
    second = work.commit({"a": "2"}, at="2026-02-01T00:00:00Z")
    work.git("tag", "-a", "v2.0.0-rc.1", "-m", "Second\n\nFaster.", GIT_COMMITTER_DATE="2026-02-02T00:00:00Z")
    work.git("remote", "add", "origin", "https://github.com/acme/pay.git")
    found = read(Git, of(work.folder), "tags").by_id()
    assert list(found) == ["github.com/acme/pay@v2.0.0-rc.1", "github.com/acme/pay@v1.0.0"]
    rc, final = found.values()
    assert (rc.version, rc.commit, rc.is_prerelease, rc.notes) == (
        "v2.0.0-rc.1",
        second,
        True,
        "Second\n\nFaster.",
    )
    assert rc.released_at == datetime(2026, 2, 2, tzinfo=UTC)
    assert rc.about == ["repo:github.com/acme/pay", f"commit:{second}"]
    assert rc.url == f"https://github.com/acme/pay/commit/{second}"
    assert (final.commit, final.is_prerelease, final.notes) == (first, False, "")
    assert len(read(Git, of(work.folder, max_tags=1), "tags").records) == 1


@pytest.mark.parametrize(
    ("tag", "is_prerelease"),
    [
        ("v1.2.3", False), ("1.2.3-rc1", True), ("2.0.0b2", True), ("release-2026.1", False), ("team", False),
        ("1.0.0-SNAPSHOT", True), ("android", False), ("api-v1", False), ("1.0-alpha.3", True),
    ],
)  # fmt: skip
def test_prereleases_are_told_by_their_names(work: Any, tag: str, is_prerelease: bool) -> None:
    work.commit({"a": "1"})
    work.git("tag", tag)
    (version,) = read(Git, of(work.folder), "tags").records
    assert version.is_prerelease is is_prerelease


def days_ago(days: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat()


def test_commits_are_read_once_and_then_from_where_it_stopped(work: Any) -> None:
    work.commit({"a": "0"}, "Too old", at=days_ago(200))
    first = work.commit(
        {"a": "1", ".mailmap": "Ana Ruiz <ana@acme.example> <ana@acme.example>"}, "One", at=days_ago(5)
    )
    found = read(Git, of(work.folder), "commits")
    (commit,) = found.records
    id_ = f"file{work.folder}"
    assert (commit.external_id, commit.sha, commit.title) == (f"{id_}@{first}", first, "One")
    assert (commit.actor, commit.actor_email) == ("Ana Ruiz", "ana@acme.example")
    assert (commit.branch, commit.is_default_branch) == ("main", True)
    assert commit.as_of == commit.committed_at
    assert commit.about == [f"repo:{id_}", f"commit:{first}"]
    assert found.marks == [{id_: {"main": first}}]

    second = work.commit({"a": "2"}, "Two", at=days_ago(100))  # older than the window, but new to us
    found = read(Git, of(work.folder), "commits", found.marks[-1])
    assert [commit.sha for commit in found.records] == [second]
    found = read(Git, of(work.folder), "commits", found.marks[-1])
    assert (found.records, found.marks) == ([], [{id_: {"main": second}}])


def test_rewritten_history_is_read_anew(work: Any) -> None:
    work.commit({"a": "1"}, "One", at=days_ago(1))
    found = read(Git, of(work.folder), "commits", {f"file{work.folder}": {"main": "f" * 40}})
    assert [commit.title for commit in found.records] == ["One"]


def test_other_branches_are_read_when_asked_for(work: Any) -> None:
    work.commit({"a": "1"}, "Base", at=days_ago(9))
    work.git("checkout", "-q", "-b", "release/1")
    side = work.commit({"b": "1"}, "Side", at=days_ago(8))
    work.git("checkout", "-q", "-b", "scratch")
    work.commit({"c": "1"}, "Scratch", at=days_ago(7))
    work.git("checkout", "-q", "main")
    assert [c.title for c in read(Git, of(work.folder), "commits").records] == ["Base"]

    config = of(work.folder, branches=["release/*"])
    found = read(Git, config, "commits")
    assert [(c.title, c.branch, c.is_default_branch) for c in found.records] == [
        ("Base", "main", True),
        ("Side", "release/1", False),
    ]
    work.git("merge", "-q", "--no-ff", "-m", "Merge", "release/1")
    found = read(Git, config, "commits", found.marks[-1])
    merged = {commit.title: commit for commit in found.records}
    assert merged["Side"].sha == side
    assert merged["Side"].is_default_branch, "what is merged has come to the default branch"


def test_the_most_commits_at_a_time(work: Any) -> None:
    for number in range(3):
        work.commit({"a": str(number)}, f"Commit {number}", at=days_ago(3 - number))
    found = read(Git, of(work.folder, max_commits=2), "commits")
    assert [commit.title for commit in found.records] == ["Commit 2", "Commit 1"]


# --- reading texts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "owners", "line"),
    [
        ("", [], 0),
        ("* @acme/pay", ["@acme/pay"], 1),
        ("* @acme/pay\n/docs/ @acme/docs\n*.js @acme/web", ["@acme/pay"], 1),
        ("/** @a\n\n**/* @b @c", ["@b", "@c"], 3),
        ("* @acme/pay\n*", [], 2),  # the last rule says: nobody
        ("# * @nobody\n  * @acme/pay # why", ["@acme/pay"], 2),
        ("/* @top-only", [], 0),
        ("[Everything][2] @acme/pay\n*\n[Docs] @acme/docs\ndocs/", ["@acme/pay"], 2),
        ("^[Optional] @acme/pay\n* @acme/core", ["@acme/core"], 2),
        ("* @acme/core\n^[Readers] @acme/docs\n*", ["@acme/core"], 1),  # who may read along owns nothing
        ("[Data] @acme/db\n*.sql\n[All][2]\n* @acme/core", ["@acme/core"], 4),
        ("[Data base] @acme/db @acme/core\n* # all of it", ["@acme/db", "@acme/core"], 2),
        ("[Data] @acme/db\nsql/\n[Docs]\n*", [], 4),  # a section without owners, after one that has some
        ("* @@maintainers acme/pay @acme/pay a@b.example", ["@acme/pay", "a@b.example"], 1),
        ("[abc]* @acme/letters\n* @acme/pay", ["@acme/pay"], 2),  # a pattern, no section
        ("\ufeff* @acme/pay", ["@acme/pay"], 1),
    ],
)
def test_owners_of_the_whole_repository(text: str, owners: list[str], line: int) -> None:
    assert reading.owners_of(text) == (owners, line)


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("", ""),
        ("# Pay\n\nTakes money.", "Takes money."),
        ("# Pay\nTakes **money**\nfrom [customers](x).", "Takes money from customers."),
        ("Pay\n===\nTakes money.", "Takes money."),
        ("<!-- x\n\ny -->\n# Pay\n<p align=center><img src=a></p>\n\nTakes money.", "Takes money."),
        ("# Pay\n\n- a list\n\n[![build](a)](b) ![c][d]\n\nTakes money.", "Takes money."),
        ("# Pay\n\n" + "12345678 " * 50, " ".join(["12345678"] * 33) + "…"),
    ],
)
def test_summaries_are_the_first_prose(text: str, summary: str) -> None:
    assert reading.summary_of(text) == summary


def test_the_topmost_readme_counts() -> None:
    assert reading.readme_of(["docs/README.md", "readme.rst", "README", "src/README.md"]) == "README"
    assert reading.readme_of(["README.rst", "ReadMe.md", ".github/README.md"]) == "ReadMe.md"
    assert reading.readme_of(["READMEs.md", "a/b/README.md"]) == ""


# --- a whole sync ---------------------------------------------------------------------------------------------


def names_of(kind: str) -> set[str]:
    return set(Entity.objects.filter(kind=kind, deleted_at=None).values_list("name", flat=True))


@pytest.mark.django_db
def test_what_syncs_make_of_it(core_pack: None, work: Any, make_work: Any) -> None:
    """Found, then declared; a broken document keeps its last good form; what is gone goes; an outage does not."""
    now = datetime.now(UTC).isoformat()
    work.commit({"go.mod": "module pay", "README.md": "# Pay\n\nTakes money."}, at=now)
    other = make_work("org/shop")
    other.commit({"catalog-info.yaml": COMPONENT.format(name="shop"), "pom.xml": ""}, at=now)
    connection = create_connection(
        slug="git", label="Git", connector="git", config=of(work.folder.parent), interval=600
    )
    run = synced(connection)
    assert run.state == RunState.SYNCED, run.message
    assert names_of("repository") == {"pay", "shop"}
    assert names_of("component") == {"pay", "shop"}
    found = Entity.objects.get(kind="component", name="pay")
    declared = Entity.objects.get(kind="component", name="shop")
    assert found.description == "Takes money."

    work.commit({"catalog-info.yaml": COMPONENT.format(name="payments")}, at=now)
    other.commit({"catalog-info.yaml": COMPONENT.format(name="shop") + "  owner: twice\n"}, at=now)
    run = synced(connection)
    assert run.state == RunState.SYNCED
    assert names_of("component") == {"payments", "shop"}
    assert Entity.objects.get(kind="component", name="payments").uid == found.uid, (
        "it is the one that was found"
    )
    (refused,) = [page.errors for page in SeenPage.objects.filter(resource__run=run) if page.errors]
    assert "catalog-info.yaml, document 1" in str(refused)

    other.git("rm", "-q", "catalog-info.yaml")
    other.commit({}, "Remove", at=now)
    moved = work.folder.rename(work.folder.parent.parent / "elsewhere")
    (work.folder / ".git").mkdir(parents=True)
    run = synced(connection)
    assert run.state == RunState.PARTIAL
    assert "org/pay" in run.message
    assert names_of("component") == {"payments", "shop"}, "a list that is not whole removes nothing"

    (work.folder / ".git").rmdir()
    work.folder.rmdir()
    moved.rename(work.folder)
    run = synced(connection)
    assert run.state == RunState.SYNCED
    # Nothing declares the shop any more; its repository is still there and still built.
    assert names_of("component") == {"payments", "shop"}
    shop = Entity.objects.get(kind="component", name="shop")
    assert (shop.uid, shop.lifecycle) == (declared.uid, "unknown")
