"""From anything that people paste to what it is of: an address, an image, a package, a commit, a run.

A text is brought to the identity keys that it may mean, as records are; what is known by one of them leads to the
components that it belongs to.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from django.db.models import Q
from django.db.models.fields.json import KT

from access.permissions import visible
from base.errors import DomainError
from catalog import identity, queries
from catalog.documents import parse_ref
from catalog.models import Activity, Claim, Entity, EntityKey, FormerKey, Tie, TieState
from catalog.services.homes import LEFT

MAX_TEXT = 2_000
SHOWN = 20
_SCHEME = re.compile(r"^([a-z][a-z0-9-]{1,20}):(?!//)(.+)$")
_HEX = re.compile(r"^[0-9a-f]{7,64}$")
_UID = re.compile(r"^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
# Web pages of packages, as their registries address them.
_NPM_PAGE = re.compile(r"^(?:www\.)?npmjs\.com/package/((?:@[^/]+/)?[^/]+)")
_PYPI_PAGE = re.compile(r"^pypi\.org/project/([^/]+)")
# A package with its version, as lock files and bills of materials have it: name@1.2, name==1.2, pkg:npm/name@1.2.
_VERSIONED = re.compile(r"^((?:@[^@/\s]+/)?[^@=/\s]+)(?:@|==)v?\d[^@/\s]*$")
_PURL = re.compile(r"^pkg:(npm|pypi|github|oci|docker)/(@?[^@?#\s]+)(?:[@?#]\S*)?$", re.IGNORECASE)


# What stands around a thing where it is copied from: quotes, the brackets of mails, the command that fetches it.
_AROUND = " \t\r\n<>\"'`"
_COMMAND = re.compile(
    r"^(?:\$ )?(?:git (?:clone|show|checkout)|commit|(?:docker|podman) \w+|(?:npm|pnpm|yarn) (?:install|i|add)"
    r"|pip3? install|image:)(?: -\S+)* +(\S+)$"
)
# How clusters and tools for images say that an address is one of an image.
_TRANSPORT = re.compile(r"^(?:docker|docker-pullable|oci)://", re.IGNORECASE)


def bare(text: str) -> str:
    """A pasted text without what stands around the thing that it names."""
    text = text[: MAX_TEXT * 2].strip(_AROUND)
    command = _COMMAND.match(text)
    return _TRANSPORT.sub("", command[1].strip(_AROUND) if command else text)


@dataclass(frozen=True)
class Lookup:
    """What a text leads to.

    :ivar entities: what people look for: the components that it belongs to, else the thing itself; best first.
    :ivar things: what the text names, such as a repository or an image.
    :ivar activity: what it names that happened, such as a run or a commit.
    :ivar before: whether the things were known by this once, and are called otherwise now.
    :ivar gone: what was known by it, and is gone.
    """

    entities: list[Entity] = field(default_factory=list)
    things: list[Entity] = field(default_factory=list)
    activity: Activity | None = None
    before: bool = False
    gone: Entity | None = None


def keys_of_text(text: str) -> list[str]:
    """The identity keys that a text may mean, likeliest first; a repository's with `#folder` if it names one."""
    text = bare(text)
    found: list[str | None] = []
    scheme = _SCHEME.match(text)
    if scheme and scheme[1] in {"repo", "image", "image-digest", "commit", "npm", "pypi", "pipeline", "user"}:
        found.append(identity.normalise(text))
    if package := _PURL.match(text):
        kind, name = package[1].lower(), unquote(package[2])
        if kind in {"oci", "docker"}:
            return _image_of_a_bill(text, name)
        key_of = {"npm": identity.npm_key, "pypi": identity.pypi_key, "github": _on_github}[kind]
        return [key for key in [key_of(name)] if key]
    found += [identity.digest_key(text), identity.digest_key(f"sha256:{text}")]
    if "://" in text or re.match(r"^[\w.+-]+@[\w.-]+:", text):
        address = re.sub(r"^[a-z+]+://", "", text.split("?")[0].split("#")[0])
        for pattern, key_of in ((_NPM_PAGE, identity.npm_key), (_PYPI_PAGE, identity.pypi_key)):
            if page := pattern.match(address):
                found.append(key_of(unquote(page[1])))
        found += _repositories(text)
    elif "/" in text and not text.startswith(("@", "/")):
        found += [identity.image_key(text), *_repositories(text)]
    elif text.startswith("/"):
        found.append(identity.repo_key(text))
    found.append(identity.commit_key(text))
    if not re.search(r"[\s:]|//", text):
        versioned = _VERSIONED.match(text)
        for name in (text, versioned[1] if versioned else ""):
            found += [identity.npm_key(name), identity.pypi_key(name)]
    if re.fullmatch(r"[\w.-]+:[\w.-]+", text):
        found.append(identity.image_key(text))
    found.append(identity.user_key(text))
    return list(dict.fromkeys(key for key in found if key))


