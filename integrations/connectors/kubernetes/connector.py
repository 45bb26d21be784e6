"""A Kubernetes cluster: its namespaces become environments, what runs in them becomes workloads."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from pydantic import Field, HttpUrl, SecretStr

from integrations.contract import (
    SELDOM,
    Answer,
    Category,
    Check,
    ConnectionConfig,
    Connector,
    Expect,
    NotThere,
    Refused,
    Tools,
    gettext_noop,
    has_glob,
    is_chosen,
    keys,
    ngettext,
    once,
    record_or_refusal,
    resource,
)
from integrations.contract import gettext as _
from integrations.records import Cluster, Deployment, DeploymentStatus, Environment, Workload, WorkloadHealth

PAGE = 250
RESTARTS = 3
# What is read, and where it is: group, resource, and what it is called here.
LISTS = {
    "Deployment": ("apps", "deployments", "deployment"),
    "StatefulSet": ("apps", "statefulsets", "stateful-set"),
    "DaemonSet": ("apps", "daemonsets", "daemon-set"),
    "CronJob": ("batch", "cronjobs", "cron-job"),
    "Job": ("batch", "jobs", ""),  # for the cron jobs that they belong to
    "Pod": ("", "pods", ""),  # for the images that run
}
# By these a component's catalog file may name its workloads, as Backstage has it.
SELECTABLE = ("backstage.io/kubernetes-id", "app.kubernetes.io/name", "app.kubernetes.io/instance", "app")
DESCRIPTION = "kubernetes.io/description"
TAG = re.compile(r":([\w.-]+)$")
DIGEST = re.compile(r"@(sha256:[0-9a-f]{64})$")

Row = dict[str, Any]
Id = tuple[str, str, str]  # namespace, kind, name


class Config(ConnectionConfig):
    """Where the cluster is, how to sign in to it, and what to read."""

    base_url: HttpUrl = Field(
        title="API address",
        description="Where kubectl finds the cluster, such as https://k8s.acme.example:6443.",
    )
    token: SecretStr = Field(
        title="Token", description="Of a service account that may read; see the documentation for one."
    )
    cluster: str = Field(
        min_length=1,
        max_length=100,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        title="Name of the cluster",
        description="As people call it, such as prod-eu. No other cluster has the same.",
    )
    stage: str = Field(
        "", max_length=100, title="Stage", description="What the cluster serves, such as production."
    )
    namespaces: list[str] = Field(
        default_factory=list,
        max_length=100,
        title="Only these namespaces",
        description="Names or patterns, such as payments or team-*. Empty for all. With full names alone, the token "
        "need not read others.",
    )
    exclude: list[str] = Field(
        default_factory=lambda: ["kube-*", "openshift-*"],
        max_length=500,
        title="Not these namespaces",
        description="Patterns; at first those of the system.",
        json_schema_extra=SELDOM,
    )


class Kubernetes(Connector[Config]):
    slug, label, monogram, category = "kubernetes", "Kubernetes", "Ku", Category.CLUSTER
    brings = "Clusters, namespaces, workloads with their images and health, and their rollouts"
    named = gettext_noop("the API server")
    if_refused = gettext_noop(
        "Give a token that the cluster knows, of a service account with the role of the documentation."
    )
    if_misconfigured = gettext_noop("Correct the API address.")

    def __init__(self, config: Config, tools: Tools) -> None:
        super().__init__(config, tools)
        self.name = config.cluster
        self.api = self.http.at(config.base_url, headers=self.http.bearer(config.token))

    @resource(of=Cluster)
    async def clusters(self) -> AsyncIterator[Cluster | Refused]:
        """The cluster itself."""
        answer = await self.told_version()
        yield record_or_refusal(
            Cluster,
            "cluster",  # a connection has one, whatever it is called
            as_of=answer.sent_at,
            keys=[f"cluster:{self.name}"],
            name=self.name,
            version=answer.row()["gitVersion"],
            raw=answer.row(),
        )

    @resource(of=Environment)
    async def namespaces(self) -> AsyncIterator[Environment | Expect | Refused]:
        """The selected namespaces."""
        rows, as_of, missing = await self.spaces()
        yield Expect(len(rows))
        for refused in missing:
            yield refused
        for row in rows:
            meta = row["metadata"]
            yield record_or_refusal(
                Environment,
                meta["name"],
                as_of=as_of,
                keys=[self.env_key(meta["name"])],
                about=[f"cluster:{self.name}"],
                name=f"{self.name}/{meta['name']}",
                title=f"{self.name}/{meta['name']}",
                description=(meta.get("annotations") or {}).get(DESCRIPTION, ""),
                labels=meta.get("labels") or {},
                stage=self.config.stage,
                raw={"metadata": _slim(meta), "status": row.get("status") or {}},
            )

    @resource(of=Workload)
    async def workloads(self) -> AsyncIterator[Workload | Expect | Refused]:
        """Deployments, stateful sets, daemon sets and cron jobs, with what runs of them."""
        rows, as_of = await self.everything()
        jobs = _jobs(rows["Job"])
        running = _running(rows["Pod"], jobs)
        found = [
            (kind, row) for kind, (_group, _plural, type_) in LISTS.items() if type_ for row in rows[kind]
        ]
        yield Expect(len(found))
        for kind, row in found:
            yield self.workload(kind, row, running, jobs, as_of)

    def workload(
        self, kind: str, row: Row, running: dict[Id, dict[str, list[str]]], jobs: dict[Id, list[Row]], as_of: datetime
    ) -> Workload | Refused:  # fmt: skip
        meta, spec, status = row["metadata"], row["spec"], row.get("status") or {}
        namespace, name, labels = meta["namespace"], meta["name"], meta.get("labels") or {}
        id_, type_ = (namespace, kind, name), LISTS[kind][2]
        template = spec["jobTemplate"]["spec"]["template"] if kind == "CronJob" else spec["template"]
        containers = template["spec"]["containers"]
        seen = running.get(id_, {})
        images = [image for one in containers for image in sorted(seen.get(one["name"]) or [one["image"]])]
        digests = [found[1] for image in images if (found := DIGEST.search(image))]
        annotations = meta.get("annotations") or {}
        if kind == "CronJob":
            desired = ready = None
            health = _health_of_jobs(spec, jobs.get(id_, []))
        else:
            desired, ready = _replicas(kind, spec, status)
            health = _health(meta, status, desired, ready)
        return record_or_refusal(
            Workload,
            f"{namespace}/{type_}/{name}",
            as_of=as_of,
            keys=[f"workload:{self.name}/{namespace}/{type_}/{name}"],
            about=[
                self.env_key(namespace),
                *(f"image:{image}" for image in images),
                *(f"image-digest:{digest}" for digest in digests),
                *self.selectable(namespace, {**annotations, **labels}),
            ],
            name=f"{self.name}/{namespace}/{name}",
            title=name,
            description=annotations.get(DESCRIPTION, ""),
            labels=labels,
            workload_type=type_,
            images=images,
            replicas=desired,
            ready_replicas=ready,
            health=health,
            raw={
                "metadata": _slim(meta),
                "spec": {
                    **_only(spec, "replicas", "selector", "schedule", "suspend"),
                    "containers": [_only(one, "name", "image") for one in containers],
                },
                "status": status,
            },
        )

    @resource(of=Deployment)
    async def rollouts(self) -> AsyncIterator[Deployment | Refused]:
        """What was brought to the cluster: the present revision of each deployment, and how far it has come."""
        rows, as_of = await self.everything()
        running = _running(rows["Pod"], {})
        for row in rows["Deployment"]:
            meta, status = row["metadata"], row.get("status") or {}
            revision = (meta.get("annotations") or {}).get("deployment.kubernetes.io/revision")
            told = {one["type"]: one for one in status.get("conditions") or []}.get("Progressing")
            if revision and told and status.get("observedGeneration", 0) >= meta.get("generation", 1):
                seen = running.get((meta["namespace"], "Deployment", meta["name"]), {})
                yield self.rollout(row, revision, told, seen, as_of)

    def rollout(
        self, row: Row, revision: str, told: Row, seen: dict[str, list[str]], as_of: datetime
    ) -> Deployment | Refused:
        meta, container = row["metadata"], row["spec"]["template"]["spec"]["containers"][0]
        namespace, name, image = meta["namespace"], meta["name"], container["image"]
        # In the middle of a rollout others run too: of the template's image, what the nodes say of it.
        full = next((one for one in seen.get(container["name"], []) if one.startswith(f"{image}@")), image)
        digest = found[1] if (found := DIGEST.search(full)) else ""
        version = found[1] if (found := TAG.search(full.partition("@")[0])) else ""
        is_over = told["status"] == "False" or told.get("reason") == "NewReplicaSetAvailable"
        how = DeploymentStatus.FAILED if told["status"] == "False" else DeploymentStatus.DEPLOYED
        return record_or_refusal(
            Deployment,
            f"{meta['uid']}@{revision}",
            as_of=as_of,
            about=[
                f"workload:{self.name}/{namespace}/deployment/{name}",
                self.env_key(namespace),
                f"image:{full}",
                *keys("image-digest", digest),
            ],
            title=f"{namespace}/{name} {version or digest[:19]}".strip(),
            status=how if is_over else DeploymentStatus.DEPLOYING,
            environment=f"{self.name}/{namespace}",
            version=version,
            digest=digest,
            started_at=meta.get("creationTimestamp") if revision == "1" else None,
            finished_at=told.get("lastUpdateTime") if is_over else None,
            raw={"metadata": _slim(meta), "condition": told, "image": full},
        )

    def env_key(self, namespace: str) -> str:
        return f"env:{self.name}/{namespace}"

    def selectable(self, namespace: str, said: dict[str, str]) -> list[str]:
        """The keys by which a catalog file may name what bears these labels: here, in this namespace, or anywhere."""
        scopes = ("/", f"/{namespace}", f"{self.name}/", f"{self.name}/{namespace}")
        named = [f"{label}={said[label]}" for label in SELECTABLE if said.get(label)]
        return [f"kubernetes:{scope}:{label}" for label in named for scope in scopes]

    # --- health -------------------------------------------------------------------------------------------

    async def checks(self) -> AsyncIterator[Check]:
        """Say whether the cluster answers, and which of the permissions that we need are missing."""
        version = (await self.told_version()).value("gitVersion", of=str)
        yield Check(_("Reached the API server, %(version)s") % {"version": version})
        is_whole = True
        for namespace in self.full_names() or [""]:
            if lacking := await self.lacking(namespace):
                is_whole = False
                yield _lacking(namespace, lacking)
        if is_whole:
            yield Check(_("May list all that is read"))
            rows, _as_of, missing = await self.spaces()
            if rows:
                label = ngettext("Sees %(count)d namespace", "Sees %(count)d namespaces", len(rows))
                yield Check(label % {"count": len(rows)})
            else:
                remedy = _("Correct “Only these namespaces” and “Not these namespaces”.")
                detail = " ".join(one.reason for one in missing)
                yield Check.failed(_("No namespace is selected"), detail, remedy)

    async def lacking(self, namespace: str) -> list[str]:
        """The permissions that the token lacks, each as `kubectl auth can-i` has it."""
        verb = "get" if namespace else "list"
        wanted = [
            (verb, "", "namespaces"),
            *(("list", group, plural) for group, plural, _type in LISTS.values()),
        ]
        said = await asyncio.gather(*(self.may(namespace, *one) for one in wanted))
        return [
            f"{verb} {plural}.{group}".rstrip(".")
            for (verb, group, plural), may in zip(wanted, said, strict=True)
            if not may
        ]

    async def may(self, namespace: str, verb: str, group: str, plural: str) -> bool:
        asked = {"verb": verb, "group": group, "resource": plural, "namespace": namespace}
        answer = await self.api.post(
            "apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            json={
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": asked},
            },
            retry=True,  # it changes nothing
        )
        return bool(answer.value("status", of=dict).get("allowed"))

    # --- asking -------------------------------------------------------------------------------------------

    @once
    async def told_version(self) -> Answer:
        """The cluster's word on its version."""
        answer = await self.api.get("version")
        answer.row("gitVersion", "minor")
        return answer

    def full_names(self) -> list[str]:
        """The namespaces that the settings name, if they name all by full names."""
        names = self.config.namespaces
        return [] if any(has_glob(name) for name in names) else list(dict.fromkeys(names))

    def is_wanted(self, namespace: str) -> bool:
        if namespace in self.config.namespaces:
            return True  # who names it wants it
        return is_chosen(namespace, self.config.namespaces, self.config.exclude)

    async def spaces(self) -> tuple[list[Row], datetime, list[Refused]]:
        """The selected namespaces, and those named that are not there."""
        if not self.full_names():
            rows, as_of = await self.listed(
                "api/v1/namespaces", lambda row: self.is_wanted(row["metadata"]["name"])
            )
            return rows, as_of, []
        found, missing = [], []
        as_of = (await self.told_version()).sent_at
        for name in self.full_names():
            try:
                answer = await self.api.get(f"api/v1/namespaces/{quote(name)}")
            except NotThere as error:
                missing.append(Refused(name, error.message))
                continue
            found.append(answer.row("metadata"))
        return found, as_of, missing

    @once
    async def everything(self) -> tuple[dict[str, list[Row]], datetime]:
        """All rows by kind, of the selected namespaces, as they were when the first was asked for."""
        minor = re.match(r"\d+", (await self.told_version()).row()["minor"])
        batch = "v1" if minor and int(minor[0]) >= 21 else "v1beta1"
        found: dict[str, list[Row]] = defaultdict(list)
        times = []
        for kind, (group, plural, _type) in LISTS.items():
            version = batch if kind == "CronJob" else "v1"
            base = f"apis/{group}/{version}" if group else f"api/{version}"
            for within in [f"namespaces/{quote(name)}/" for name in self.full_names()] or [""]:
                rows, as_of = await self.listed(
                    f"{base}/{within}{plural}", lambda row: self.is_wanted(row["metadata"]["namespace"])
                )
                times.append(as_of)
                found[kind] += rows
        return found, min(times)

    async def listed(self, path: str, is_wanted: Callable[[Row], bool]) -> tuple[list[Row], datetime]:
        """What is wanted of a whole list, as it was when its first page was asked for."""
        restarts = 0
        while True:
            found: list[Row] = []
            as_of = None
            try:
                async for page in self.api.pages(path, params={"limit": PAGE}, next=_following):
                    as_of = as_of or page.sent_at
                    found += (_lean(row) for row in page.rows("items") if is_wanted(row))
            except NotThere:  # a list that takes minutes to read is gone before its end (410): begin anew
                restarts += 1
                if as_of is None or restarts > RESTARTS:
                    raise
            else:
                assert as_of is not None  # there is a first page, or an error
                return found, as_of


