"""Cards about one entity: facts, relations, readme, ties, history, source."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import orjson
import yaml
from django.utils.dateparse import parse_date
from django.utils.formats import date_format
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from pydantic import Field

from access.permissions import can, visible
from base.paths import value_at
from catalog import queries
from catalog.documents.fields import PAGE
from catalog.kinds import current_kinds, tied_to
from catalog.models import Claim, Entity, Rank
from catalog.overrides import overrides_of, patch_for
from catalog.queries import FieldSource, Neighbour
from integrations.models import StoredRecord
from portal import links
from portal.formats import refs_in, show
from portal.owners import settling
from portal.sources import badge_of_source, connections_of, run_url, tied_badges
from portal.values import in_words
from portal.widgets.activity import RowsConfig, entity_of, reach
from portal.widgets.base import Absent, NothingToShow, PageContext, Widget, WidgetConfig, register


def document_of(context: PageContext) -> dict[str, Any]:
    """The entity's document, read once a page."""
    if "document" not in context.cache:
        entity = entity_of(context)
        context.cache["document"] = queries.documents(context.viewer, [entity])[entity.pk]
    return context.cache["document"]


def neighbours_of(context: PageContext) -> list[Neighbour]:
    """The entity's relations and ties, read once a page."""
    if "neighbours" not in context.cache:
        context.cache["neighbours"] = queries.neighbours(context.viewer, entity_of(context))
    return context.cache["neighbours"]


def claims_on(context: PageContext) -> list[Claim]:
    """The claims on the entity, read once a page."""
    if "claims" not in context.cache:
        context.cache["claims"] = queries.claims_on(context.viewer, entity_of(context))
    return context.cache["claims"]


def provenance_of(context: PageContext) -> dict[str, FieldSource]:
    """Who says each field, read once a page."""
    if "provenance" not in context.cache:
        context.cache["provenance"] = queries.provenance_of(claims_on(context))
    return context.cache["provenance"]


def source_of(context: PageContext, path: str) -> dict[str, Any] | None:
    """The provenance badge of a field."""
    found = provenance_of(context).get(path)
    if found is None:
        return None
    entity = entity_of(context)
    place = found.claim.place
    where = place.get("file") or place.get("repository") or found.claim.external_id
    if found.claim.rank == Rank.PERSON:
        where = place.get("reasons", {}).get(path, "")  # what a person gave instead of a place
    if place.get("line"):
        where = f"{where}:{place['line']}"
    badge: dict[str, Any] = dict(badge_of_source(found.claim.source, connections_of(context.request)))
    badge |= {
        "path": where,
        "at": found.claim.as_of,
        "losing": [
            {"label": item["source"].label, "value": in_words(item["value"])[:200]} for item in found.losing
        ],
    }
    if can(context.viewer, "entity.write", entity):
        badge["override_url"] = f"{links.entity_url(entity)}/edit?field={path}"
    return badge


class AboutConfig(WidgetConfig):
    """Which facts."""

    fields: list[str] = Field(
        default_factory=list,
        max_length=30,
        description="Paths of the document, such as spec.type; empty for what the kind has.",
    )


_FACTS: dict[str, Any] = {
    "owner": gettext_lazy("Owner"),
    "system": gettext_lazy("System"),
    "domain": gettext_lazy("Domain"),
    "lifecycle": gettext_lazy("Lifecycle"),
    "type": gettext_lazy("Type"),
    "parent": gettext_lazy("Parent"),
    "path": gettext_lazy("Path"),
    "defaultBranch": gettext_lazy("Default branch"),
    "languages": gettext_lazy("Languages"),
    "lastActivityAt": gettext_lazy("Last commit"),
    "ownerFrom": gettext_lazy("Owner from"),
    "topCommitters": gettext_lazy("Top committers"),
    "ecosystem": gettext_lazy("Ecosystem"),
    "latestVersion": gettext_lazy("Latest version"),
    "latestAt": gettext_lazy("Published"),
    "trigger": gettext_lazy("Trigger"),
    "stage": gettext_lazy("Stage"),
    "archived": gettext_lazy("Archived"),
    "fork": gettext_lazy("Fork"),
}
_REFS = {
    "owner": "ownedBy",
    "system": "partOf",
    "domain": "partOf",
    "parent": "childOf",
    "subcomponentOf": "partOf",
}
FEW_TAGS = 10
_TIMES = {"latestAt"}
_DAYS = {"lastActivityAt"}  # known by the day only


