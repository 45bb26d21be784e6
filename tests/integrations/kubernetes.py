"""Kubernetes: a real control plane with a small company in it, and one that answers with what was recorded of it.

The recordings are in `payloads/kubernetes/`, one file a token. They are made anew by
`PORTICO_TEST_RECORD=1 bin/test --full tests/integrations/connectors/test_kubernetes.py`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import ssl
import subprocess
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import httpx2 as httpx
import yaml

from integrations.outbound import GuardedTransport, OutboundPolicy, Route
from tests.docs.pages import block
from tests.integrations.servers import (
    ServerMissing,
    answers,
    cache_folder,
    free_port,
    program,
    serve,
    wait_for,
)

PAYLOADS = Path(__file__).parent / "payloads/kubernetes"
NEEDED = {
    "etcd": "etcd-server", "go": "golang-go", "jq": "jq", "rsync": "rsync", "make": "make",
    "dpkg-source": "dpkg-dev", "openssl": "openssl",
}  # fmt: skip
ADMINISTRATOR = "administrators-token-of-the-tests"
SECRET = "hunter2-never-read"  # stands in a Secret and in the environment of a container

Row = dict[str, Any]


def digest(text: str) -> str:
    """An invented digest."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


# --- the real one ---------------------------------------------------------------------------------------------


def programs() -> Path:
    """The folder of kube-apiserver and kube-controller-manager: built once, from Debian's source package.

    :raises ServerMissing: if they cannot be built here.
    """
    home = cache_folder() / "kubernetes-1.20.2"
    search = f"{os.environ['PATH']}:/usr/lib/go/bin"
    missing = [package for name, package in NEEDED.items() if shutil.which(name, path=search) is None]
    with (cache_folder() / "kubernetes.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "installed").exists():
            if not Path("/usr/share/gocode/src/github.com/modern-go/reflect2").exists():
                missing.append("golang-github-modern-go-reflect2-dev")
            if missing:
                raise ServerMissing(f"Kubernetes cannot be built without {' '.join(missing)} (of Debian)")
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir()
            script = Path(__file__).with_name("build_kubernetes.sh")
            ran = subprocess.run(["sh", script, home], capture_output=True, text=True, check=False)
            if ran.returncode:
                raise ServerMissing(f"Kubernetes cannot be built: {ran.stderr.strip()[-500:]}")
    if missing:
        raise ServerMissing(f"Kubernetes cannot be run without {' '.join(missing)} (of Debian)")
    return home


@dataclass
class Cluster:
    """A running control plane, without a node that runs anything: what nodes would tell is told by `runs`.

    :ivar certificate: of its own authority, in PEM.
    :ivar tokens: of service accounts, by their names.
    """

    url: str
    certificate: str
    store: str
    tokens: dict[str, str] = field(default_factory=dict, repr=False)

    def ask(self, method: str, path: str, body: Any = None, *, kind: str = "application/json") -> Row:
        """Ask as the administrator."""
        headers = {"Authorization": f"Bearer {ADMINISTRATOR}", "Content-Type": kind}
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.url}{path}", data=data, method=method, headers=headers)
        context = ssl.create_default_context(cadata=self.certificate)
        try:
            with urlopen(request, timeout=30, context=context) as answer:
                return json.load(answer)
        except HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()}") from error

    def apply(self, document: Row) -> Row:
        """Create what a document declares."""
        version, kind, meta = document["apiVersion"], document["kind"], document["metadata"]
        base = f"/apis/{version}" if "/" in version else f"/api/{version}"
        within = f"/namespaces/{meta['namespace']}" if "namespace" in meta else ""
        return self.ask("POST", f"{base}{within}/{kind.lower()}s", document)

    def settings(self, token: str, **more: Any) -> dict[str, Any]:
        """The settings of a connection by a service account's token; of a name that there is none, a wrong one."""
        return {
            "base_url": self.url, "cluster": "prod",
            "token": self.tokens.get(token, f"no-token-of-{token}"), **more,
        }  # fmt: skip

    @property
    def route(self) -> Route:
        """The way to it: its certificate is of its own authority."""
        return Route(authorities=self.certificate)

    # What nodes would do.

    def pods(self, namespace: str, count: int, **labels: str) -> list[Row]:
        """The pods with these labels, once the controllers have made them all."""
        wanted = ",".join(f"{name}={value}" for name, value in labels.items())
        path = f"/api/v1/namespaces/{namespace}/pods?labelSelector={wanted}"

        def look() -> list[Row] | None:
            found = self.ask("GET", path)["items"]
            return found if len(found) == count else None

        found = wait_for(look, f"{count} pods of {wanted}")
        assert found is not None
        return found

    def runs(
        self, pod: Row, images: Mapping[str, str], *, phase: str = "Running", is_ready: bool = True
    ) -> None:
        """Tell as a node that the pod runs.

        :param images: what each container's image is, as nodes have it: `registry/name@sha256:...`.
        """
        meta = pod["metadata"]
        state = (
            {"running": {}} if phase == "Running" else {"terminated": {"exitCode": int(phase == "Failed")}}
        )
        status = {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": str(is_ready)}],
            "containerStatuses": [
                {"name": one["name"], "image": one["image"], "imageID": images.get(one["name"], ""),
                 "ready": is_ready, "restartCount": 0, "state": state}
                for one in pod["spec"]["containers"]
            ],
        }  # fmt: skip
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status"
        self.ask("PATCH", path, {"status": status}, kind="application/merge-patch+json")

    def settle(self, namespace: str, plural: str, name: str, is_so: Callable[[Row], Any]) -> None:
        """Wait until the controllers have seen it."""
        path = f"/apis/{'batch' if plural == 'jobs' else 'apps'}/v1/namespaces/{namespace}/{plural}/{name}"
        wait_for(lambda: is_so(self.ask("GET", path).get("status") or {}), f"{plural}/{name}")

    def compact(self) -> None:
        """Forget the past, as a cluster does every five minutes: lists that are being read cannot go on."""
        put = {"key": "cG9ydGljbw==", "value": "eA=="}
        with urlopen(Request(f"{self.store}/v3/kv/put", data=json.dumps(put).encode()), timeout=30) as answer:
            revision = json.load(answer)["header"]["revision"]
        body = json.dumps({"revision": revision, "physical": True}).encode()
        urlopen(Request(f"{self.store}/v3/kv/compaction", data=body), timeout=30).close()


