"""The connector of Kubernetes against answers recorded of a real cluster, and in the full tier against that cluster."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, ClassVar

import httpx2 as httpx
import pytest
import yaml

from catalog.identity import normalise
from integrations.alerting import AlertingConfig
from integrations.connectors.kubernetes import connector
from integrations.connectors.kubernetes.connector import Kubernetes
from integrations.contract import AuthFailed, Health
from integrations.outbound import GuardedTransport, OutboundPolicy
from integrations.records import Workload
from tests.contract.test_connectors import SECRET, HttpConnectorContract
from tests.docs.pages import block, page
from tests.integrations import kubernetes, servers
from tests.integrations.kubernetes import ACME, Cluster, Played, Recorder, digest
from tests.integrations.reading import Reading, collect, read, use

NARROW = {"namespaces": ["payments"]}
MISSING = {"namespaces": ["payments", "paiments"]}


@pytest.fixture(scope="module", autouse=True)
def _small_pages() -> Iterator[None]:
    """Lists of several pages, of a few workloads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connector, "PAGE", 4)
        yield


@pytest.fixture(
    scope="module", params=["recorded", pytest.param("real", marks=[pytest.mark.full, pytest.mark.server])]
)
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster with a small company in it."""
    if request.param == "recorded":
        with kubernetes.play() as played:
            yield played
        return
    with servers.required(), kubernetes.run_cluster(tmp_path_factory.mktemp("kubernetes")) as running:
        kubernetes.fill(running)
        if os.environ.get("PORTICO_TEST_RECORD"):
            record(running)
        yield running


@pytest.fixture
def played() -> Iterator[Played]:
    with kubernetes.play() as running:
        yield running


def record(running: Cluster) -> None:
    """Write down what each token is told of all that the connector asks, and what becomes of a list that lasts."""

    async def everything(made: Kubernetes) -> None:
        await made.check()
        for spec in made.resources():
            with suppress(AuthFailed):
                await collect(made, spec.name)

    async def too_long(made: Kubernetes) -> None:
        first = await made.api.get("api/v1/pods", params={"limit": connector.PAGE})
        running.compact()
        await made.api.get(f"api/v1/pods{connector._following(first)}", accept=(410,))

    scenes: dict[str, list[tuple[dict[str, Any], Callable[[Any], Any]]]] = {
        "portico": [({}, everything), (MISSING, everything)],
        "narrow": [(NARROW, everything)],
        "nobody": [({}, everything)],
        "stranger": [({}, everything)],
        "expired": [({}, too_long)],
    }
    for name, acts in scenes.items():
        answers: list[dict[str, Any]] = []
        for more, scene in acts:
            recorder = Recorder(answers, running.route)
            token = "portico" if name == "expired" else name
            use(Kubernetes, running.settings(token, **more), scene, transport=recorder)
        kubernetes.write(name, answers)


class Watching(GuardedTransport):
    """Notes what is asked, and does something once the first page of the pods is there."""

    def __init__(self, cluster: Any, then: Callable[[], None] = lambda: None) -> None:
        super().__init__(OutboundPolicy(["127.0.0.1"]), limits=httpx.Limits(), route=cluster.route)
        self.then, self.asked = then, list[str]()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        await response.aread()
        path = request.url.raw_path.decode()
        if path == f"/api/v1/pods?limit={connector.PAGE}" and path not in self.asked:
            self.then()
        self.asked.append(path)
        return response


def reading(cluster: Any, resource: str, *, by: str = "portico", **more: Any) -> Reading:
    return read(Kubernetes, cluster.settings(by, **more), resource, route=cluster.route)


def workloads(cluster: Any, **more: Any) -> dict[str, Workload]:
    return reading(cluster, "workloads", **more).by_id()


def health(cluster: Any, by: str, **more: Any) -> Health:
    return use(Kubernetes, cluster.settings(by, **more), lambda made: made.check(), route=cluster.route)


def test_the_cluster_and_its_namespaces_without_those_of_the_system(cluster: Any) -> None:
    (one,) = reading(cluster, "clusters").records
    assert (one.name, one.version, one.keys) == ("prod", "v1.20.2", ["cluster:prod"])
    found = reading(cluster, "namespaces", stage="production")
    assert found.expected == 4
    payments = found.by_id()["payments"]
    assert list(found.by_id()) == ["default", "payments", "portico", "shop"]
    assert (payments.keys, payments.about) == (["env:prod/payments"], ["cluster:prod"])
    assert (payments.description, payments.labels, payments.stage) == (
        "Takes the money.",
        {"team": "payments"},
        "production",
    )


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"exclude": []}, "default kube-node-lease kube-public kube-system payments portico shop"),
        ({"exclude": ["p*"]}, "default kube-node-lease kube-public kube-system shop"),
        ({"namespaces": ["p*", "shop"], "exclude": ["portico"]}, "payments shop"),
        ({"namespaces": ["p*", "kube-system"]}, "kube-system payments portico"),
    ],
)
def test_namespaces_are_selected_by_name_and_pattern(cluster: Any, settings: Any, names: str) -> None:
    assert list(reading(cluster, "namespaces", **settings).by_id()) == names.split()
    found = {one.external_id.partition("/")[0] for one in reading(cluster, "workloads", **settings).records}
    assert found == set(names.split()) & {"payments", "shop", "kube-system"}


@pytest.mark.parametrize(
    ("name", "ready", "replicas", "state"),
    [
        ("payments/deployment/pay", 2, 2, "healthy"),
        ("payments/deployment/gateway", 1, 2, "degraded"),
        ("payments/deployment/refunds", 0, 1, "down"),
        ("payments/deployment/legacy", 0, 0, "maintenance"),
        ("payments/deployment/ledger", 2, 2, "healthy"),
        ("shop/deployment/web", 1, 1, "healthy"),
        ("shop/stateful-set/cache", 1, 1, "healthy"),
        ("shop/daemon-set/agent", 1, 1, "healthy"),
        ("payments/cron-job/report", None, None, "healthy"),
        ("payments/cron-job/sweep", None, None, "degraded"),
        ("payments/cron-job/yearly", None, None, "maintenance"),
    ],
)
def test_how_workloads_are_doing(
    cluster: Any, name: str, ready: int | None, replicas: int | None, state: str
) -> None:
    found = workloads(cluster)
    assert len(found) == 11  # jobs and pods of nobody's are none
    one = found[name]
    assert (one.ready_replicas, one.replicas, one.health) == (ready, replicas, state)
    assert one.workload_type == name.split("/")[1]


def test_images_are_those_that_run_with_the_digests_that_the_nodes_tell(cluster: Any) -> None:
    found = workloads(cluster)
    images = {name.rpartition("/")[2]: one.images for name, one in found.items()}
    assert images["pay"] == [
        f"{ACME}/pay:1.4.2@{digest('pay 1.4.2')}",
        f"docker.io/acme/proxy:3@{digest('proxy')}",
    ]
    # In the middle of a rollout both run; of an image that the node built itself no registry knows the digest.
    assert images["ledger"] == [f"{ACME}/ledger:1.0", f"{ACME}/ledger:1.1@{digest('ledger 1.1')}"]
    assert images["refunds"] == [f"{ACME}/refunds:0.9"]  # it was never pulled
    assert images["report"] == [f"{ACME}/report:1@{digest('report')}"]  # of the pod of its job
    assert images["legacy"] == [f"{ACME}/legacy:1.0"]
    assert images["cache"] == [f"redis:7.2@{digest('redis')}"]


def test_a_workload_speaks_of_its_image_its_namespace_and_what_a_catalog_file_may_name(cluster: Any) -> None:
    pay = workloads(cluster)["payments/deployment/pay"]
    assert pay.keys == ["workload:prod/payments/deployment/pay"]
    assert (pay.name, pay.title, pay.description) == ("prod/payments/pay", "pay", "Takes cards.")
    about = [normalise(key) for key in pay.about]
    assert about[:5] == [
        "env:prod/payments",
        f"image:{ACME}/pay",
        "image:docker.io/acme/proxy",
        f"image-digest:{digest('pay 1.4.2')}",
        f"image-digest:{digest('proxy')}",
    ]
    assert {
        "kubernetes:/:backstage.io/kubernetes-id=pay",
        "kubernetes:/payments:app.kubernetes.io/name=pay",
        "kubernetes:prod/:app=pay",
        "kubernetes:prod/payments:app=pay",
    } <= set(about)
    assert not [key for key in about if "pod-template-hash" in str(key)]


def test_nothing_of_a_secret_or_of_an_environment_is_read_or_kept(cluster: Any) -> None:
    watching = Watching(cluster)

    async def everything(made: Kubernetes) -> str:
        await made.check()
        readings = [await collect(made, spec.name) for spec in made.resources()]
        return "".join(record.model_dump_json() for one in readings for record in one.records)

    kept = use(Kubernetes, cluster.settings("portico"), everything, transport=watching)
    assert kubernetes.SECRET not in kept
    assert watching.asked
    assert not [path for path in watching.asked if "secret" in path]


def test_a_list_that_is_gone_before_its_end_is_read_anew(cluster: Any) -> None:
    expected = workloads(cluster)
    watching = Watching(cluster, cluster.compact)
    found = read(Kubernetes, cluster.settings("portico"), "workloads", transport=watching)
    assert found.by_id().keys() == expected.keys()
    assert found.by_id()["shop/deployment/web"].images == expected["shop/deployment/web"].images
    begun = f"/api/v1/pods?limit={connector.PAGE}"
    assert watching.asked.count(begun) == 2
    assert len([path for path in watching.asked if path.startswith(f"{begun}&continue=")]) >= 4


def test_a_token_for_one_namespace_reads_that_alone(cluster: Any) -> None:
    assert list(reading(cluster, "namespaces", by="narrow", **NARROW).by_id()) == ["payments"]
    found = workloads(cluster, by="narrow", **NARROW)
    assert {name.partition("/")[0] for name in found} == {"payments"}
    assert len(found) == 8
    assert [check.label for check in health(cluster, "narrow", **NARROW).checks] == [
        "Reached the API server, v1.20.2",
        "May list all that is read",
        "Sees 1 namespace",
    ]


def test_the_role_of_the_documentation_is_enough(cluster: Any) -> None:
    said = health(cluster, "portico")
    assert said.ok
    assert [check.label for check in said.checks][-1] == "Sees 4 namespaces"


def test_the_role_of_the_documentation_is_no_more_than_enough() -> None:
    documents = list(yaml.safe_load_all(block("connect-kubernetes.md", "portico.yaml")))
    (role,) = (document for document in documents if document["kind"] == "ClusterRole")
    permitted = {
        (verb, group, name)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for name in rule["resources"]
    }
    lists = {("list", group, plural) for group, plural, _type in connector.LISTS.values()}
    assert permitted == {*lists, ("list", "", "namespaces"), ("get", "", "namespaces")}


def test_missing_permissions_are_named_as_kubectl_names_them(cluster: Any) -> None:
    said = health(cluster, "nobody")
    assert not said.ok
    assert said.checks[1].label == (
        "May not: list namespaces, list deployments.apps, list statefulsets.apps, list daemonsets.apps, "
        "list cronjobs.batch, list jobs.batch, list pods"
    )
    assert "Bind the role" in said.checks[1].remedy
    with pytest.raises(AuthFailed, match=r'serviceaccount:portico:nobody" cannot list resource "namespaces"'):
        reading(cluster, "namespaces", by="nobody")


def test_a_token_that_the_cluster_does_not_know_is_said_to_be_one(cluster: Any) -> None:
    (check,) = health(cluster, "stranger").checks
    assert "refused the credentials (401)" in check.detail
    assert "token that the cluster knows" in check.remedy
    with pytest.raises(AuthFailed):
        reading(cluster, "clusters", by="stranger")


def test_a_namespace_that_is_not_there_is_refused_alone(cluster: Any) -> None:
    found = reading(cluster, "namespaces", **MISSING)
    assert list(found.by_id()) == ["payments"]
    assert [refused.external_id for refused in found.refused] == ["paiments"]


def test_a_rollout_is_a_deployment_of_its_image_to_its_namespace(cluster: Any) -> None:
    found = {record.title: record for record in reading(cluster, "rollouts").records}
    assert {title: str(record.status) for title, record in found.items()} == {
        "payments/gateway 2.0": "deploying",
        "payments/ledger 1.1": "deploying",
        "payments/legacy 1.0": "deployed",
        "payments/pay 1.4.2": "deployed",
        "payments/refunds 0.9": "deploying",
        "shop/web 2.0": "deployed",
    }
    pay, ledger = found["payments/pay 1.4.2"], found["payments/ledger 1.1"]
    assert (pay.environment, pay.version, pay.digest) == ("prod/payments", "1.4.2", digest("pay 1.4.2"))
    assert pay.about == [
        "workload:prod/payments/deployment/pay",
        "env:prod/payments",
        f"image:{ACME}/pay:1.4.2@{digest('pay 1.4.2')}",
        f"image-digest:{digest('pay 1.4.2')}",
    ]
    assert pay.started_at is not None is not pay.finished_at
    assert ledger.external_id.endswith("@2")
    assert (ledger.digest, ledger.finished_at) == (digest("ledger 1.1"), None), "the old one runs beside it"


def test_one_revision_is_one_deployment_however_far_it_has_come(played: Played) -> None:
    def change(made: Kubernetes) -> Any:
        async def read_changed() -> Reading:
            rows, _at = await made.everything()
            row = next(row for row in rows["Deployment"] if row["metadata"]["name"] == "ledger")
            told = next(one for one in row["status"]["conditions"] if one["type"] == "Progressing")
            told |= {"status": "False", "reason": "ProgressDeadlineExceeded"}
            pay = next(row for row in rows["Deployment"] if row["metadata"]["name"] == "pay")
            pay["metadata"]["generation"] += 1
            return await collect(made, "rollouts")

        return read_changed()

    before = reading(played, "rollouts").by_id()
    after = use(Kubernetes, played.settings("portico"), change, route=played.route).by_id()
    ledger = next(id_ for id_, record in before.items() if record.title == "payments/ledger 1.1")
    assert after[ledger].status == "failed"
    assert after[ledger].finished_at is not None
    assert {before[id_].title for id_ in before.keys() - after.keys()} == {"payments/pay 1.4.2"}, (
        "what the cluster has not looked at yet is not told"
    )


def test_an_alert_names_a_workload_as_the_documentation_says(played: Played) -> None:
    (pattern,) = re.findall(r"`(workload:[^`]+)`", page("connect-kubernetes.md"))
    alerts = AlertingConfig.model_validate({"base_url": "https://alerts.acme.example", "subjects": [pattern]})
    about = alerts.about({"namespace": "payments", "deployment": "pay"})
    assert about == workloads(played)["payments/deployment/pay"].keys


def test_newer_clusters_have_cron_jobs_elsewhere(played: Played) -> None:
    played.minor = "29+"
    assert workloads(played)["payments/cron-job/report"].health == "healthy"
    asked = [path.partition("?")[0] for _method, path in played.asked]
    assert "/apis/batch/v1/cronjobs" in asked
    assert "/apis/batch/v1beta1/cronjobs" not in asked


@pytest.mark.full
@pytest.mark.server
@pytest.mark.parametrize("cluster", ["real"], indirect=True)
def test_what_was_recorded_is_what_the_cluster_says(cluster: Cluster, played: Played) -> None:
    def shape(cluster: Any, resource: str) -> list[dict[str, Any]]:
        found = reading(cluster, resource).records
        of_this_run = {
            "as_of",
            "raw",
            "started_at",
            "finished_at",
            *(["external_id"] * (resource == "rollouts")),
        }
        return [record.model_dump(mode="json", exclude=of_this_run) for record in found]

    for spec in Kubernetes.resources():
        assert shape(cluster, spec.name) == shape(played, spec.name)


@pytest.mark.full
@pytest.mark.server
@pytest.mark.parametrize("cluster", ["real"], indirect=True)
def test_without_its_authority_a_cluster_is_not_trusted(cluster: Cluster) -> None:
    said = use(Kubernetes, cluster.settings("portico"), lambda made: made.check())
    assert "is not trusted" in said.checks[0].detail
    assert "the authority that made it under Network" in said.checks[0].remedy


class TestKubernetes(HttpConnectorContract):
    connector = Kubernetes
    settings: ClassVar = {"base_url": "https://k8s.acme.example:6443", "cluster": "prod", "token": SECRET}

    @pytest.fixture(scope="class")
    @classmethod
    def upstream(cls) -> Iterator[dict[str, Any]]:
        """A cluster with one of everything, as it was recorded."""
        with kubernetes.play() as played:
            yield played.settings("portico")