@register
class About(Widget[AboutConfig]):
    """The facts of an entity, each with the source that says it."""

    slug = "about"
    label = gettext_lazy("About")
    description = gettext_lazy("The facts, each with its source")
    template = "widgets/about.html"

    def data(self, context: PageContext) -> dict[str, Any]:
        entity = entity_of(context)
        document = document_of(context)
        chosen = self._chosen if self.config.fields else self._of_its_kind
        facts = chosen(context, entity, document)
        ties = [n for n in neighbours_of(context) if n.tie is not None]
        claims = claims_on(context)
        known = connections_of(context.request)
        named = {claim.source.name: badge_of_source(claim.source, known) for claim in claims}
        tied = [name for name in entity.signals.get("tied_sources", ()) if name not in named]
        shown = [*named.values(), *tied_badges(context, tied)]
        return {
            "facts": facts,
            "sources": shown,
            "ties_url": links.entity_url(entity, "relations"),
            "ties": len(ties),
        }

    def _chosen(
        self, context: PageContext, _entity: Entity, document: dict[str, Any]
    ) -> list[dict[str, Any]]:
        facts = []
        for path in self.config.fields:
            value = value_at(document, path.split("."))
            if value in (None, "", [], {}):
                continue
            head, _dot, name = path.partition(".")
            if head == "spec" and name in _FACTS:
                facts.append(self._fact(context, name, _FACTS[name], value))
            else:
                label = capfirst(path.rpartition(".")[2])
                source = source_of(context, path)
                facts.append({"label": label, "value": in_words(value), "source": source})
        return facts

    def _of_its_kind(
        self, context: PageContext, entity: Entity, document: dict[str, Any]
    ) -> list[dict[str, Any]]:
        spec, metadata = document.get("spec") or {}, document["metadata"]
        facts = []
        for name, label in _FACTS.items():
            if name == "owner" and entity.kind in {"component", "api", "resource", "system", "domain"}:
                facts.append(self._owner(context, entity, label))
            elif name in spec and spec[name] not in (None, "", [], {}):
                facts.append(self._fact(context, name, label, spec[name]))
        facts += self._added(context, entity, spec)
        if metadata.get("tags"):
            tags = [
                {"text": tag, "url": links.catalog_url(f"kind:{entity.kind} tag:{tag}")}
                for tag in metadata["tags"]
            ]
            facts.append(
                {
                    "label": _("Tags"),
                    "tags": tags[:FEW_TAGS],
                    "more_tags": tags[FEW_TAGS:],
                    "source": source_of(context, "metadata.tags"),
                }
            )
        for neighbour in neighbours_of(context):
            if neighbour.type == "hasSource" and neighbour.entity is not None:
                facts.append({"label": _("Repository"), "chip": links.chip(neighbour.ref, neighbour.entity)})
        facts.append({"label": _("Namespace"), "value": entity.namespace})
        return facts

    def _added(self, context: PageContext, entity: Entity, spec: dict[str, Any]) -> list[dict[str, Any]]:
        """The fields that packs and administrators added to the kind for this page."""
        kind = current_kinds().by_name(entity.kind)
        shown = [
            one for one in kind.fields if PAGE in one.shown and spec.get(one.name) not in (None, "", [], {})
        ]
        refs = {
            one.name: refs_in(spec[one.name], ("spec", one.name), kind, entity.namespace)
            for one in shown
            if one.format.compared_as == "reference"
        }
        named = {ref for found in refs.values() for ref in found}
        titles = queries.titles_of(context.viewer, named) if named else {}
        return [
            {
                "label": one.title,
                "html": show(
                    spec[one.name],
                    one.schema,
                    refs=refs.get(one.name, ()),
                    titles=titles,
                    is_whole=True,
                ),
                "note": one.computed.words if one.computed else "",
                "source": None if one.computed else source_of(context, one.path),
            }
            for one in shown
        ]

    def _owner(self, context: PageContext, entity: Entity, label: Any) -> dict[str, Any]:
        fact: dict[str, Any] = {"label": label}
        if entity.owner:
            fact = self._fact(context, "owner", label, entity.owner)
        elif can(context.viewer, "entity.write", entity):
            url = f"/catalog/owners?entity={entity.uid}"
            fact["actions"] = [{"label": _("Set owner..."), "url": url, "small": True}]
        owner = fact.pop("chip", None)
        return {**fact, "owner": owner or {"title": ""}}

    def _fact(self, context: PageContext, name: str, label: Any, value: Any) -> dict[str, Any]:
        fact: dict[str, Any] = {"label": label, "source": source_of(context, f"spec.{name}")}
        if name in _REFS:
            found = next(
                (
                    n
                    for n in neighbours_of(context)
                    if n.is_outgoing
                    and n.type == _REFS[name]
                    and (name != "domain" or n.ref.startswith("domain:"))
                ),
                None,
            )
            if found is not None:
                if name != "owner":
                    return fact | {"chip": links.chip(found.ref, found.entity)}
                actions = [] if found.entity else settling(context.viewer, found.ref)
                return fact | {"chip": links.owner_chip(found.ref, found.entity), "actions": actions}
        if name in _TIMES:
            return fact | {"time": value}
        if name in _DAYS and (day := parse_date(str(value)[:10])):
            return fact | {"value": date_format(day, "j M Y")}
        if name == "languages" and isinstance(value, dict):
            return fact | {"value": _languages(value)}
        if isinstance(value, list):
            # Addresses are for programs: people are known by their names.
            value = [item.partition(" <")[0] if isinstance(item, str) else item for item in value]
        return fact | {"value": capfirst(in_words(value)) if isinstance(value, bool) else in_words(value)}