def _lacking(namespace: str, permissions: list[str]) -> Check:
    what = ", ".join(permissions)
    return Check.failed(
        _("May not: %(permissions)s") % {"permissions": what},
        _("The token lacks these permissions in the namespace %(name)s.") % {"name": namespace}
        if namespace
        else _("The token lacks these permissions in the whole cluster."),
        _("Bind the role that the documentation has to the service account; or name in full, under “Only "
                 "these namespaces”, those that it may read."),
    )  # fmt: skip


def _following(page: Answer) -> str | None:
    page.rows("items")
    token = (page.row("metadata")["metadata"] or {}).get("continue")
    return "?" + urlencode({"limit": PAGE, "continue": token}) if token else None


def _lean(row: Row) -> Row:
    """A row without most of what large clusters have much of: pods hold a hundred times what is read of them."""
    row["metadata"].pop("managedFields", None)
    status = row.get("status") or {}
    if "containerStatuses" not in status:
        return row
    told = [_only(one, "name", "image", "imageID") for one in status["containerStatuses"]]
    return {
        "metadata": _only(row["metadata"], "namespace", "labels", "ownerReferences"),
        "spec": {"containers": [_only(one, "name", "image") for one in row["spec"]["containers"]]},
        "status": {**_only(status, "phase"), "containerStatuses": told},
    }


