"""The one query language: lists, API, widgets and permission scopes use it. See docs/query-language.md."""

from catalog.query.compile import compile_query
from catalog.query.editing import Term, combine, terms_of, toggle_term, without
from catalog.query.errors import QueryError
from catalog.query.facets import Facet, FacetValue
from catalog.query.field_facets import field_facets
from catalog.query.fields import FACETS, FIELDS
from catalog.query.mine import register_own_refs
from catalog.query.nodes import Node
from catalog.query.ordering import FIELD_KEY, TITLE, is_field, order_by, sortable
from catalog.query.parser import format_query, parse
from catalog.query.sight import register_sight
from catalog.query.suggest import Suggestion, suggest
from catalog.query.tokens import token, tokens_of

__all__ = [
    "FACETS",
    "FIELDS",
    "FIELD_KEY",
    "TITLE",
    "Facet",
    "FacetValue",
    "Node",
    "QueryError",
    "Suggestion",
    "Term",
    "combine",
    "compile_query",
    "field_facets",
    "format_query",
    "is_field",
    "order_by",
    "parse",
    "register_own_refs",
    "register_sight",
    "sortable",
    "suggest",
    "terms_of",
    "toggle_term",
    "token",
    "tokens_of",
    "without",
]
