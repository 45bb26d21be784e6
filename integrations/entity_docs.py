"""Which documentation is whose: the pages beside the catalog file of an entity, else those of its repository."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from catalog import queries
from catalog.models import Claim, Entity
from integrations.docs import Docs, docs_beside
from integrations.documents import folder_of
from integrations.models import StoredRecord

TECHDOCS = "backstage.io/techdocs-ref"


def docs_of(
    viewer: Any, document: dict[str, Any], claims: Iterable[Claim], repositories: Iterable[Entity]
) -> Docs:
    """The pages of an entity.

    :param viewer: whose permissions hold for repositories that it is tied to.
    :param document: the entity's.
    :param claims: those on it that are for the viewer.
    :param repositories: it itself if it is one, and those that it is tied to.
    """
    annotations = (document.get("metadata") or {}).get("annotations") or {}
    techdocs = str(annotations.get(TECHDOCS) or "")
    records = StoredRecord.objects.filter(type="repository", deleted_at=None, is_ignored=False)
    for claim in claims:
        slug, repository, file = file_of(claim.source.key, claim.external_id, claim.place.get("file"))
        if repository:
            # Who may read what a connection says of the entity may read what lies beside the file that says it.
            record = records.filter(connection__slug=slug, external_id=repository).first()
            if record is not None and (docs := _of_record(record, folder_of(file), techdocs)).pages:
                return docs
    ids = [entity.pk for entity in repositories]
    if ids:
        for record in queries.records_of_entities(viewer, ids, records).order_by("pk")[:5]:
            if (docs := _of_record(record, "", techdocs)).pages:
                return docs
    return Docs()


def file_of(source: str, external_id: str, file: Any) -> tuple[str, str, str]:
    """The connection, the repository and the path of the catalog file that a claim was read from; empty if none."""
    slug, _slash, _resource = source.removeprefix("connection:").partition("/")
    if not source.startswith("connection:") or not isinstance(file, str):
        return "", "", ""
    repository, colon, _rest = external_id.partition(f":{file}#")
    return (slug, repository, file) if colon else ("", "", "")


def _of_record(record: StoredRecord, folder: str, techdocs: str) -> Docs:
    data = record.data
    return Docs(
        docs_beside(data.get("docs") or {}, folder, techdocs=techdocs),
        repository=data.get("url") or "",
        branch=data.get("default_branch") or "",
        commit=data.get("head") or "",
    )