def _only(row: Row, *names: str) -> Row:
    """These of its fields, as far as it has them."""
    return {name: row[name] for name in names if name in row}


def _owner(row: Row) -> Id | None:
    """What made it; of a pod of a deployment that is a replica set, whose name ends in the template's hash."""
    meta = row["metadata"]
    for owner in meta.get("ownerReferences") or []:
        if owner.get("controller"):
            kind, name = owner["kind"], owner["name"]
            if kind == "ReplicaSet" and (suffix := (meta.get("labels") or {}).get("pod-template-hash")):
                kind, name = "Deployment", name.removesuffix(f"-{suffix}")
            return meta["namespace"], kind, name
    return None


def _jobs(rows: Iterable[Row]) -> dict[Id, list[Row]]:
    """The jobs of each thing that makes them, the newest first."""
    found: dict[Id, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["metadata"].get("creationTimestamp") or "", reverse=True):
        if owner := _owner(row):
            found[owner].append(row)
    return found


def _running(pods: Iterable[Row], jobs: dict[Id, list[Row]]) -> dict[Id, dict[str, list[str]]]:
    """The images that run of each workload, by container, with their digests where the nodes tell them."""
    cron = {(owner[0], "Job", job["metadata"]["name"]): owner for owner, made in jobs.items() for job in made}
    found: dict[Id, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for pod in pods:
        owner = _owner(pod)
        owner = cron.get(owner, owner) if owner else None
        status = pod.get("status") or {}
        if owner is None or (status.get("phase") == "Failed" and owner[1] != "CronJob"):
            continue
        asked = {one["name"]: one["image"] for one in pod["spec"]["containers"]}
        for one in status.get("containerStatuses") or []:
            digest = DIGEST.search(one.get("imageID") or "")
            image = asked.get(one["name"]) or one["image"]
            image = f"{image}{digest[0]}" if digest and "@" not in image else image
            if image not in found[owner][one["name"]]:
                found[owner][one["name"]].append(image)
    return found


def _replicas(kind: str, spec: Row, status: Row) -> tuple[int, int]:
    """How many are wanted, and how many are ready."""
    if kind == "DaemonSet":
        return status.get("desiredNumberScheduled") or 0, status.get("numberReady") or 0
    return spec.get("replicas", 1), status.get("readyReplicas") or 0


def _health(meta: Row, status: Row, desired: int, ready: int) -> WorkloadHealth | None:
    """Nothing, where the cluster has not yet looked at it."""
    if status.get("observedGeneration", 0) < meta.get("generation", 1):
        return None
    if desired == 0:
        return WorkloadHealth.MAINTENANCE
    if ready == 0:
        return WorkloadHealth.DOWN
    conditions = {(one["type"], one["status"]) for one in status.get("conditions") or []}
    is_stuck = ("Progressing", "False") in conditions or ("ReplicaFailure", "True") in conditions
    return WorkloadHealth.DEGRADED if ready < desired or is_stuck else WorkloadHealth.HEALTHY


def _health_of_jobs(spec: Row, jobs: list[Row]) -> WorkloadHealth | None:
    """By the newest job that is over."""
    if spec.get("suspend"):
        return WorkloadHealth.MAINTENANCE
    for job in jobs:
        over = {
            one["type"] for one in job.get("status", {}).get("conditions") or [] if one["status"] == "True"
        }
        if over & {"Complete", "Failed"}:
            return WorkloadHealth.DEGRADED if "Failed" in over else WorkloadHealth.HEALTHY
    return None


def _slim(meta: Row) -> Row:
    """What names a thing. Annotations stay away: kubectl keeps in them all that was applied, settings included."""
    return _only(meta, "name", "namespace", "uid", "labels", "generation", "creationTimestamp")