@contextmanager
def run_cluster(folder: Path) -> Iterator[Cluster]:
    """A control plane on loopback: API server, controllers and their store.

    :raises ServerMissing: if there is none and none can be built.
    """
    found = programs()
    store, peers, port, controllers = (free_port() for _ in range(4))
    key, public = folder / "sa.key", folder / "sa.pub"
    for command in (["genrsa", "-out", key, "2048"], ["rsa", "-in", key, "-pubout", "-out", public]):
        subprocess.run(["openssl", *map(str, command)], check=True, capture_output=True)
    (folder / "tokens.csv").write_text(f'{ADMINISTRATOR},admin,1,"system:masters"\n')
    at, url, peer = f"http://127.0.0.1:{store}", f"https://127.0.0.1:{port}", f"http://127.0.0.1:{peers}"
    etcd = [
        "etcd", "--data-dir", "etcd", "--listen-client-urls", at, "--advertise-client-urls", at,
        "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
    ]  # fmt: skip
    server = [
        found / "kube-apiserver", f"--etcd-servers={at}", "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
        f"--secure-port={port}", "--insecure-port=0", "--cert-dir=certs", "--token-auth-file=tokens.csv",
        "--service-account-issuer=https://127.0.0.1", "--service-account-key-file=sa.pub",
        "--service-account-signing-key-file=sa.key", "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.0.0.0/24", "--disable-admission-plugins=ServiceAccount",
    ]  # fmt: skip
    user = {"name": "admin", "user": {"token": ADMINISTRATOR}}
    place = {
        "name": "here",
        "cluster": {"server": url, "certificate-authority": str(folder / "certs/apiserver.crt")},
    }
    context = {"name": "here", "context": {"cluster": "here", "user": "admin"}}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [place],
        "users": [user],
        "contexts": [context],
    }
    (folder / "kubeconfig").write_text(json.dumps({**config, "current-context": "here"}))
    manager = [
        found / "kube-controller-manager", "--kubeconfig=kubeconfig", "--leader-elect=false",
        "--bind-address=127.0.0.1", "--port=0", f"--secure-port={controllers}",
        "--service-account-private-key-file=sa.key", "--root-ca-file=certs/apiserver.crt",
        # Nodes that say nothing would lose their pods.
        "--controllers=*,-nodeipam,-nodelifecycle,-cloud-node-lifecycle",
    ]  # fmt: skip
    certificate = folder / "certs/apiserver.crt"

    def is_ready() -> bool:
        if not certificate.exists():
            return False
        try:
            context = ssl.create_default_context(cafile=str(certificate))
            with urlopen(f"{url}/readyz", timeout=5, context=context) as answer:
                return answer.status == 200
        except (OSError, ssl.SSLError):
            return False

    with (
        program(etcd, folder=folder, ready=lambda: answers(f"{at}/health")),
        program(server, folder=folder, ready=is_ready),
        program(manager, folder=folder, ready=lambda: True),
    ):
        yield Cluster(url, certificate.read_text(), at)


