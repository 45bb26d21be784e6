"""Where things run, by what a cluster, a registry and catalog files say: from the recordings to the page."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from access.models import User
from catalog.lookup import look_up
from catalog.models import Entity, Tie, TieState
from catalog.queries import evidence_of, reach
from catalog.services.edit import decide_tie
from catalog.services.render import render_dirty
from integrations.components import apply_rules
from integrations.connectors.kubernetes.connector import Kubernetes
from integrations.models import Connection
from integrations.records import Artifact, Document, Record, Repository, Version
from integrations.writing import RecordWriter
from tests.catalog.saying import claim
from tests.catalog.saying import say as declare
from tests.integrations import kubernetes
from tests.integrations.kubernetes import digest
from tests.integrations.reading import read

pytestmark = pytest.mark.django_db

REPO = "repo:git.acme.example/acme/web"
WEB, PAY = "component:default/acme-web", "component:elsewhere/pay"
IMAGE = "image:registry.acme.example/acme/web"


def say(slug: str, resource: str, records: list[Any], connector: str = "records") -> None:
    connection, _created = Connection.objects.get_or_create(slug=slug, label=slug, connector=connector)
    writer = RecordWriter(connection=connection, resource=resource, by="t", now=timezone.now())
    assert not writer.write(records).errors


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Record]]:
    """What the recorded cluster says, by resource."""
    monkeypatch.setattr("integrations.connectors.kubernetes.connector.PAGE", 4)
    with kubernetes.play() as played:
        return {
            spec.name: read(Kubernetes, played.settings("portico"), spec.name).records
            for spec in Kubernetes.resources()
        }


@pytest.fixture(params=["cluster last", "cluster first"])
def company(request: pytest.FixtureRequest, core_pack: None, cluster: dict[str, list[Record]]) -> None:
    """A component whose image is pulled through a mirror, and one that names its workloads itself."""

    def tell_of_the_cluster() -> None:
        for resource, records in cluster.items():
            say("k8s", resource, records, "kubernetes")
        render_dirty(at=timezone.now())

    if request.param == "cluster first":
        tell_of_the_cluster()
    now = timezone.now()
    code = {"name": "web", "path": "acme/web", "build_files": ["package.json"], "last_activity_at": now}
    metadata = {"name": "pay", "namespace": "elsewhere", "annotations": {"backstage.io/kubernetes-id": "pay"}}
    spec = {"type": "service", "lifecycle": "production", "owner": "payments"}
    declared = {
        "apiVersion": "backstage.io/v1alpha1",
        "kind": "Component",
        "metadata": metadata,
        "spec": spec,
    }
    say("git", "repositories", [Repository(external_id="1", keys=[REPO], **code)])
    say("git", "documents", [Document(external_id="p", file="catalog-info.yaml", document=declared)])
    apply_rules(now=now)
    render_dirty(at=now)
    image = Artifact(external_id="w", name="acme/web", artifact_type="image", keys=[IMAGE], about=[REPO])
    say("oci", "images", [image])
    told = [IMAGE, f"image-digest:{digest('web 2.0')}", f"image-digest:{digest('a part')}"]
    say("oci", "versions", [Version(external_id="w@2.0", version="2.0", about=told, as_of=now)])
    render_dirty(at=now)
    if request.param == "cluster last":
        tell_of_the_cluster()


def words(client: Client, url: str, card: str) -> str:
    """What one reads on a card of a page; nothing if there is no such card."""
    answer = client.get(url)
    assert answer.status_code == 200
    found = re.search(rf"<h2[^>]*>\s*{card}\b.*?</section>", answer.content.decode(), re.DOTALL)
    text = re.sub(r"<[^>]+>", " ", found[0]) if found else ""
    return " ".join(html.unescape(text).split()).replace(" ,", ",")


def test_a_component_shows_where_its_image_runs_whatever_it_is_called_there(
    company: None, browse: Callable[[User], Client], vic: User
) -> None:
    said = words(browse(vic), "/catalog/default/component/acme-web", "Runs on")
    assert "web prod/shop web:2.0 1 of 1 ready Healthy" in said
    assert "1 in all" in said
    artifact = words(browse(vic), "/catalog/default/artifact/acme-web", "Runs on")
    assert "web prod/shop web:2.0" in artifact


def test_a_component_shows_the_workloads_that_its_catalog_file_names(
    company: None, browse: Callable[[User], Client], vic: User, cleo: User
) -> None:
    url = "/catalog/elsewhere/component/pay"
    said = words(browse(vic), url, "Runs on")
    assert "pay prod/payments pay:1.4.2, proxy:3 2 of 2 ready Healthy" in said
    # Who may not see the workload does not learn of it.
    assert words(browse(cleo), url, "About")
    assert words(browse(cleo), url, "Runs on") == ""


def test_a_namespace_shows_what_runs_in_it_the_worst_first(
    company: None, browse: Callable[[User], Client], vic: User
) -> None:
    said = words(browse(vic), "/catalog/default/environment/prod-payments", "Workloads")
    order = re.findall(r"Down|Degraded|Healthy|Maintenance", said)
    assert order == ["Down", "Degraded", "Degraded", *["Healthy"] * 3, *["Maintenance"] * 2]
    assert "prod/payments" not in said  # that is where one is
    assert said.index("refunds") < said.index("gateway") < said.index("pay:1.4.2") < said.index("legacy")


def test_a_workload_shows_what_runs_of_it_and_not_what_was_published_since(
    company: None, browse: Callable[[User], Client], vic: User
) -> None:
    told = [IMAGE, f"image-digest:{digest('web 2.1')}"]
    say("oci", "versions", [Version(external_id="w@2.1", version="2.1", about=told, as_of=timezone.now())])
    render_dirty(at=timezone.now())
    workload = Entity.objects.get(ref="workload:default/prod-shop-web")
    assert (workload.version, Entity.objects.get(ref=WEB).version) == ("", "2.1")
    said = words(browse(vic), "/catalog/default/workload/prod-shop-web", "Runs on")
    assert "web prod/shop web:2.0 1 of 1 ready Healthy" in said


@pytest.mark.parametrize("spec", [{"health": ["up"]}, {"images": 5}, {"images": "web"}, {"replicas": "many"}])
def test_what_a_file_says_amiss_of_a_workload_breaks_no_card(
    core_pack: None, browse: Callable[[User], Client], vic: User, spec: dict[str, Any]
) -> None:
    declare("yaml:b", claim("workload:odd", spec))
    said = words(browse(vic), "/catalog/default/workload/odd", "Runs on")
    assert said.startswith("Runs on odd")
    assert "1 in all" in said


def test_what_nothing_runs_has_no_such_card(
    company: None, browse: Callable[[User], Client], vic: User
) -> None:
    say("git", "repositories-2", [Repository(external_id="2", name="idle", keys=["repo:h.example/a/idle"])])
    render_dirty(at=timezone.now())
    assert words(browse(vic), "/catalog/default/repository/idle", "Runs on") == ""


@pytest.mark.parametrize(
    ("text", "refs"),
    [
        (digest("web 2.0"), [WEB]),
        (digest("a part"), [WEB]),
        (f"mirror.acme.example/cache/web:2.0@{digest('web 2.0')}", [WEB]),
        (digest("pay 1.4.2"), [PAY]),  # no registry has it, but something runs it
        (digest("gateway"), ["workload:default/prod-payments-gateway"]),
        (digest("nobody's"), []),
    ],
)
def test_a_pasted_digest_leads_to_what_runs_it(company: None, vic: User, text: str, refs: list[str]) -> None:
    assert [entity.ref for entity in look_up(vic, text).entities] == refs


def test_the_evidence_of_a_tie_by_digest_is_shown(company: None, ben: User) -> None:
    tie = Tie.objects.get(source__ref="artifact:default/acme-web", type="runsAs")
    found = evidence_of(ben, tie.pk)
    assert found.key == f"image-digest:{digest('web 2.0')}"
    assert [side["entity"].kind for side in found.sides] == ["artifact", "workload"]


def test_what_a_person_forbids_is_no_longer_reached(company: None, ben: User) -> None:
    component, workload = (
        Entity.objects.get(ref=WEB),
        Entity.objects.get(ref="workload:default/prod-shop-web"),
    )
    assert (workload.uid, False) in reach(component)
    artifact = Entity.objects.get(ref="artifact:default/acme-web")
    decide_tie(user=ben, source=artifact, type="runsAs", target=workload, state=TieState.FORBIDDEN)
    render_dirty(at=timezone.now())
    assert (workload.uid, False) not in reach(component)


def test_a_workload_that_runs_something_else_is_let_go(
    company: None, cluster: dict[str, list[Record]]
) -> None:
    (web,) = (record for record in cluster["workloads"] if record.external_id == "shop/deployment/web")
    later = web.model_copy(update={"about": ["env:prod/shop"], "as_of": timezone.now()})
    say("k8s", "workloads", [later], "kubernetes")
    render_dirty(at=timezone.now())
    assert not Tie.objects.filter(source__ref="artifact:default/acme-web", type="runsAs").exists()
    # The component says so too, without being told of anew.
    assert "k8s" not in Entity.objects.get(ref=WEB).signals.get("tied_sources", [])