def _languages(counts: dict[str, Any]) -> str:
    numbers = {name: n for name, n in counts.items() if isinstance(n, (int, float)) and n > 0}
    total = sum(numbers.values()) or 1
    shares = sorted(((100 * n / total, name) for name, n in numbers.items()), reverse=True)[:3]
    return ", ".join(f"{name} {share:.0f} %" for share, name in shares)


@register
class RelationGraph(Widget[RowsConfig]):
    """The entity between what points at it and what it points at, drawn on the server."""

    slug = "relation-graph"
    label = gettext_lazy("Relations")
    description = gettext_lazy("What depends on it and what it depends on")
    template = "widgets/relation_graph.html"

    def data(self, context: PageContext) -> dict[str, Any]:
        entity = entity_of(context)
        rows = [n for n in neighbours_of(context) if n.type not in {"ownedBy", "ownerOf"}] or neighbours_of(
            context
        )
        if not rows:
            raise NothingToShow(_("Nothing is related to it yet."), icon="sitemap")
        sides: dict[str, dict[str, dict[str, Any]]] = {"incoming": {}, "outgoing": {}}
        for neighbour in rows:
            side = "outgoing" if neighbour.is_outgoing else "incoming"
            # A label is read along its arrow: what points here says what this is to it.
            label = neighbour.label if neighbour.is_outgoing else _other_way(neighbour.type)
            node = sides[side].setdefault(neighbour.ref, _node(neighbour))
            node["labels"].setdefault(label)
        limit = self.config.rows
        incoming, outgoing = (
            [node | {"sub": ", ".join(node["labels"])} for node in sides[side].values()]
            for side in ("incoming", "outgoing")
        )
        return {
            "graph": {
                "centre": {
                    "title": entity.title,
                    "sub": entity.type or entity.kind,
                    "kind": links.icon_kind(entity),
                },
                "incoming": incoming[:limit],
                "outgoing": outgoing[:limit],
                "more_incoming": max(len(incoming) - limit, 0),
                "more_outgoing": max(len(outgoing) - limit, 0),
                "url": links.entity_url(entity, "relations"),
            },
            "card": {"more": {"label": _("All relations"), "url": links.entity_url(entity, "relations")}},
        }


