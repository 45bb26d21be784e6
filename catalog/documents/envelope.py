"""Validating documents as Backstage does: the envelope that all kinds share, then the kind's own schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop

from base.errors import FieldError, InvalidInput
from base.paths import format_path
from base.schemas import compile_schema
from base.text import excerpt
from catalog.documents.kinds import KindDef, KindSet
from catalog.documents.refs import DEFAULT_NAMESPACE, Ref
from catalog.documents.urls import is_url


class DocumentInvalid(InvalidInput):
    """The document is none that the catalog accepts; `errors` has every reason with its path.

    :ivar ref: of the entity that it would have declared, as far as it can be told; else empty.
    """

    code = "document-invalid"
    title = gettext_lazy("The document is not valid")

    def __init__(self, errors: list[FieldError], *, ref: str = "") -> None:
        self.ref = ref
        more = len(errors) - 1
        message = str(errors[0])
        if more:
            message += " " + _("(and %(count)d more)") % {"count": more}
        super().__init__(f"{ref}: {message}" if ref else message, errors=errors)


@dataclass(frozen=True, slots=True)
class ValidDocument:
    """A document that is accepted.

    :ivar data: the document, in the version it was written in, without what only the catalog may say (uid, etag,
        generation).
    """

    kind: KindDef
    ref: Ref
    data: dict[str, Any]

    @property
    def relations(self) -> list[tuple[str, str]]:
        """What it declares: (type, ref of the target)."""
        return self.kind.relations_of(self.kind.upgraded(self.data), self.ref.namespace)


def validate_document(
    data: Any, kinds: KindSet, *, default_namespace: str = DEFAULT_NAMESPACE
) -> ValidDocument:
    """Check a document whose placeholders are filled.

    :param default_namespace: of a document that names none.
    :raises DocumentInvalid: with everything that is wrong.
    """
    if not isinstance(data, dict):
        message = _("A document must be an object with keys, but is %(got)s.") % {"got": excerpt(data)}
        raise DocumentInvalid([FieldError("", message)])
    kind = kinds.get(data.get("apiVersion"), data.get("kind"))
    if (
        kind is None
        or not _ENVELOPE.is_valid(data)
        or _metadata_errors(data["metadata"])
        or not kind.is_valid(kind.upgraded(data))
    ):
        raise DocumentInvalid(_errors(data, kind, kinds), ref=_ref_text(data, default_namespace))
    metadata = data["metadata"]
    if not _OURS.isdisjoint(metadata):
        data = {**data, "metadata": {key: value for key, value in metadata.items() if key not in _OURS}}
    namespace = metadata.get("namespace", default_namespace)
    return ValidDocument(
        kind=kind,
        ref=Ref(kind.name, namespace, metadata["name"]),
        data=data,
    )


def _errors(data: dict[str, Any], kind: KindDef | None, kinds: KindSet) -> list[FieldError]:
    errors = _ENVELOPE.errors(data)
    if isinstance(metadata := data.get("metadata"), dict):
        known = {error.path for error in errors}
        errors += [error for error in _metadata_errors(metadata) if error.path not in known]
    if kind is not None:
        known = {error.path for error in errors}
        failed: list[FieldError] = []
        whole = kind.upgraded(data, errors=failed) if not errors else data
        errors += [error for error in [*failed, *kind.errors_of(whole)] if error.path not in known]
    elif not {"apiVersion", "kind"} & {error.path for error in errors}:
        errors.append(kinds.why_unknown(data["apiVersion"], data["kind"]))
    return errors


def _metadata_errors(metadata: dict[str, Any]) -> list[FieldError]:
    """What a schema cannot say: that links are web addresses, and the length of keys' prefixes."""
    errors = []
    links = metadata.get("links")
    for number, link in enumerate(links if isinstance(links, list) else ()):
        url = link.get("url") if isinstance(link, dict) else None
        if isinstance(url, str) and not is_url(url):
            errors.append(
                FieldError(
                    f"metadata.links[{number}].url",
                    _("%(got)s is no absolute web address.") % {"got": excerpt(url)},
                    _("an absolute web address"),
                    excerpt(url),
                )
            )
    for field in ("labels", "annotations"):
        entries = metadata.get(field)
        if isinstance(entries, dict) and len("".join(entries)) > _MAX_PREFIX:
            errors += [
                FieldError(
                    format_path(("metadata", field, key)),
                    _("The part of the key before the slash has more than %(limit)d characters.")
                    % {"limit": _MAX_PREFIX},
                )
                for key in entries
                if len(key.partition("/")[0]) > _MAX_PREFIX
            ]
    return errors