# --- what is in it --------------------------------------------------------------------------------------------


def workload(kind: str, namespace: str, name: str, image: str, **more: Any) -> Row:
    """A document of a workload.

    :param more: `replicas`, `labels`, `annotations`, `containers` (further ones), `suspend`.
    """
    labels = {"app": name, **more.get("labels", {})}
    containers = [
        {"name": name, "image": image, "env": [{"name": "PASSWORD", "value": SECRET}]},
        *more.get("containers", ()),
    ]
    restart = {"restartPolicy": "Never"} if kind in {"Job", "CronJob"} else {}
    template: Row = {"metadata": {"labels": labels}, "spec": {"containers": containers, **restart}}
    spec: Row = {"selector": {"matchLabels": {"app": name}}, "template": template}
    if kind in {"Deployment", "StatefulSet"}:
        spec["replicas"] = more.get("replicas", 1)
    if kind == "StatefulSet":
        spec["serviceName"] = name
    if kind == "Job":
        spec = {"template": template, "backoffLimit": 0}
    if kind == "CronJob":
        job = {"spec": {"template": template, "backoffLimit": 0}}
        spec = {"schedule": "0 3 1 1 *", "jobTemplate": job, "suspend": more.get("suspend", False)}
    version = {"CronJob": "batch/v1beta1", "Job": "batch/v1"}.get(kind, "apps/v1")
    meta: Row = {
        "name": name,
        "namespace": namespace,
        "labels": labels,
        "annotations": more.get("annotations", {}),
    }
    return {"apiVersion": version, "kind": kind, "metadata": meta, "spec": spec}


ACME = "registry.acme.example/acme"
PAY = f"{ACME}/pay@{digest('pay 1.4.2')}"


def fill(cluster: Cluster) -> None:
    """A small company: healthy and broken workloads in two namespaces, one of the system, and our accounts."""
    for name, meta in {
        "payments": {
            "labels": {"team": "payments"},
            "annotations": {"kubernetes.io/description": "Takes the money."},
        },
        "shop": {},
    }.items():
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, **meta}})
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bank", "namespace": "payments"}}
    cluster.apply({**secret, "stringData": {"password": SECRET}})
    cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}})
    untainted = {"spec": {"taints": None}}  # it is kept from use until it says that it is ready
    cluster.ask("PATCH", "/api/v1/nodes/node-1", untainted, kind="application/merge-patch+json")
    _accounts(cluster)
    _payments(cluster)
    _shop(cluster)
    for name in ("dns", "proxy"):
        cluster.apply(workload("Deployment", "kube-system", name, f"registry.k8s.example/{name}:1.20"))


def _accounts(cluster: Cluster) -> None:
    """The documentation's service account, one that is bound in one namespace, and one without any role."""
    documents = list(yaml.safe_load_all(block("connect-kubernetes.md", "portico.yaml")))
    for document in documents:
        cluster.apply(document)
    _namespace, account, secret, _role, _binding = documents
    for name in ("narrow", "nobody"):
        mine = deepcopy([account, secret])
        for document in mine:
            document["metadata"]["name"] = name
        mine[1]["metadata"]["annotations"]["kubernetes.io/service-account.name"] = name
        for document in mine:
            cluster.apply(document)
    binding = yaml.safe_load(block("connect-kubernetes.md", "A namespace of its own"))
    binding["subjects"][0]["name"] = "narrow"
    cluster.apply(binding)
    for name in ("portico", "narrow", "nobody"):
        path = f"/api/v1/namespaces/portico/secrets/{name}"
        token = wait_for(lambda path=path: cluster.ask("GET", path).get("data", {}).get("token"), "a token")  # type: ignore[misc]
        cluster.tokens[name] = b64decode(token).decode()