def _other_way(type_: str) -> str:
    kinds = current_kinds()
    return kinds.label(kinds.inverse(type_))


def _node(neighbour: Neighbour) -> dict[str, Any]:
    other = neighbour.entity
    return {
        "title": other.title if other else neighbour.ref.rpartition("/")[2],
        "labels": {},
        "kind": links.icon_kind(other) if other else neighbour.ref.partition(":")[0],
        "url": links.entity_url(other) if other else "",
        "missing": other is None,
    }


@register
class RelationList(Widget[WidgetConfig]):
    """All relations and ties by type, each tie with its reason."""

    slug = "relation-list"
    label = gettext_lazy("All relations")
    template = "widgets/relation_list.html"

    def data(self, context: PageContext) -> dict[str, Any]:
        groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for neighbour in neighbours_of(context):
            groups[neighbour.label].append(
                {
                    "chip": links.chip(neighbour.ref, neighbour.entity),
                    "ref": neighbour.ref,
                    "text": neighbour.entity.description[:120]
                    if neighbour.entity
                    else _("does not exist yet"),
                    "run": neighbour.entity.last_run if neighbour.entity else "",
                    "tie": neighbour.tie,
                }
            )
        forbidden = self._forbidden(context)
        if not groups and not forbidden:
            raise NothingToShow(_("Nothing is related to it yet."), icon="sitemap")
        return {
            "groups": [{"label": capfirst(label), "items": items} for label, items in groups.items()],
            "forbidden": forbidden,
            "can_tie": bool(tied_to(entity_of(context).kind))
            and can(context.viewer, "tie.write", entity_of(context)),
        }

    def _forbidden(self, context: PageContext) -> list[dict[str, Any]]:
        """The ties that a person forbade: shown, so that they can be taken back."""
        entity = entity_of(context)
        kinds = current_kinds()
        found = []
        for tie, can_undo in queries.forbidden_ties(context.viewer, entity):
            is_outgoing = tie.source_id == entity.pk
            other = tie.target if is_outgoing else tie.source
            found.append(
                {
                    "tie": tie,
                    "label": kinds.label(tie.type if is_outgoing else kinds.inverse(tie.type)),
                    "chip": links.chip(other.ref, other),
                    "side": "source" if is_outgoing else "target",
                    "can_undo": can_undo,
                }
            )
        return found


class RelatedConfig(RowsConfig):
    """Which relations."""

    types: list[str] = Field(
        min_length=1, max_length=20, description="Types of relations as they read from here, such as hasPart."
    )
    kinds: list[str] = Field(
        default_factory=list, max_length=20, description="Only entities of these kinds, in lower case."
    )