def _image_of_a_bill(text: str, name: str) -> list[str]:
    """The keys of an image as bills of materials have it: by its digest, and by its registry if that is told."""
    _name, _at, version = text.partition("?")[0].partition("@")
    place = parse_qs(urlsplit(text).query).get("repository_url", [""])[0].strip("/")
    addresses = [place, f"{place}/{name}"] if place else [name]
    keys = [identity.digest_key(unquote(version)), *(identity.image_key(address) for address in addresses)]
    return [key for key in keys if key]


def _on_github(path: str) -> str | None:
    return identity.repo_key(f"https://github.com/{path}")


def _repositories(text: str) -> list[str]:
    """The repository at an address, then those of which it may be a page: its path, ever shorter."""
    key = identity.repo_key(text.split("?")[0].split("#")[0])
    if key is None:
        return []
    base, _folder = identity.split_folder(key)
    host, _slash, path = base.removeprefix("repo:").partition("/")
    parts = path.split("/")
    return [key, *(f"repo:{host}/{'/'.join(parts[:n])}" for n in range(len(parts) - 1, 0, -1))][:12]


def look_up(viewer: Any, text: str) -> Lookup:
    """Find what a text leads to, of what the viewer may see."""
    text = bare(text)[:MAX_TEXT].replace("\0", "")
    if not text:
        return Lookup()
    if entity := _named(viewer, text):
        return Lookup([entity], [entity])
    if activity := _happened(viewer, text):
        things = list(queries.list_entities(viewer).filter(uid__in=[activity.subject_uid]))
        return Lookup(_components(viewer, things) or things, things, activity)
    keys = [
        identity.split_folder(key) if key.startswith("repo:") else (key, "") for key in keys_of_text(text)
    ]
    known = _known_by(viewer, {key for key, _folder in keys})
    for key, folder in keys:
        if found := known.get(key) or _of_digest(viewer, key):
            return Lookup(_components(viewer, found, folder=folder) or found, found)
    if "://" in text and (things := _at_address(viewer, text)):
        return Lookup(_components(viewer, things) or things, things)
    if "://" in text and (activity := _above(viewer, text)):
        things = list(queries.list_entities(viewer).filter(uid__in=[activity.subject_uid]))
        return Lookup(_components(viewer, things) or things, things, activity)
    for key, _folder in keys:
        if found := _known_before(viewer, key):
            return Lookup(_components(viewer, found) or found, found, before=True)
    return Lookup(gone=_gone(viewer, [key for key, _folder in keys]))


def _known_before(viewer: Any, key: str) -> list[Entity]:
    """What was known by this key and lives under another."""
    held = visible(viewer, FormerKey.objects.filter(key=f"{LEFT}{key}")).values("entity")
    return list(queries.list_entities(viewer).filter(pk__in=held)[:SHOWN])


def _gone(viewer: Any, keys: Sequence[str]) -> Entity | None:
    """What was known by the first of these keys by which anything was, and is gone."""
    tombstones = visible(viewer, Entity.objects.exclude(deleted_at=None))
    for key in keys:
        held = visible(viewer, FormerKey.objects.filter(key__in=[key, f"{LEFT}{key}"])).values("entity")
        if found := tombstones.filter(pk__in=held).order_by("-deleted_at").first():
            return found
    return None


def _named(viewer: Any, text: str) -> Entity | None:
    try:
        if _UID.match(text.lower()):
            return queries.get_entity(viewer, uid=text.lower())
        if ":" in text and "://" not in text:
            parse_ref(text)
            return queries.entity_of_ref(viewer, text)
    except DomainError:
        pass
    return None


def _known_by(viewer: Any, keys: set[str]) -> dict[str, list[Entity]]:
    """What is each of these keys."""
    rows = visible(viewer, EntityKey.objects.filter(key__in=keys, is_identity=True, entity__deleted_at=None))
    found: dict[str, dict[int, Entity]] = {}
    for row in rows.select_related("entity").order_by("entity__kind", "entity__ref")[: SHOWN * len(keys)]:
        found.setdefault(row.key, {})[row.entity_id] = row.entity
    return {key: list(entities.values())[:SHOWN] for key, entities in found.items()}