def _payments(cluster: Cluster) -> None:
    """One workload for each way of being well or not."""
    proxy = {"name": "proxy", "image": "docker.io/acme/proxy:3"}
    named = {"app.kubernetes.io/name": "pay", "backstage.io/kubernetes-id": "pay"}
    told = {"kubernetes.io/description": "Takes cards."}
    make = lambda *given, **more: cluster.apply(workload("Deployment", "payments", *given, **more))  # noqa: E731
    make("pay", f"{ACME}/pay:1.4.2", replicas=2, labels=named, annotations=told, containers=[proxy])
    make("gateway", f"{ACME}/gateway:2.0", replicas=2)
    make("refunds", f"{ACME}/refunds:0.9", replicas=1)
    make("legacy", f"{ACME}/legacy:1.0", replicas=0)
    make("ledger", f"{ACME}/ledger:1.0", replicas=2)
    for pod in cluster.pods("payments", 2, app="pay"):
        cluster.runs(
            pod, {"pay": f"docker-pullable://{PAY}", "proxy": f"docker.io/acme/proxy@{digest('proxy')}"}
        )
    first, second = cluster.pods("payments", 2, app="gateway")
    cluster.runs(first, {"gateway": f"{ACME}/gateway@{digest('gateway')}"})
    cluster.runs(second, {"gateway": f"{ACME}/gateway@{digest('gateway')}"}, is_ready=False)
    (pod,) = cluster.pods("payments", 1, app="refunds")
    cluster.runs(pod, {}, phase="Pending", is_ready=False)
    # In the middle of a rollout; the node that built its image itself knows no digest of a registry.
    for pod in cluster.pods("payments", 2, app="ledger"):
        cluster.runs(pod, {"ledger": f"docker://{digest('built here')}"})
    cluster.settle("payments", "deployments", "ledger", lambda status: status.get("readyReplicas") == 2)
    change = [
        {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": f"{ACME}/ledger:1.1"}
    ]
    path = "/apis/apps/v1/namespaces/payments/deployments/ledger"
    cluster.ask("PATCH", path, change, kind="application/json-patch+json")
    pods = cluster.pods("payments", 3, app="ledger")
    (new,) = (pod for pod in pods if pod["spec"]["containers"][0]["image"].endswith(":1.1"))
    cluster.runs(new, {"ledger": f"{ACME}/ledger@{digest('ledger 1.1')}"}, is_ready=False)
    for name, phase in (("report", "Succeeded"), ("sweep", "Failed"), ("yearly", "")):
        document = workload("CronJob", "payments", name, f"{ACME}/{name}:1", suspend=name == "yearly")
        made = cluster.apply(document)
        if phase:
            _job(cluster, made, phase)
    for name, ready in (("pay", 2), ("gateway", 1)):
        cluster.settle(
            "payments", "deployments", name, lambda said, ready=ready: said.get("readyReplicas") == ready
        )  # type: ignore[misc]
    for name in ("refunds", "legacy"):
        cluster.settle("payments", "deployments", name, lambda status: status.get("observedGeneration"))
    cluster.settle("payments", "deployments", "ledger", lambda status: status.get("updatedReplicas") == 1)


def _job(cluster: Cluster, cron: Row, phase: str) -> None:
    """A job of a cron job, and its end."""
    name = cron["metadata"]["name"]
    owner = {
        "apiVersion": cron["apiVersion"],
        "kind": "CronJob",
        "name": name,
        "uid": cron["metadata"]["uid"],
    }
    meta = {"name": f"{name}-1", "namespace": "payments", "ownerReferences": [{**owner, "controller": True}]}
    spec = cron["spec"]["jobTemplate"]["spec"]
    cluster.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec})
    (pod,) = cluster.pods("payments", 1, app=name)
    cluster.runs(pod, {name: f"{ACME}/{name}@{digest(name)}"}, phase=phase, is_ready=False)
    cluster.settle("payments", "jobs", f"{name}-1", lambda status: status.get("conditions"))


def _shop(cluster: Cluster) -> None:
    """One of each other kind, and what is no workload: a job and a pod of nobody's."""
    cluster.apply(workload("StatefulSet", "shop", "cache", "redis:7.2"))
    cluster.apply(workload("DaemonSet", "shop", "agent", f"{ACME}/agent:5"))
    # It pulls through a mirror, where the image has another name.
    cluster.apply(workload("Deployment", "shop", "web", "mirror.acme.example/cache/web:2.0"))
    cluster.apply(workload("Job", "shop", "migrate", f"{ACME}/migrate:1"))
    pod = workload("Job", "shop", "debug", "busybox")["spec"]["template"]
    meta = {"name": "debug", "namespace": "shop"}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod["spec"]})
    images = {
        "cache": f"docker.io/library/redis@{digest('redis')}",
        "agent": f"{ACME}/agent@{digest('agent')}",
        "web": f"mirror.acme.example/cache/web@{digest('web 2.0')}",
    }
    for name, image in images.items():
        (pod,) = cluster.pods("shop", 1, app=name)
        if name == "agent":
            path = f"/api/v1/namespaces/shop/pods/{pod['metadata']['name']}/binding"
            node = {"apiVersion": "v1", "kind": "Node", "name": "node-1"}
            binding = {"kind": "Binding", "apiVersion": "v1", "metadata": {"name": pod["metadata"]["name"]}}
            cluster.ask("POST", path, {**binding, "target": node})
        cluster.runs(pod, {name: image})
    cluster.settle("shop", "statefulsets", "cache", lambda status: status.get("readyReplicas") == 1)
    cluster.settle("shop", "daemonsets", "agent", lambda status: status.get("numberReady") == 1)
    cluster.settle("shop", "deployments", "web", lambda status: status.get("readyReplicas") == 1)