@register
class Related(Widget[RelatedConfig]):
    """What stands in some relations to the entity: its parts, its members; failing first."""

    slug = "related"
    label = gettext_lazy("Related")
    description = gettext_lazy("Parts, members or neighbours as a list")
    template = "widgets/entities.html"

    def data(self, context: PageContext) -> dict[str, Any]:
        found = {
            n.ref: n
            for n in neighbours_of(context)
            if n.type in self.config.types
            and (not self.config.kinds or n.ref.partition(":")[0] in self.config.kinds)
        }
        if not found:
            raise NothingToShow(_("Nothing is related to it in this way yet."), icon="sitemap")
        rows = sorted(found.values(), key=_urgency)
        card: dict[str, Any] = {
            "footer": ngettext("%(n)d in all", "%(n)d in all", len(rows)) % {"n": len(rows)}
        }
        if len(rows) > self.config.rows:
            card["more"] = {
                "label": _("All relations"),
                "url": links.entity_url(entity_of(context), "relations"),
            }
        return {
            "items": [
                {
                    "chip": links.chip(n.ref, n.entity),
                    "text": n.entity.description if n.entity else _("does not exist yet"),
                    "status": {"domain": "run", "state": n.entity.last_run}
                    if n.entity and n.entity.last_run
                    else None,
                }
                for n in rows[: self.config.rows]
            ],
            "card": card,
        }


_ILL = {"down": 0, "degraded": 1, "": 2, "healthy": 3, "maintenance": 4}


@register
class Workloads(Widget[RowsConfig]):
    """Where the entity runs: its workloads with their images and health, the worst first; of a workload, itself."""

    slug = "workloads"
    label = gettext_lazy("Runs on")
    description = gettext_lazy("Where it runs: workloads with their images and health")
    template = "widgets/workloads.html"

    def data(self, context: PageContext) -> dict[str, Any]:
        entity = entity_of(context)
        uids = [uid for uid, _shared in reach(context)]
        found = list(queries.list_entities(context.viewer).filter(kind="workload", uid__in=uids))
        if not found:
            raise NothingToShow(_("No workload is known to run it."), icon="container")
        documents = queries.documents(context.viewer, found)
        rows = [self._row(one, documents[one.pk], entity) for one in found]
        rows.sort(key=lambda row: (_ILL.get(row["health"], 2), row["ref"]))
        places = {place for row in rows[: self.config.rows] for place in row["places"]}
        known = queries.titles_of(context.viewer, places)
        for row in rows[: self.config.rows]:
            row["places"] = [links.chip(place, known.get(place)) for place in row["places"]]
        card: dict[str, Any] = {
            "footer": ngettext("%(n)d in all", "%(n)d in all", len(rows)) % {"n": len(rows)}
        }
        if len(rows) > self.config.rows:
            card["more"] = {"label": _("All relations"), "url": links.entity_url(entity, "relations")}
        return {"workloads": rows[: self.config.rows], "card": card}

    def _row(self, workload: Entity, document: dict[str, Any], page: Entity) -> dict[str, Any]:
        spec = document.get("spec") or {}
        # A catalog file may say anything here, also what the kind does not mean.
        images, health = spec.get("images"), spec.get("health")
        images = [image for image in images if isinstance(image, str)] if isinstance(images, list) else []
        return {
            "ref": workload.ref,
            "chip": links.chip(workload.ref, workload),
            "places": [
                item["targetRef"]
                for item in document.get("relations") or []
                if item["type"] == "runsOn" and item["targetRef"] != page.ref
            ],
            # The registry and the digest are in the tooltip: the name and the tag tell versions apart.
            "images": [{"short": _short(image), "whole": image} for image in images],
            "health": health if isinstance(health, str) and health in _ILL else "",
            "ready": spec.get("readyReplicas") or 0,
            "replicas": spec.get("replicas"),
        }


def _short(image: str) -> str:
    name, _at, digest = image.partition("@")
    last = name.rpartition("/")[2]
    return last if ":" in last or not digest else f"{last}@{digest.partition(':')[2][:12]}"


_URGENT = {"failed": 0, "unstable": 1, "running": 2, "queued": 3}


def _urgency(neighbour: Neighbour) -> tuple[int, str]:
    entity = neighbour.entity
    return (_URGENT.get(entity.last_run if entity else "", 4), neighbour.ref)


