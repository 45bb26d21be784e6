"""What every operation of the API has in common, for its description."""

from __future__ import annotations

from typing import Any

from base.api import PROBLEM_JSON

_METHODS = {"get", "put", "post", "delete", "patch", "head", "options"}
_TEXT = {"type": "string"}
_PROBLEM = {
    "type": "object",
    "description": "What went wrong (RFC 9457): what was expected, what came, where, and what to do.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "code": {"type": "string", "description": "Stable name of the failure, for programs."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["path", "message"],
                "properties": {"path": _TEXT, "message": _TEXT, "expected": _TEXT, "got": _TEXT},
            },
        },
        "request_id": _TEXT,
    },
}


def describe_problems(result: dict[str, Any], **_more: Any) -> dict[str, Any]:
    """A hook of drf-spectacular: any operation may answer with problem details."""
    result["components"]["schemas"]["Problem"] = _PROBLEM
    answer = {
        "description": "Problem details.",
        "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for operations in result["paths"].values():
        for method, operation in operations.items():
            if method in _METHODS:
                operation["responses"].setdefault("default", answer)
    return result
