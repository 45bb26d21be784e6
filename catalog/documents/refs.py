"""Entity refs: `kind:namespace/name`, with kind and namespace left out where the place implies them."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from base.errors import InvalidInput
from base.text import excerpt

DEFAULT_NAMESPACE = "default"
MAX_REF = 1_000


class InvalidRef(InvalidInput):
    """The text is no reference to an entity."""

    code = "invalid-ref"
    title = gettext_lazy("This is no reference to an entity")


class Ref(NamedTuple):
    """A complete reference, in the case in which it was written."""

    kind: str
    namespace: str
    name: str

    @property
    def text(self) -> str:
        """The ref as it is compared and stored: lower case."""
        return f"{self.kind}:{self.namespace}/{self.name}".lower()

    def __str__(self) -> str:
        return self.text


@lru_cache(maxsize=100_000)
def parse_ref(text: str, default_kind: str | None = None, default_namespace: str = DEFAULT_NAMESPACE) -> Ref:
    """Complete a reference.

    :param default_kind: the kind that is meant if the text names none.
    :param default_namespace: for what an entity refers to: the namespace of that entity.
    :raises InvalidRef: if a part is empty, or no kind is known.
    """
    colon, slash = text.find(":"), text.find("/")
    if -1 < slash < colon:
        colon = -1  # the colon belongs to the name
    kind = text[:colon] if colon >= 0 else default_kind
    namespace = text[colon + 1 : slash] if slash >= 0 else default_namespace
    name = text[max(colon, slash) + 1 :]
    if kind == "" or not namespace or not name:
        raise InvalidRef(
            _("%(text)s is no reference; expected [kind:][namespace/]name.") % {"text": excerpt(text)}
        )
    if kind is None:
        raise InvalidRef(
            _("%(text)s does not say of which kind it is; write component:..., resource:... or the like.")
            % {"text": excerpt(text)}
        )
    if len(text) > MAX_REF or len(text.encode("utf-8", "replace")) > 2 * MAX_REF:
        raise InvalidRef(
            _("%(text)s has %(length)d characters; a reference has at most %(limit)d.")
            % {"text": excerpt(text), "length": len(text), "limit": MAX_REF}
        )
    return Ref(kind, namespace, name)
