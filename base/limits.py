"""Limits of input: size, depth, count, length. What is read from outside passes one of these checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from base.errors import DomainError, FieldError

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise

MAX_FILE_BYTES = 10 * 1024 * 1024  # one YAML file, with all its documents
MAX_DOCUMENT_BYTES = 2 * 1024 * 1024  # one document; API definitions of hundreds of kilobytes are usual
MAX_BODY_BYTES = 10 * 1024 * 1024  # the body of one API request
MAX_DEPTH = 64  # of nested lists and objects; CEL and JSON engines crash far above
MAX_NODES = 200_000  # values in one document, what aliases repeat included
MAX_STRING = 2 * 1024 * 1024
MAX_DOCUMENTS = 50_000  # in one file
MAX_ALIASES = 1_000  # uses of YAML anchors in one document


class LimitExceeded(DomainError):
    """The input is larger, deeper or longer than is accepted."""

    code = "limit-exceeded"
    status = 413
    title = gettext_lazy("The input exceeds a limit")


def readable_size(count: int) -> str:
    """A number of bytes for people: 2 MiB, 310 KiB."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count} bytes"


def check_size(count: int, limit: int, *, what: _StrOrPromise) -> None:
    """:raises LimitExceeded: if `what` has more bytes than `limit`."""
    if count > limit:
        size, most = readable_size(count), readable_size(limit)
        # What is larger by little, or was read no further, is as large in words.
        raise LimitExceeded(
            _("%(what)s has %(size)s; at most %(limit)s are accepted.")
            % {"what": what, "size": _("more than %s") % most if size == most else size, "limit": most}
        )


def check_data(
    data: Any,
    *,
    what: _StrOrPromise,
    max_depth: int = MAX_DEPTH,
    max_nodes: int = MAX_NODES,
    max_string: int = MAX_STRING,
) -> None:
    """Check plain JSON data level by level, without recursion, so that no depth can hurt.

    Also refuses the character NUL, which no text column can hold.

    :raises LimitExceeded: if it is deeper, has more values or a longer string than allowed.
    """
    nodes = 0
    depth = 0
    level: list[Any] = [data]
    while level:
        depth += 1
        nodes += len(level)
        if depth > max_depth + 1:
            raise LimitExceeded(
                _("%(what)s is nested more than %(limit)d levels deep.") % {"what": what, "limit": max_depth}
            )
        if nodes > max_nodes:
            raise LimitExceeded(
                _("%(what)s holds more than %(limit)d values.") % {"what": what, "limit": max_nodes}
            )
        below: list[Any] = []
        for value in level:
            if isinstance(value, str):
                _check_string(value, what, max_string)
            elif isinstance(value, dict):
                for key in value:
                    _check_string(key, what, max_string)
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
        level = below


def _check_string(value: str, what: _StrOrPromise, limit: int) -> None:
    if len(value) > limit:
        raise LimitExceeded(
            _("%(what)s holds a string of %(length)d characters; at most %(limit)d are accepted.")
            % {"what": what, "length": len(value), "limit": limit}
        )
    if "\0" in value:
        before = value.split("\0", 1)[0][-40:]
        raise LimitExceeded(
            _("%(what)s holds the character NUL (U+0000), which cannot be stored; take it out.")
            % {"what": what},
            errors=[FieldError("", _("NUL stands after “%(before)s”.") % {"before": before})],
        )
