"""What a repository declares already, by what the catalog knows of it; else what it might declare."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson
from django.db.models import Q

from access.permissions import visible
from catalog import identity, queries
from catalog.models import Claim, EntityKey
from integrations.outbound import mask_url

MOST = 200
# What Backstage's front end calls a repository of these hosts in an annotation.
_SLUGS = {
    "github.com": "github.com/project-slug",
    "gitlab.com": "gitlab.com/project-slug",
    "bitbucket.org": "bitbucket.org/project-slug",
    "dev.azure.com": "dev.azure.com/project-slug",
}


@dataclass(frozen=True, slots=True)
class Analysis:
    """What is known of a repository, as Backstage's front end takes it."""

    existing: list[dict[str, Any]] = field(default_factory=list)
    offered: list[dict[str, Any]] = field(default_factory=list)


def analyze(viewer: Any, target: str) -> Analysis | None:
    """What is known of a repository at a web address; None if it is none."""
    try:
        parts = urlsplit(target.strip())
        host = parts.hostname
    except ValueError:
        return None
    if parts.scheme not in ("http", "https", "ssh", "git") or not host:
        return None
    key = identity.repo_key(target)
    if key is not None and (existing := _declared(viewer, *identity.split_folder(key))):
        return Analysis(existing=existing)
    path = parts.path.strip("/").removesuffix(".git")
    if key is not None:  # of a page below it, the repository
        path = path[: len(key.partition("#")[0].partition("/")[2])]
    entity: dict[str, Any] = {
        "apiVersion": "backstage.io/v1alpha1",
        "kind": "Component",
        "metadata": {"name": path.rpartition("/")[2]},
        "spec": {"type": "other", "lifecycle": "unknown"},
    }
    if (slug := _SLUGS.get(host.lower())) and "/" in path:
        entity["metadata"]["annotations"] = {slug: path}
    return Analysis(offered=[{"entity": entity, "fields": []}])


def _declared(viewer: Any, key: str, folder: str) -> list[dict[str, Any]]:
    """The entities that files of a repository declare, below a folder."""
    seen = queries.list_entities(viewer)
    keys = EntityKey.objects.filter(key=key, claim__place__has_key="file", entity__in=seen.values("pk"))
    if folder:
        keys = keys.filter(Q(path=folder) | Q(path__startswith=f"{folder}/"))
    claims = visible(viewer, Claim.objects.filter(pk__in=keys.values("claim")))
    found = []
    for claim in claims.select_related("entity__served").order_by("pk")[:MOST]:
        file = str(claim.place.get("address") or claim.place["file"])
        place = identity.repo_key(file)
        if place is None or identity.split_folder(place)[0] != key:
            continue  # it speaks of the repository from elsewhere
        found.append(
            {
                "entity": orjson.loads(claim.entity.served.document),
                "isRegistered": True,
                "location": {"type": "url", "target": mask_url(file)},
            }
        )
    return found
