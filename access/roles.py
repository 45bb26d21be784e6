"""Roles as pack documents."""

from __future__ import annotations

import difflib
from typing import Any

from django.utils.translation import gettext as _

from access.definitions import DefinitionType, register_document_type
from access.models import Role
from access.services.grants import keeping_an_administrator
from access.verbs import VERBS
from base.errors import FieldError, InvalidInput


def check_role(name: str, spec: Any) -> dict[str, Any]:
    """A role's spec as it is stored: `title`, `description` and `verbs`.

    :raises InvalidInput: if it is wrong, with each place.
    """
    if not isinstance(spec, dict):
        raise InvalidInput(
            _("The spec of the role “%s” must be a mapping with `verbs`.") % name,
            errors=[FieldError("spec", _("Expected a mapping."), got=type(spec).__name__)],
        )
    errors = [
        FieldError(f"spec.{key}", _("A role has `title`, `description` and `verbs`."), got=str(key))
        for key in spec.keys() - {"title", "description", "verbs"}
    ]
    texts = {key: spec.get(key, "") for key in ("title", "description")}
    errors += [
        FieldError(f"spec.{key}", _("Expected text."), got=type(value).__name__)
        for key, value in texts.items()
        if not isinstance(value, str)
    ]
    verbs: Any = spec.get("verbs")
    if not isinstance(verbs, list) or not verbs:
        errors.append(FieldError("spec.verbs", _("Expected a list of verbs such as entity.read.")))
    else:
        errors += [
            FieldError(f"spec.verbs[{number}]", _unknown(verb), got=str(verb)[:60])
            for number, verb in enumerate(verbs)
            if not isinstance(verb, str) or verb not in VERBS
        ]
    if errors:
        raise InvalidInput(
            _("The role “%(name)s” is not valid: %(error)s") % {"name": name, "error": errors[0]},
            errors=errors,
        )
    return {"title": texts["title"] or name, "description": texts["description"], "verbs": sorted(set(verbs))}


def _unknown(verb: object) -> str:
    near = difflib.get_close_matches(str(verb), VERBS, n=1)
    if near:
        return _("There is no such verb. Did you mean %s?") % near[0]
    return _("There is no such verb. Known: %s.") % ", ".join(VERBS)


ROLES = DefinitionType("Role", Role, check_role, changing=keeping_an_administrator)
register_document_type(ROLES)
