"""The words that roles are made of: everything that somebody may or may not do.

All of the portal's own verbs stand here; a plugin adds its own with `register_verb`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise

EVERYTHING = "*"
"""In a role: every verb there is, a plugin's included."""


@dataclass(frozen=True)
class Verb:
    """One thing that somebody may do.

    :ivar name: noun and verb: `entity.write`.
    :ivar label: the same for people, in the infinitive.
    :ivar is_scoped: whether a grant for one namespace or query gives it there. What is not scoped concerns
        the whole portal and takes a grant for everything.
    :ivar by_token: whether a program may do it with a token, or only a person who signed in.
    """

    name: str
    label: _StrOrPromise
    is_scoped: bool = False
    by_token: bool = True


VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in [
        Verb("entity.read", _("See the catalog: entities, relations, activity, problems"), is_scoped=True),
        Verb("entity.write", _("Create, edit and delete entities"), is_scoped=True),
        Verb("tie.write", _("Tie, untie and merge what tools report"), is_scoped=True),
        Verb("problem.write", _("Dismiss problems"), is_scoped=True),
        Verb("raw.read", _("See what the tools reported, word by word"), is_scoped=True),
        Verb("operation.run", _("Run operations of low risk in connected tools"), is_scoped=True),
        Verb("operation.run-risky", _("Run any operation in connected tools"), is_scoped=True),
        Verb("connection.read", _("See connections and their runs"), is_scoped=True),
        Verb("connection.sync", _("Start and cancel sync runs"), is_scoped=True),
        Verb("connection.write", _("Add, change and remove connections")),
        Verb("kind.write", _("Change kinds and relation types")),
        Verb("mapping.write", _("Change mappings and rules")),
        Verb("page.write", _("Compose pages")),
        Verb("pack.write", _("Apply packs")),
        Verb("token.write", _("Make and revoke tokens of one's own"), is_scoped=True, by_token=False),
        Verb("user.read", _("See users, access groups and grants")),
        Verb("user.write", _("Change users, access groups and grants")),
        Verb("audit.read", _("Read the audit log")),
        Verb(EVERYTHING, _("Everything")),
    ]
}


def register_verb(verb: Verb) -> None:
    """Make a plugin's verb known, so that roles may hold it.

    :raises ValueError: if another verb of this name is known.
    """
    if VERBS.setdefault(verb.name, verb) != verb:
        raise ValueError(f"There is another verb {verb.name!r} already: {VERBS[verb.name]!r}.")
