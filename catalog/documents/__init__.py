"""Backstage's document format: kinds, envelope, refs, placeholders and locations. No models, no database."""

from catalog.documents.envelope import DocumentInvalid, ValidDocument, validate_document
from catalog.documents.kinds import KindDef, KindSet, RelationRule, check_kind_definition
from catalog.documents.refs import DEFAULT_NAMESPACE, InvalidRef, Ref, parse_ref

__all__ = [
    "DEFAULT_NAMESPACE",
    "DocumentInvalid",
    "InvalidRef",
    "KindDef",
    "KindSet",
    "Ref",
    "RelationRule",
    "ValidDocument",
    "check_kind_definition",
    "parse_ref",
    "validate_document",
]