# --- what was recorded of it ----------------------------------------------------------------------------------


class Recorder(httpx.AsyncBaseTransport):
    """Passes requests on and keeps the answers, without what nobody reads of them."""

    def __init__(self, answers: list[Row], route: Route) -> None:
        self.inner = GuardedTransport(OutboundPolicy(["127.0.0.1"]), limits=httpx.Limits(), route=route)
        self.answers = answers

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self.inner.handle_async_request(request)
        try:
            body = await response.aread()
        finally:
            await response.aclose()
        said = json.loads(body)
        for row in [said, *(said.get("items") or ())]:
            row.get("metadata", {}).pop("managedFields", None)
        target = request.url.raw_path.decode()
        asked = json.loads(request.content) if request.content else None
        self.answers.append(
            {
                "method": request.method,
                "target": target,
                "asked": asked,
                "status": response.status_code,
                "said": said,
            }
        )
        return httpx.Response(
            response.status_code, headers={"Content-Type": "application/json"}, content=body
        )

    async def aclose(self) -> None:
        await self.inner.aclose()


def write(name: str, answers: list[Row]) -> None:
    """Keep what a token was told: one answer a line."""
    PAYLOADS.mkdir(parents=True, exist_ok=True)
    lines = dict.fromkeys(json.dumps(answer, sort_keys=True) for answer in answers)
    (PAYLOADS / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


@dataclass
class Played:
    """A cluster that answers with what was recorded, by the name of the token that it was recorded with.

    :ivar asked: method and target of each request.
    :ivar is_compacted: the next page of a list that is being read is gone.
    :ivar minor: the release that it says it is, instead of its own.
    """

    url: str = ""
    route: Route = field(default_factory=Route)
    asked: list[tuple[str, str]] = field(default_factory=list)
    is_compacted: bool = False
    minor: str = ""
    _answers: dict[str, dict[str, tuple[int, Any]]] = field(default_factory=dict)

    def settings(self, token: str, **more: Any) -> dict[str, Any]:
        return {"base_url": self.url, "cluster": "prod", "token": f"token-of-{token}", **more}

    def compact(self) -> None:
        self.is_compacted = True

    def recorded(self, token: str) -> dict[str, tuple[int, Any]]:
        """What a token was told, by what was asked; a token that there is none of was told that it is wrong."""
        if token not in self._answers:
            path = PAYLOADS / f"{token}.jsonl"
            lines = (path if path.exists() else PAYLOADS / "stranger.jsonl").read_text().splitlines()
            rows = [json.loads(line) for line in lines]
            self._answers[token] = {
                json.dumps([row["method"], row["target"], row["asked"]], sort_keys=True): (
                    row["status"],
                    row["said"],
                )
                for row in rows
            }
        return self._answers[token]

    def handle(self, request: BaseHTTPRequestHandler) -> tuple[int, Mapping[str, str], bytes]:
        length = int(request.headers.get("content-length") or 0)
        given = json.loads(request.rfile.read(length)) if length else None
        self.asked.append((request.command, request.path))
        token = request.headers.get("authorization", "").removeprefix("Bearer token-of-")
        nothing = (404, {"kind": "Status", "code": 404, "message": f"{request.path} was not recorded"})
        if self.is_compacted and "continue=" in request.path:
            self.is_compacted = False
            ((status, said),) = (answer for answer in self.recorded("expired").values() if answer[0] == 410)
        else:
            # From 1.21 on, cron jobs are where other jobs are; the objects are the same.
            path = (
                request.path.replace("batch/v1/cronjobs", "batch/v1beta1/cronjobs")
                if self.minor
                else request.path
            )
            status, said = self.recorded(token).get(
                json.dumps([request.command, path, given], sort_keys=True), nothing
            )
            said = {**said, "minor": self.minor} if self.minor and request.path == "/version" else said
        return status, {"Content-Type": "application/json"}, json.dumps(said).encode()


@contextmanager
def play() -> Iterator[Played]:
    """A cluster of recorded answers on a port of its own."""
    played = Played()
    with serve(lambda request: played.handle(request)) as url:
        played.url = url
        yield played
