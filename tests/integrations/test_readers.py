"""The readers of catalog documents, on real files, repositories and servers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from base.errors import DomainError
from base.limits import LimitExceeded
from catalog.documents.reader import Location, Missing
from catalog.documents.sources import SourceDocument, Unreadable, read_documents
from integrations.errors import BadPayload, Misconfigured, NotThere
from integrations.files import FileReader
from integrations.git import GitClient
from integrations.git.program import GitProgram
from integrations.http import HttpClient, HttpLimits
from integrations.outbound import OutboundPolicy
from integrations.readers import ALL_YAML, CatalogReader, GitPlace

pytestmark = pytest.mark.anyio


@pytest.fixture
async def make_reader(tmp_path: Path) -> AsyncIterator[Callable[[], CatalogReader]]:
    """Readers that may read the test's folder and reach its servers, and know no Redis."""
    readers = []

    def make() -> CatalogReader:
        policy, files = OutboundPolicy(["127.0.0.1"]), FileReader([tmp_path])
        limits = HttpLimits(attempts=1, read=5)
        http = HttpClient(policy=policy, limits=limits, redis=Redis.from_url("unix:///nonexistent"))
        git = GitClient(policy=policy, files=files, home=tmp_path / "home" / "git")
        readers.append(CatalogReader(http=http, git=git, files=files))
        return readers[-1]

    yield make
    for reader in readers:
        await reader.aclose()


@pytest.fixture
def reader(make_reader: Callable[[], CatalogReader]) -> CatalogReader:
    return make_reader()


def url(target: str) -> Location:
    return Location("url", target)


def file(target: Any) -> Location:
    return Location("file", str(target))


async def collect(reader: CatalogReader, *starts: Location) -> tuple[list[str], list[Unreadable]]:
    """The names of all documents from these places on, and what could not be read."""
    found = [item async for item in read_documents(starts, reader)]
    names = [item.data["metadata"]["name"] for item in found if isinstance(item, SourceDocument)]
    return names, [item for item in found if isinstance(item, Unreadable)]


def entity(name: str) -> str:
    return f"kind: Component\nmetadata: {{name: {name}}}\n"


def location(*targets: str, name: str = "all") -> str:
    return f"kind: Location\nmetadata: {{name: {name}}}\nspec: {{targets: {list(targets)!r}}}\n"


# Local files


async def test_a_folder_means_all_its_yaml_files(reader: CatalogReader, tmp_path: Path) -> None:
    folder = tmp_path / "{cata}log [1]"
    (folder / "b").mkdir(parents=True)
    for name in ("z.yaml", "b/a.yml", "b/[x].yaml", "b/c.json", "notes.txt"):
        (folder / name).write_text(entity("x"))
    start = await reader.locate(str(folder))
    found = await reader.glob(start)
    assert [one.target for one in found] == [
        str(folder / name) for name in ("b/[x].yaml", "b/a.yml", "z.yaml")
    ]
    assert (await reader.read(found[0])).data == entity("x").encode()
    assert [one.target for one in await reader.glob(found[0])] == [str(folder / "b/[x].yaml")]


async def test_where_no_file_fits_it_says_where_it_looked_for_what(
    reader: CatalogReader, tmp_path: Path
) -> None:
    (tmp_path / "empty" / "docs").mkdir(parents=True)
    (tmp_path / "empty" / "notes.txt").write_text("no catalog file")
    for text, says in (
        ("empty", f"There is no *.yaml or *.yml file in {tmp_path}/empty, nor in a folder below."),
        ("empty/*.yml", f"No file in {tmp_path}/empty fits *.yml."),
        ("none/*.yaml", f"There is no {tmp_path}/none."),
        ("e*/docs/", f"No file in {tmp_path} fits e*/docs."),
    ):
        with pytest.raises(Missing) as caught:
            await reader.glob(await reader.locate(str(tmp_path / text)))
        assert caught.value.message.startswith(says)


