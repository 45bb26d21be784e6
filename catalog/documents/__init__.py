"""Backstage's document format: kinds, envelope, refs, placeholders and locations. No models, no database."""

from catalog.documents.envelope import DocumentInvalid, ValidDocument, validate_document
from catalog.documents.kinds import KindDef, KindSet, RelationRule, check_kind_definition
from catalog.documents.placeholders import PlaceholderInvalid, fill_placeholders, find_placeholders
from catalog.documents.reader import Content, Location, Missing, Reader, resolve_target
from catalog.documents.refs import DEFAULT_NAMESPACE, InvalidRef, Ref, parse_ref
from catalog.documents.sources import SourceDocument, Unreadable, read_documents

__all__ = [
    "DEFAULT_NAMESPACE",
    "Content",
    "DocumentInvalid",
    "InvalidRef",
    "KindDef",
    "KindSet",
    "Location",
    "Missing",
    "PlaceholderInvalid",
    "Reader",
    "Ref",
    "RelationRule",
    "SourceDocument",
    "Unreadable",
    "ValidDocument",
    "check_kind_definition",
    "fill_placeholders",
    "find_placeholders",
    "parse_ref",
    "read_documents",
    "resolve_target",
    "validate_document",
]