def _ref_text(data: dict[str, Any], default_namespace: str) -> str:
    metadata = data.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    kind, name = data.get("kind"), metadata.get("name")
    namespace = metadata.get("namespace") or default_namespace
    if all(isinstance(part, str) and part for part in (kind, name, namespace)):
        return Ref(str(kind), namespace, str(name)).text[:300]
    return ""


_OURS = frozenset({"uid", "etag", "generation"})
_MAX_PREFIX = 253
_PART = "[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_DNS_LABEL = "[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"

_NAME = {
    "type": "string",
    "pattern": f"^{_PART}$",
    "errorMessage": gettext_noop("letters, digits and, between them, any of - _ . (at most 63 characters)"),
}
_KEY = {
    "pattern": rf"^(?:{_DNS_LABEL}(?:\.{_DNS_LABEL})*/)?{_PART}$",
    "errorMessage": gettext_noop("a name, or a domain name, a slash and a name (such as example.org/team)"),
}
_NOT_EMPTY = {"type": "string", "minLength": 1}
_SHOWN = {"type": "string", "pattern": r"\S", "errorMessage": gettext_noop("text that is not blank")}

_ENVELOPE_SOURCE: dict[str, Any] = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata"],
    "additionalProperties": False,
    "properties": {
        "apiVersion": {
            "type": "string",
            "pattern": rf"^(?:{_DNS_LABEL}(?:\.{_DNS_LABEL})*/)?[a-z0-9A-Z]{{1,63}}$",
            "errorMessage": gettext_noop("a version such as backstage.io/v1alpha1"),
        },
        "kind": {
            "type": "string",
            "pattern": "^[a-zA-Z][a-z0-9A-Z]{0,62}$",
            "errorMessage": gettext_noop("letters and digits, at most 63 characters"),
        },
        "metadata": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "uid": _NOT_EMPTY,
                "etag": _NOT_EMPTY,
                "name": _NAME,
                "namespace": {
                    "type": "string",
                    "pattern": f"^{_DNS_LABEL}$",
                    "errorMessage": gettext_noop(
                        "small letters, digits and, between them, - (at most 63 characters)"
                    ),
                },
                "title": _NOT_EMPTY,
                "description": {"type": "string"},
                "labels": {
                    "type": "object",
                    "propertyNames": _KEY,
                    "additionalProperties": {**_NAME, "pattern": f"^(?:{_PART})?$"},
                },
                "annotations": {
                    "type": "object",
                    "propertyNames": _KEY,
                    "additionalProperties": {"type": "string"},
                },
                "tags": {
                    "type": "array",
                    "items": {
                        "type": "string",
                        "pattern": "^[a-z0-9:+#]+(?:-[a-z0-9:+#]+)*$",
                        "maxLength": 63,
                        "errorMessage": gettext_noop(
                            "small letters, digits, any of : + # and, between them, - (at most 63 characters)"
                        ),
                    },
                },
                "links": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["url"],
                        "properties": {
                            "url": _NOT_EMPTY,
                            "title": _SHOWN,
                            "icon": _SHOWN,
                            "type": _NOT_EMPTY,
                        },
                    },
                },
            },
        },
        "spec": {"type": "object"},
    },
}
_ENVELOPE = compile_schema(_ENVELOPE_SOURCE)