async def test_a_person_may_write_a_path_as_they_like(
    reader: CatalogReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.yaml").write_text("a")
    monkeypatch.chdir(tmp_path)
    for text in (
        "a.yaml",
        "./x/../a.yaml",
        f"{tmp_path}/a.yaml",
        f"file:{tmp_path}/a.yaml",
        f"file://{tmp_path}/a.yaml",
    ):
        assert await reader.locate(text) == file(tmp_path / "a.yaml")
    assert await reader.locate("*.yaml") == file(tmp_path / "*.yaml")
    with pytest.raises(NotThere, match=r"none\.yaml"):
        await reader.locate("none.yaml")
    with pytest.raises(Misconfigured, match="PORTICO_FILES_ALLOW"):
        await reader.locate("/etc")


async def test_local_reading_stays_inside(reader: CatalogReader, tmp_path: Path) -> None:
    (tmp_path / "link.yaml").symlink_to("/etc/passwd")
    for target in ("/etc/passwd", f"{tmp_path}/../../../etc/passwd", f"{tmp_path}/link.yaml"):
        with pytest.raises(Misconfigured, match="outside"):
            await reader.read(file(target))
    for pattern in ("/etc/*", f"{tmp_path}/../*"):
        with pytest.raises(Misconfigured, match="outside"):
            await reader.glob(file(pattern))
    with pytest.raises(Missing):
        await reader.read(file(tmp_path / "none.yaml"))


async def test_a_file_has_a_limit(
    reader: CatalogReader, tmp_path: Path, server: Any, make_answer: Any, make_work: Any
) -> None:
    large = b"#" * (10 * 1024 * 1024 + 1)
    (tmp_path / "large.yaml").write_bytes(large)
    server.on("/large.yaml", make_answer(large))
    work = make_work()
    work.commit({"large.yaml": large})
    for place in (
        file(tmp_path / "large.yaml"),
        url(f"{server.url}/large.yaml"),
        file(f"git+file://{work.folder}//large.yaml"),
    ):
        with pytest.raises((LimitExceeded, BadPayload), match="10 MiB"):
            await reader.read(place)


async def test_locations_are_followed_across_files(
    reader: CatalogReader, tmp_path: Path, server: Any, make_answer: Any
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "all.yaml").write_text(
        location("./sub/*.yaml", "sub/../one.yaml", f"{server.url}/web.yaml", "./none.yaml")
    )
    (tmp_path / "sub/two.yaml").write_text(entity("two"))
    (tmp_path / "one.yaml").write_text(entity("one"))
    server.on("/web.yaml", make_answer(entity("web")))
    names, unread = await collect(reader, file(tmp_path / "all.yaml"))
    assert names == ["all", "two", "one", "web"]
    assert [one.location.target for one in unread] == [str(tmp_path / "none.yaml")]


# The web


async def test_a_file_on_the_web(reader: CatalogReader, server: Any, make_answer: Any) -> None:
    server.on("/c/all.yaml", make_answer(location("../one.yaml", "two words.yaml", "/root.yaml?v=1")))
    for path in ("/one.yaml", "/c/two%20words.yaml", "/root.yaml"):
        server.on(path, make_answer(entity("x")))
    start = await reader.locate(f"{server.url}/c/all.yaml")
    assert start == url(f"{server.url}/c/all.yaml")
    names, unread = await collect(reader, start)
    assert (names, unread) == (["all", "x", "x", "x"], [])


async def test_what_is_no_file_is_told(reader: CatalogReader, server: Any, make_answer: Any) -> None:
    server.on(
        "/sign-in.yaml",
        make_answer("<html>Sign in</html>", headers={"Content-Type": "text/html; charset=utf-8"}),
    )
    with pytest.raises(BadPayload, match="a web page where a YAML file was expected"):
        await reader.read(url(f"{server.url}/sign-in.yaml"))
    with pytest.raises(Missing, match="nothing at"):
        await reader.read(url(f"{server.url}/none.yaml"))
    with pytest.raises(Misconfigured, match="pattern"):
        await reader.glob(url(f"{server.url}/*.yaml"))


async def test_what_comes_from_elsewhere_does_not_reach_into_this_machine(
    reader: CatalogReader, server: Any, make_answer: Any, make_work: Any, tmp_path: Path
) -> None:
    work = make_work()
    work.commit({"secret.yaml": entity("secret")})
    local = (
        f"git+file://{work.folder}//secret.yaml",
        f"file://{work.folder}/secret.yaml",
        "http://169.254.169.254/x.yaml",
    )
    server.on(
        "/all.yaml", make_answer(location(*local, f"{work.folder}/secret.yaml", "git+ext://sh//x.yaml"))
    )
    names, unread = await collect(reader, url(f"{server.url}/all.yaml"))
    assert names == ["all"]
    assert len(unread) == 5
    with pytest.raises(Misconfigured, match="cannot be read"):
        await reader.glob(url(f"git+file://{work.folder}//*.yaml"))
    with pytest.raises(Misconfigured, match="cannot be read"):
        await reader.read(Location("file", f"{server.url}/all.yaml"))
    with pytest.raises(Misconfigured, match="cannot be read"):
        await reader.read(Location("ldap", "x"))


# Repositories


@pytest.fixture
def catalog_repository(make_work: Any) -> Any:
    work = make_work("acme/pay.git-work")
    targets = ("./services/*/catalog-info.yaml", "/docs/x y.yaml", "../outside.yaml", "link.yaml")
    work.commit({
        "catalog-info.yaml": location(*targets),
        "services/a/catalog-info.yaml": entity("a") + "spec: {definition: {$text: ./api.txt}}\n",
        "services/a/api.txt": "text of the API",
        "services/b/catalog-info.yaml": entity("b"),
        "docs/x y.yaml": entity("docs"),
        "other.yml": entity("other"),
        "readme.md": "no",
    })  # fmt: skip
    os.symlink("other.yml", work.folder / "link.yaml")
    work.commit({})
    work.git("branch", "team/next")
    work.git("clone", "--quiet", "--bare", ".", str(work.folder.parent / "pay.git"))
    return work


EXPECTED = ["all", "a", "b", "docs"]


async def test_a_repository_means_all_its_yaml_files(
    make_reader: Callable[[], CatalogReader], catalog_repository: Any, git_server: Any, tmp_path: Path
) -> None:
    bare = tmp_path / "acme/pay.git"
    (catalog_repository.folder / "uncommitted.yaml").write_text(entity("uncommitted"))
    remote, local = f"{git_server.url}/acme/pay.git", catalog_repository.folder
    for text, place in (
        (remote, url(f"git+{remote}//{ALL_YAML}")),
        (f"git+{remote}", url(f"git+{remote}//{ALL_YAML}")),
        (f"git+{remote}//services#team/next", url(f"git+{remote}//services/{ALL_YAML}#team/next")),
        (remote.removesuffix(".git"), url(f"git+{remote}//{ALL_YAML}")),
        (str(bare), file(f"git+file://{bare}//{ALL_YAML}")),
        (f"git+file://{local}", file(f"git+file://{local}//{ALL_YAML}")),
    ):
        reader = make_reader()
        start = await reader.locate(text)
        assert start == place
        assert start.is_pattern
        found = await reader.glob(start)
        paths = [one.target.partition("//")[2].partition("//")[2].partition("#")[0] for one in found]
        services = ["services/a/catalog-info.yaml", "services/b/catalog-info.yaml"]
        others = ["catalog-info.yaml", "docs/x%20y.yaml", "other.yml"]
        assert paths == (services if "services" in text else others + services)
        assert b"name: b" in (await reader.read(found[-1])).data
    for pattern, says in (
        ("no/such", "There is no *.yaml or *.yml file in no/such in team/next of "),
        ("services/*.yaml", "No file in team/next of "),
    ):
        with pytest.raises(Missing) as caught:
            await reader.glob(await reader.locate(f"git+{remote}//{pattern}#team/next"))
        assert caught.value.message.startswith(says)
        assert f"{remote} " in caught.value.message or f"{remote}," in caught.value.message


async def test_locations_are_followed_inside_a_repository(
    make_reader: Callable[[], CatalogReader], catalog_repository: Any, git_server: Any
) -> None:
    for start in (
        url(f"git+{git_server.url}/acme/pay.git//catalog-info.yaml"),
        url(f"git+{git_server.url}/acme/pay.git//catalog-info.yaml#team/next"),
        file(f"git+file://{catalog_repository.folder}//catalog-info.yaml"),
    ):
        names, unread = await collect(make_reader(), start)
        assert names == EXPECTED
        assert [(type(one.error), one.error.message) for one in unread] == [
            (Missing, unread[0].error.message),
            (Misconfigured, unread[1].error.message),
        ]
        assert "../outside.yaml" in unread[0].error.message
        assert "symbolic link" in unread[1].error.message


async def test_placeholders_are_read_from_the_repository(
    reader: CatalogReader, catalog_repository: Any, git_server: Any
) -> None:
    start = url(f"git+{git_server.url}/acme/pay.git//services/a/catalog-info.yaml")
    (document,) = [item async for item in read_documents([start], reader)]
    assert isinstance(document, SourceDocument)
    assert document.data["spec"] == {"definition": "text of the API"}


async def test_many_files_of_a_repository_are_read_in_one_go(
    reader: CatalogReader, make_work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = make_work()
    work.commit({f"{number}.yaml": entity(f"n{number}") for number in range(300)})
    runs = 0
    run = GitProgram.run

    async def counting(self: GitProgram, *args: str, **kwargs: Any) -> bytes:
        nonlocal runs
        runs += 1
        return await run(self, *args, **kwargs)

    monkeypatch.setattr(GitProgram, "run", counting)
    names, unread = await collect(reader, await reader.locate(f"git+file://{work.folder}"))
    assert (len(names), unread) == (300, [])
    assert runs <= 10


async def test_a_repository_that_cannot_be_read_is_told_once_and_clearly(
    reader: CatalogReader, git_server: Any
) -> None:
    for target in ("none.git//a.yaml", "none.git//b.yaml", "none.git//*.yaml"):
        with pytest.raises(Misconfigured, match="no Git repository at"):
            await (reader.glob if "*" in target else reader.read)(url(f"git+{git_server.url}/{target}"))
    asked = len(git_server.requests)
    assert asked <= 2
    with pytest.raises(DomainError, match=r"no Git repository|nothing at"):
        await reader.locate(f"{git_server.url}/none")


# The pages of Git hosts


@pytest.mark.parametrize(
    ("page", "repository", "raw"),
    [
        ("https://github.com/acme/pay/blob/main/a/x.yaml", "https://github.com/acme/pay.git", "https://raw.githubusercontent.com/acme/pay/main/a/x.yaml"),
        ("https://ghe.corp/acme/pay/tree/main/a/x.yaml", "https://ghe.corp/acme/pay.git", "https://ghe.corp/acme/pay/raw/main/a/x.yaml"),
        ("https://gitlab.com/acme/team/pay/-/blob/main/a/x.yaml", "https://gitlab.com/acme/team/pay.git", "https://gitlab.com/acme/team/pay/-/raw/main/a/x.yaml"),
        ("https://codeberg.org/acme/pay/src/branch/main/a/x.yaml", "https://codeberg.org/acme/pay.git", "https://codeberg.org/acme/pay/raw/branch/main/a/x.yaml"),
        ("https://bitbucket.org/acme/pay/src/main/a/x.yaml", "https://bitbucket.org/acme/pay.git", "https://bitbucket.org/acme/pay/raw/main/a/x.yaml"),
    ],
)  # fmt: skip
async def test_pages_of_git_hosts_are_understood(page: str, repository: str, raw: str) -> None:
    place = GitPlace.parse(page)
    assert place is not None
    assert (place.repository, place.raw_url) == (repository, raw)
    settled = place.settle([])
    assert (settled.ref, settled.path) == ("main", "a/x.yaml")
    assert settled.target == page.replace("/tree/", "/blob/")
    assert place.settle(["main/a", "main", "other"]).path == "x.yaml"


@pytest.mark.parametrize(
    "address",
    [
        "https://x.example/blob/x.yaml",
        "https://x.example/a/b/x.yaml",
        "https://x.example/a/src/x.yaml",
        "/a/b/blob/main/x",
    ],
)
async def test_other_addresses_are_not_taken_for_pages(address: str) -> None:
    assert GitPlace.parse(address) is None


async def test_a_page_is_read_as_its_raw_file(reader: CatalogReader, server: Any, make_answer: Any) -> None:
    server.on("/acme/pay/raw/main/c/all.yaml", make_answer(location("../one.yaml", "/two.yaml")))
    server.on("/acme/pay/raw/main/one.yaml", make_answer(entity("one")))
    server.on("/acme/pay/raw/main/two.yaml", make_answer(entity("two")))
    server.on("/files/of/blob/plain.yaml", make_answer(entity("plain")))
    names, unread = await collect(
        reader,
        url(f"{server.url}/acme/pay/blob/main/c/all.yaml"),
        url(f"{server.url}/files/of/blob/plain.yaml"),
    )
    assert sorted(names) == ["all", "one", "plain", "two"]
    assert unread == []


async def test_patterns_on_pages_are_looked_up_in_the_repository(
    reader: CatalogReader, catalog_repository: Any, git_server: Any
) -> None:
    page = f"{git_server.url}/acme/pay/blob"
    for ref in ("main", "team/next"):
        found = await reader.glob(url(f"{page}/{ref}/services/**/catalog-info.yaml"))
        assert found == [url(f"{page}/{ref}/services/{name}/catalog-info.yaml") for name in "ab"]
        assert b"name: a" in (await reader.read(found[0])).data
        assert b"name: a" in (await reader.read(found[0])).data, "a second time, without what was read ahead"
    folder = await reader.locate(f"{git_server.url}/acme/pay/tree/team/next/services")
    assert folder == url(f"{page}/team/next/services/**/*.{{yaml,yml}}")
    assert len(await reader.glob(folder)) == 2
    names, unread = await collect(reader, url(f"{page}/team/next/catalog-info.yaml"))
    assert names == EXPECTED
    assert len(unread) == 2