def _of_digest(viewer: Any, key: str) -> list[Entity]:
    """What has a version of an image's digest; else what runs it."""
    if not key.startswith("image-digest:"):
        return []
    told = visible(viewer, Activity.objects.filter(type="version", keys__contains=[key]))
    uids = told.exclude(subject_uid=None).values("subject_uid")
    speaking = EntityKey.objects.filter(key=key, is_identity=False, kind="workload")
    speakers = visible(viewer, speaking).values("entity")
    seen = queries.list_entities(viewer).order_by("ref")
    return list(seen.filter(uid__in=uids)[:SHOWN] or seen.filter(pk__in=speakers)[:SHOWN])


def _happened(viewer: Any, text: str) -> Activity | None:
    """The newest activity at an address, or of a commit that begins so."""
    rows = visible(viewer, Activity.objects.exclude(subject_uid=None))
    if "://" in text:
        addresses = {text, text.rstrip("/"), text.rstrip("/") + "/"}
        return rows.filter(url__in=addresses).order_by("-at").first()
    commit = text.lower().removeprefix("commit:")
    if not _HEX.match(commit):
        return None
    # A range reads the index under any collation; nothing hexadecimal comes after g.
    found = rows.filter(commit__gte=commit, commit__lt=commit + "g").exclude(commit="")
    return found.order_by("-at").first()


def _above(viewer: Any, address: str) -> Activity | None:
    """What happened at the nearest page above an address, such as the run of a log."""
    scheme, _colon, path = re.sub(r"\?.*|#(?!/).*", "", address).rstrip("/").partition("://")
    parts = path.split("/")
    above = [f"{scheme}://{'/'.join(parts[:n])}" for n in range(len(parts) - 1, 2, -1)][:4]
    rows = visible(viewer, Activity.objects.exclude(subject_uid=None))
    found = rows.filter(url__in=[*above, *(f"{url}/" for url in above)])
    return max(found.order_by("-at")[:SHOWN], key=lambda one: len(one.url.rstrip("/")), default=None)


def _at_address(viewer: Any, text: str) -> list[Entity]:
    """What some source says lies at a web address, such as the page of a pipeline."""
    addresses = [text, text.rstrip("/"), text.rstrip("/") + "/"]
    claims = Claim.objects.alias(address=KT("place__address")).filter(is_shadowed=False)
    ids = claims.filter(address__in=addresses).values("entity")
    return list(queries.list_entities(viewer).filter(pk__in=ids).order_by("kind", "ref")[:SHOWN])


def _components(viewer: Any, things: Sequence[Entity], *, folder: str = "") -> list[Entity]:
    """The components that things belong to: tied to them, else to their repository; of a folder, the nearest."""
    if any(thing.kind == "component" for thing in things):
        return [thing for thing in things if thing.kind == "component"]
    ids = {thing.pk for thing in things}
    found = _tied(ids, "component")
    if not found and (artifacts := _tied(ids, "artifact")):
        found = _tied(artifacts, "component")
    if not found and (repositories := _tied(ids, "repository")):
        found = _tied(repositories, "component")
    components = list(queries.list_entities(viewer).filter(pk__in=found).order_by("ref")[:SHOWN])
    if len(components) < 2 or not folder:
        return components
    depths = {
        entity: max((len(path) for path in paths if f"{folder}/".startswith(f"{path}/")), default=-1)
        for entity, paths in _folders(viewer, found).items()
    }
    deepest = max(depths.values(), default=-1)
    return [one for one in components if deepest > 0 and depths.get(one.pk) == deepest] or components


def _folders(viewer: Any, entities: set[int]) -> dict[int, set[str]]:
    folders: dict[int, set[str]] = {}
    rows = EntityKey.objects.filter(entity__in=entities, is_identity=False).exclude(path="")
    for entity, path in visible(viewer, rows).values_list("entity", "path"):
        folders.setdefault(entity, set()).add(path.strip("/").lower())
    return folders


def _tied(ids: set[int], kind: str) -> set[int]:
    """What of a kind is tied to some things, in either direction."""
    ties = Tie.objects.exclude(state=TieState.FORBIDDEN).filter(
        Q(source__in=ids, target__kind=kind) | Q(target__in=ids, source__kind=kind)
    )
    return {
        there
        for pair in ties.values_list("source_id", "target_id")
        for here, there in (pair, pair[::-1])
        if here in ids and there not in ids
    }
