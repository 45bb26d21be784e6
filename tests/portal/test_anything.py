"""Whatever people paste leads to its component: addresses, images, packages, commits, runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client
from django.utils import timezone

from access.models import User
from catalog.lookup import keys_of_text, look_up
from catalog.models import Entity
from catalog.services.render import render_dirty
from integrations.components import apply_rules
from integrations.models import Connection
from integrations.records import Artifact, Commit, Document, Pipeline, Repository, Run, Version
from integrations.writing import RecordWriter
from portal.views.anything import is_pasted

pytestmark = pytest.mark.django_db

SHA = "0123456789abcdef0123456789abcdef01234567"
DIGEST = "sha256:" + "ab" * 32
REPO = "repo:git.acme.example/pay/gateway"
NOW = timezone.now()


def component(name: str, folder: str = "") -> Document:
    source = f"url:https://git.acme.example/mono/repo/-/tree/main/{folder}"
    return Document(
        external_id=f"{folder}#component:default/{name}",
        file=f"{folder}/catalog-info.yaml",
        document={
            "apiVersion": "backstage.io/v1alpha1",
            "kind": "Component",
            "metadata": {"name": name, "annotations": {"backstage.io/source-location": source}},
            "spec": {"type": "service", "lifecycle": "production", "owner": "team-pay"},
        },
    )


@pytest.fixture
def company(core_pack: None) -> None:
    """A component with code, builds, an image and packages, and a monorepo of two."""
    connection = Connection.objects.create(slug="acme", label="Acme", connector="records")
    given: dict[str, list[Any]] = {
        "repositories": [
            Repository(
                external_id="1", name="gateway", path="pay/gateway", keys=[REPO], build_files=["go.mod"],
                last_activity_at=NOW, url="https://git.acme.example/pay/gateway",
            ),
            Repository(external_id="2", name="repo", path="mono/repo", keys=["repo:git.acme.example/mono/repo"]),
        ],
        "documents": [component("one", "svc/one"), component("two", "svc/two")],
        "pipelines": [
            Pipeline(
                external_id="p", name="gateway build", keys=["pipeline:ci.acme.example/7"], about=[REPO],
                url="https://ci.acme.example/#/builders/7",
            )
        ],
        "images": [
            Artifact(
                external_id="i", name="pay/gateway", artifact_type="image", about=[REPO],
                keys=["image:registry.acme.example/pay/gateway", f"image-digest:{DIGEST}"],
            ),
            Artifact(
                external_id="n", name="@acme/gateway", artifact_type="package", about=[REPO],
                keys=["npm:@acme/gateway"],
            ),
            Artifact(
                external_id="y", name="acme-gateway", artifact_type="package", about=[REPO],
                keys=["pypi:acme_gateway"],
            ),
        ],
        "activity": [
            Run(
                external_id="r", status="failed", title="build", number="12", commit=SHA, started_at=NOW,
                about=["pipeline:ci.acme.example/7"], url="https://ci.acme.example/#/builders/7/builds/12",
            ),
            Commit(external_id="c", title="Mend", sha=SHA, committed_at=NOW, about=[REPO]),
            Version(external_id="v", version="1.2", about=["image:registry.acme.example/pay/gateway"], as_of=NOW),
        ],
    }  # fmt: skip
    for resource, records in given.items():
        writer = RecordWriter(connection=connection, resource=resource, by="t", now=timezone.now())
        assert not writer.write(records).errors
    apply_rules(now=timezone.now())
    render_dirty(at=timezone.now())


GATEWAY = "component:default/pay-gateway"


@pytest.mark.parametrize(
    "text",
    [
        "https://git.acme.example/pay/gateway",
        "https://git.acme.example/pay/gateway.git",
        "git@git.acme.example:pay/gateway.git",
        "ssh://git@git.acme.example:22/pay/gateway",
        "git.acme.example/pay/gateway",
        "https://git.acme.example/pay/gateway/-/tree/main/cmd",
        "https://git.acme.example/pay/gateway/-/merge_requests/937?tab=changes#note_1",
        "https://git.acme.example/pay/gateway/pulls/4",
        "registry.acme.example/pay/gateway",
        "registry.acme.example/pay/gateway:1.2",
        f"registry.acme.example/pay/gateway@{DIGEST}",
        f"docker://registry.acme.example/pay/gateway:1.2@{DIGEST}",
        DIGEST,
        DIGEST.removeprefix("sha256:"),
        "docker://registry.acme.example/pay/gateway:1.2",
        "oci://registry.acme.example/pay/gateway",
        f"pkg:oci/gateway@{DIGEST}",
        f"pkg:oci/gateway@{DIGEST.replace(':', '%3A')}?repository_url=nowhere.example/pay/gateway&tag=1.2",
        "pkg:oci/gateway?repository_url=registry.acme.example/pay/gateway&tag=1.2",
        "pkg:docker/pay/gateway@1.2?repository_url=registry.acme.example",
        f"docker-pullable://registry.acme.example/pay/gateway@{DIGEST}",
        "@acme/gateway",
        "@acme/gateway@1.2.0",
        "acme_gateway==1.2",
        "pkg:npm/@acme/gateway@1.2.0",
        "pkg:pypi/acme-gateway@1.2",
        "npm:@acme/gateway",
        "https://www.npmjs.com/package/@acme/gateway",
        "acme_gateway",
        "https://pypi.org/project/acme-gateway/1.2/",
        SHA,
        SHA[:9],
        SHA.upper(),
        f"commit {SHA}",
        f"git show {SHA[:8]}",
        f"https://git.acme.example/pay/gateway/commit/{SHA}",
        "https://ci.acme.example/#/builders/7/builds/12",
        "https://ci.acme.example/#/builders/7",
        "https://ci.acme.example/#/builders/7/builds/12/steps/3/logs/stdio",
        "pipeline:ci.acme.example/7",
        GATEWAY,
        "  https://git.acme.example/pay/gateway\n",
        "<https://git.acme.example/pay/gateway>",
        "'https://git.acme.example/pay/gateway'",
        "git clone --depth=1 git@git.acme.example:pay/gateway.git",
        "docker pull registry.acme.example/pay/gateway:1.2",
        f'image: "registry.acme.example/pay/gateway@{DIGEST}"',
        "$ npm install --save @acme/gateway",
        "pip install acme-gateway==1.2",
    ],
)
def test_it_leads_to_the_component(
    company: None, browse: Callable[[User], Client], vic: User, text: str
) -> None:
    assert [entity.ref for entity in look_up(vic, text).entities] == [GATEWAY]
    client = browse(vic)
    for url in (f"/to/{quote(text.strip(), safe=':/@?&=')}", f"/to?text={quote(text, safe='')}"):
        answer = client.get(url)
        assert answer.status_code == 302, (url, answer.content[:300])
        assert answer["Location"] == "/catalog/default/component/pay-gateway"


@pytest.mark.parametrize(
    ("text", "refs"),
    [
        ("https://git.acme.example/mono/repo", ["component:default/one", "component:default/two"]),
        ("https://git.acme.example/mono/repo/-/tree/main/svc/two/src", ["component:default/two"]),
        ("https://git.acme.example/mono/repo/-/blob/main/svc/one/main.go", ["component:default/one"]),
        (
            "https://git.acme.example/mono/repo/-/tree/main/docs",
            ["component:default/one", "component:default/two"],
        ),
    ],
)
def test_in_a_monorepo_the_folder_decides(company: None, vic: User, text: str, refs: list[str]) -> None:
    assert [entity.ref for entity in look_up(vic, text).entities] == refs


def test_a_page_of_the_portal_itself_is_opened(
    company: None, browse: Callable[[User], Client], vic: User
) -> None:
    answer = browse(vic).get(
        "/to", {"text": "http://testserver/catalog/default/component/pay-gateway?tab=history"}
    )
    assert answer["Location"] == "/catalog/default/component/pay-gateway?tab=history"
    assert (
        browse(vic)
        .get("/catalog", {"q": "http://testserver/catalog/x/y/z"})["Location"]
        .startswith("/to?text=")
    )
    assert browse(vic).get("/to", {"text": "http://testserver.evil.example/catalog/x"}).status_code == 404


def test_of_several_one_is_chosen(company: None, browse: Callable[[User], Client], vic: User) -> None:
    page = browse(vic).get("/to/https://git.acme.example/mono/repo")
    assert page.status_code == 200
    words = re.sub(r"<[^>]+>", " ", page.content.decode())
    assert "Which one?" in words
    assert "one" in words
    assert "two" in words


@pytest.mark.parametrize(
    "text",
    ["https://elsewhere.example/x/y", "nothing", "sha256:" + "00" * 32, "f" * 40, "component:default/none",
     "javascript:alert(1)", "<script>alert(1)</script>", "\0", "x" * 5_000, "://", "a b c", "%", "é/ü"],
)  # fmt: skip
def test_what_nobody_knows_says_how_it_was_looked_for(
    company: None, browse: Callable[[User], Client], vic: User, text: str
) -> None:
    answer = browse(vic).get("/to", {"text": text})
    assert answer.status_code in {400, 404}
    assert "<script>alert" not in answer.content.decode()


def test_what_one_may_not_see_is_not_there(
    company: None, browse: Callable[[User], Client], cleo: User
) -> None:
    for text in ("https://git.acme.example/pay/gateway", SHA, DIGEST, GATEWAY):
        assert look_up(cleo, text).entities == []
        assert browse(cleo).get("/to", {"text": text}).status_code == 404


def test_the_search_box_takes_it_too(company: None, browse: Callable[[User], Client], vic: User) -> None:
    client = browse(vic)
    suggested = client.get("/search/suggest", {"q": f"registry.acme.example/pay/gateway@{DIGEST}"})
    assert "/catalog/default/component/pay-gateway" in suggested.content.decode()
    answer = client.get("/catalog", {"q": "https://git.acme.example/pay/gateway"})
    assert client.get(answer["Location"])["Location"] == "/catalog/default/component/pay-gateway"
    assert client.get("/catalog", {"q": "https://elsewhere.example/x"}).status_code != 302


@pytest.mark.parametrize(
    "text",
    [
        SHA,
        SHA[:7],
        "@acme/gateway",
        "@acme/gateway@1.2.0",
        "pkg:npm/%40acme/gateway@1.2.0",
        "npm:@acme/gateway",
        "registry.acme.example/pay/gateway:1.2",
        f"registry.acme.example/pay/gateway@{DIGEST}",
        DIGEST,
        "git.acme.example/pay/gateway",
        "git@git.acme.example:pay/gateway.git",
    ],
)
def test_whatever_is_pasted_into_the_search_box_leads_as_its_address_does(
    company: None, browse: Callable[[User], Client], vic: User, text: str
) -> None:
    client = browse(vic)
    assert "/catalog/default/component/pay-gateway" in (
        client.get("/search/suggest", {"q": text}).content.decode()
    )
    for page in ("/catalog", "/search"):  # which the box leads to
        answer = client.get(page, {"q": text})
        assert answer.status_code == 302
        assert client.get(answer["Location"])["Location"] == "/catalog/default/component/pay-gateway"


@pytest.mark.parametrize(
    "text",
    ["", "owner:group:default/payments", "kind:component is:failing", "gateway", "v1.2", "pay/gateway"],
)
def test_a_query_is_not_taken_for_something_pasted(text: str) -> None:
    assert not is_pasted(text)


def test_without_anything_it_says_what_can_be_pasted(
    company: None, browse: Callable[[User], Client], vic: User
) -> None:
    answer = browse(vic).get("/to")
    assert answer.status_code == 200
    assert "<title>Paste anything" in answer.content.decode()
    assert "Nothing is known" not in answer.content.decode()


def test_it_is_found_among_many_by_index(
    company: None, vic: User, django_assert_max_num_queries: Any
) -> None:
    # One of them, for whom connections are, is kept like who may do what.
    with django_assert_max_num_queries(7):
        look_up(vic, "https://git.acme.example/pay/gateway/-/merge_requests/937")


def test_keys_of_what_is_no_key() -> None:
    assert keys_of_text("") == []
    assert keys_of_text("two words") == []
    assert keys_of_text("https://") == []
    assert Entity.objects.count() == 0
