"""Which documentation is whose: the pages beside the catalog file of an entity, else those of its repository."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from catalog import queries
from catalog.models import Claim, Entity
from integrations.docs import Docs, docs_beside
from integrations.documents import folder_of
from integrations.models import LocationDocs, StoredRecord
from integrations.readers import GitPlace

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
            docs = _of_record(record, folder_of(file), techdocs) if record is not None else Docs()
        else:
            docs = _of_location(claim.source.key, claim.place.get("file"), techdocs)
        if docs.pages:
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


def _of_location(source: str, file: Any, techdocs: str) -> Docs:
    if not source.startswith("yaml:") or not isinstance(file, str):
        return Docs()
    rows = LocationDocs.objects.filter(location__address=source.removeprefix("yaml:"))
    for pk, top in rows.order_by("top").values_list("pk", "top"):
        path = path_below(top, file)
        if path is not None:
            row = rows.get(pk=pk)
            pages = docs_beside(row.texts, folder_of(path), techdocs=techdocs)
            return Docs(pages, commit=row.commit, web=row.web)
    return Docs()


def path_below(top: str, file: str) -> str | None:
    """The path of a catalog file as seen from where the paths of docs are; None if it lies elsewhere.

    :param top: as `LocationDocs` has it.
    :param file: as the place of a claim has it.
    """
    if top.startswith("/"):
        path = file.removeprefix(top)
        # The docs of a folder are those of its own files, not of those below.
        return path if path != file and folder_of(path) == "" else None
    place, at = GitPlace.parse(file), GitPlace.parse(top)
    if place is None or at is None or place.repository != at.repository:
        return None
    if place.page:
        # A page's path begins with the ref, which the top has settled.
        start = f"{at.path.rstrip('/')}/"
        return place.path.removeprefix(start) if place.path.startswith(start) else None
    return place.path if place.ref == at.ref else None