@register
class Readme(Widget[WidgetConfig]):
    """The README of the entity's repository, rendered safely."""

    slug = "readme"
    label = gettext_lazy("Readme")
    template = "widgets/readme.html"

    def data(self, context: PageContext) -> dict[str, Any]:
        entity = entity_of(context)
        ids = [entity.pk] if entity.kind == "repository" else []
        ids += [n.entity.pk for n in neighbours_of(context) if n.type == "hasSource" and n.entity is not None]
        if not ids:
            raise Absent
        record = queries.records_of_entities(
            context.viewer, ids, StoredRecord.objects.filter(type="repository", deleted_at=None)
        ).first()
        if record is None:
            raise Absent
        text = record.data.get("readme") or ""
        if not text.strip():
            raise NothingToShow(_("The repository has no README."), icon="file-text")
        return {
            "text": text,
            "path": record.data.get("readme_path", "README"),
            "base_url": links.folder_url(
                record.data.get("url", ""),
                record.data.get("default_branch", ""),
                record.data.get("readme_path", ""),
            ),
        }


@register
class History(Widget[RowsConfig]):
    """Every change of the entity, with what changed and who brought it."""

    slug = "history"
    label = gettext_lazy("History")
    template = "widgets/history.html"

    def data(self, context: PageContext) -> dict[str, Any]:
        entity = entity_of(context)
        rows = list(queries.revisions(context.viewer, entity)[: max(self.config.rows, 20)])
        if not rows:
            raise NothingToShow(_("Nothing has changed yet."), icon="history")
        for row in rows:
            row.run_url = run_url(context.request, row)  # type: ignore[attr-defined]  # for the template alone
        if entity.is_alive and can(context.viewer, "entity.write", entity):
            for row in rows[1:]:
                row.restore_url = f"{links.entity_url(entity)}/restore/{row.number}"  # type: ignore[attr-defined]
        return {"revisions": rows}


@register
class Source(Widget[WidgetConfig]):
    """The merged document, and what each source says."""

    slug = "source"
    label = gettext_lazy("Source")
    template = "widgets/source.html"

    def data(self, context: PageContext) -> dict[str, Any]:
        entity = entity_of(context)
        claims = claims_on(context)
        raw: dict[str, str] = {}
        if can(context.viewer, "raw.read", entity):
            theirs = visible(context.viewer, StoredRecord.objects.filter(deleted_at=None))
            for record in queries.records_of_entities(context.viewer, [entity.pk], theirs)[:10]:
                if record.raw:
                    raw[f"{record.resource}/{record.external_id}"] = orjson.dumps(
                        record.raw, option=orjson.OPT_INDENT_2
                    ).decode()
        return {
            "yaml": _yaml(document_of(context)),
            "claims": [
                {
                    "source": badge_of_source(claim.source, connections_of(context.request)),
                    "rank": claim.get_rank_display(),
                    # What a person says stands in no place but here.
                    "place": ""
                    if claim.rank == Rank.PERSON
                    else claim.place.get("file") or claim.external_id,
                    "as_of": claim.as_of,
                    "is_shadowed": claim.is_shadowed,
                    "stale": claim.stale_reason,
                    "reasons": claim.place.get("reasons", {}) if claim.rank == Rank.PERSON else {},
                    "yaml": _yaml(claim.document),
                }
                for claim in claims
            ],
            "raw": raw,
            **self._overrides(context, entity, claims),
        }

    def _overrides(self, context: PageContext, entity: Entity, claims: list[Claim]) -> dict[str, Any]:
        """What people say over the catalog file, whether it says so too by now, and the patch by which it would."""
        found = overrides_of(claims, unions=current_kinds().unions_of(entity.kind))
        may_write = bool(found) and can(context.viewer, "entity.write", entity)
        patch = patch_for(found, claims) if may_write else None
        return {
            "overrides": [
                {
                    "path": one.name,
                    "value": in_words(one.value),
                    "by": one.claim.source.label,
                    "agrees": one.agrees,
                }
                for one in found
            ],
            "edit_url": f"{links.entity_url(entity)}/edit" if may_write else "",
            "patch": patch,
        }


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)
