"""The audit log: who did what to which thing, when and from where."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from django.db.models import Model

from access.actors import Actor, actor_of, current_actor
from access.models import AuditEvent, User
from base.logs import MASK, mask_secrets

_SECRET_NAME = re.compile(
    r"pass(word|wd|phrase)|pwd|secret|token|credential|(api|access|private|encryption)_?-?key|authorization"
    r"|cookie|digest|sealed",
    re.IGNORECASE,
)
_MAX_TEXT = 2_000


class Subject(NamedTuple):
    """What was acted on, in words that outlive it."""

    type: str
    uid: str
    label: str

    @classmethod
    def of(cls, row: Model) -> Self:
        """This row: its model's name, its `uid` or else its key, and what it calls itself."""
        return cls(str(row._meta.model_name), str(getattr(row, "uid", None) or row.pk), str(row))


def record_audit(
    verb: str,
    subject: Model | Subject | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    actor: Actor | User | None = None,
) -> AuditEvent:
    """Record a write, in the transaction of that write.

    :param verb: what was done: `entity.update`, `token.create`.
    :param changes: what changed, `{field: [before, after]}`, or other facts; secrets in it are masked.
    :param actor: who did it; by default `access.actors.current_actor`.
    """
    who = actor if isinstance(actor, Actor) else actor_of(actor) if actor is not None else current_actor()
    what = Subject.of(subject) if isinstance(subject, Model) else subject or Subject("", "", "")
    return AuditEvent.objects.create(
        actor_type=who.type,
        actor_uid=who.uid,
        actor_label=who.label[:200],
        verb=verb,
        subject_type=what.type,
        subject_uid=what.uid,
        subject_label=what.label[:300],
        changes=_masked(changes or {}),
        request_id=who.request_id,
        ip=who.ip,
    )


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What differs, as `record_audit` takes it."""
    names = [*before, *(name for name in after if name not in before)]
    return {
        name: [before.get(name), after.get(name)] for name in names if before.get(name) != after.get(name)
    }


def _masked(value: Any, *, is_secret: bool = False) -> Any:
    """The value as plain JSON data without secrets."""
    if isinstance(value, Mapping):
        return {
            str(name): _masked(below, is_secret=is_secret or bool(_SECRET_NAME.search(str(name))))
            for name, below in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_masked(below, is_secret=is_secret) for below in value]
    if value is None or isinstance(value, bool):
        return value
    if is_secret:
        return MASK
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    text = mask_secrets(str(value))
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "…"
