"""The envelope that every definition shares: kinds, mappings, pages, roles.

A definition is what a platform team composes. It comes from a pack or from the browser, it is served by its
name, and it can always go back to what the pack shipped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from django.db import connection, models, transaction
from django.utils.translation import gettext_lazy as _


class Definition(models.Model):
    """One named definition; a pack that is applied later replaces an earlier one's of the same name.

    :ivar pack: the pack that the definition came with; empty when it was composed in the browser.
    :ivar format_version: the format that `spec` is written in, so that a later release can convert it.
    :ivar spec: what is served.
    :ivar pristine: `spec` as the pack shipped it; None when it was composed in the browser.
    :ivar draft: an edit that is not served yet, or None.
    :ivar revision: grows with each change of `spec`.
    :ivar updated_by: who changed it last, as a label that outlives the account.
    """

    pack = models.CharField(_("pack"), max_length=100, blank=True)
    name = models.CharField(_("name"), max_length=200, unique=True)
    format_version = models.PositiveSmallIntegerField(_("format version"), default=1)
    spec = models.JSONField(_("definition"))
    pristine = models.JSONField(_("as the pack shipped it"), null=True, blank=True, editable=False)
    draft = models.JSONField(_("draft"), null=True, blank=True)
    revision = models.PositiveIntegerField(_("revision"), default=1, editable=False)
    updated_at = models.DateTimeField(_("last changed"), auto_now=True)
    updated_by = models.CharField(_("changed by"), max_length=200, blank=True, editable=False)

    class Meta:
        abstract = True
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_edited(self) -> bool:
        """Whether it came from a pack and differs from what that pack shipped."""
        return self.pristine is not None and self.spec != self.pristine

    def replace_spec(self, spec: Any, *, by: str) -> None:
        """Serve this definition from now on; the caller saves, inside of a transaction."""
        self.spec, self.draft = spec, None
        self.revision += 1
        self.updated_by = by[:200]


D = TypeVar("D", bound=Definition)


@dataclass(frozen=True)
class DefinitionType(Generic[D]):
    """A type of pack document whose rows are definitions: how it is checked, applied and exported.

    The portal reads packs, plans and calls; each floor registers its own types with `register_document_type`.
    A type of document that is no definition is a class of its own with the same methods.

    :ivar kind: the document's `kind`: `Role`.
    :ivar check: gets name and `spec`, returns the spec as it is stored, raises `InvalidInput`.
    :ivar changing: what has to be open around a change, such as `changing_access`.
    """

    kind: str
    model: type[D]
    check: Callable[[str, Any], Any]
    changing: Callable[[], AbstractContextManager[Any]] = transaction.atomic
    format_version: int = 1

    def validate(self, name: str, spec: Any) -> Any:
        """The spec as it would be stored.

        :raises InvalidInput: if it is wrong, with each place.
        """
        return self.check(name, spec)

    def current(self, name: str) -> Any:
        """The spec that is served under this name now, or None."""
        return self.model._default_manager.filter(name=name).values_list("spec", flat=True).first()

    def has_to_wait(self, name: str, spec: Any) -> bool:
        """Whether a pack's definition is served only once something in the background is done."""
        return False

    def apply(
        self, name: str, spec: Any, *, pack: str, by: str, keep_edits: bool = False
    ) -> DefinitionChange | None:
        """Serve a pack's definition.

        :param keep_edits: leave what a person has edited since; only the pristine copy is renewed.
        :returns: what changed, for the audit log; None if nothing did, or it has to wait.
        :raises InvalidInput: if the spec is wrong, with each place.
        """
        spec = self.validate(name, spec)
        with self.changing():
            row = self.model._default_manager.select_for_update().filter(name=name).first()
            before = row.spec if row else None
            if row is None:
                row = self.model(name=name, spec=spec, updated_by=by[:200])
            elif row.spec != spec and not (keep_edits and row.is_edited):
                row.replace_spec(spec, by=by)
            elif (row.pack, row.pristine, row.format_version) == (pack, spec, self.format_version):
                return None
            row.pack, row.pristine, row.format_version = pack, spec, self.format_version
            row.save()
        return DefinitionChange(row, before, row.spec) if before != row.spec else None

    def edit(self, name: str, spec: Any, *, by: str) -> DefinitionChange | None:
        """Serve a definition that was composed in the browser or by the API; what the pack shipped is kept.

        :returns: what changed, for the audit log; None if nothing did.
        :raises InvalidInput: if the spec is wrong, with each place.
        """
        spec = self.validate(name, spec)
        with self.changing():
            row = self.model._default_manager.select_for_update().filter(name=name).first()
            before = row.spec if row else None
            if before == spec:
                return None
            if row is None:
                row = self.model(
                    name=name, spec=spec, format_version=self.format_version, updated_by=by[:200]
                )
            else:
                row.replace_spec(spec, by=by)
            row.save()
        return DefinitionChange(row, before, row.spec)

    def delete(self, name: str) -> DefinitionChange | None:
        """Take a definition away.

        :returns: what changed, for the audit log; None if there was none.
        """
        with self.changing():
            row = self.model._default_manager.select_for_update().filter(name=name).first()
            if row is None:
                return None
            change = DefinitionChange(row, row.spec, None)
            row.delete()
        return change

    def rows(self) -> models.QuerySet[D]:
        """What a platform team composes: all of the model, unless people keep some for themselves."""
        return self.model._default_manager.order_by("name")

    def export(self, *, pack: str | None = None) -> Iterator[tuple[str, Any]]:
        """Name and spec of what is served, of one pack or of all."""
        rows = self.rows()
        yield from (rows if pack is None else rows.filter(pack=pack)).values_list("name", "spec")


class DefinitionChange(NamedTuple):
    """What applying, editing or deleting did to a definition.

    :ivar before: the spec until now; None if the definition is new.
    :ivar after: the spec from now on; None if the definition is gone.
    """

    row: Definition
    before: Any
    after: Any


_document_types: dict[str, DefinitionType[Any]] = {}


def register_document_type(document_type: DefinitionType[Any]) -> None:
    """Make a type of pack document known.

    :raises ValueError: if another type of this kind is known.
    """
    if _document_types.setdefault(document_type.kind, document_type) is not document_type:
        raise ValueError(f"There is another type of pack document {document_type.kind!r} already.")


def document_types() -> dict[str, DefinitionType[Any]]:
    """The types of pack documents that are known, by kind, in the order in which they are applied."""
    return dict(_document_types)


class _Stamps:
    """What the definitions in force look like, of all types at once; at most a second old."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._checked = float("-inf")
        self._stamps: dict[str, Any] = {}

    def get(self, model: type[Definition]) -> Any:
        with self._lock:
            if time.monotonic() - self._checked > STAMP_SECONDS:
                tables = sorted({kind.model._meta.db_table for kind in _document_types.values()})
                selects = " UNION ALL ".join(
                    f"SELECT '{table}', count(*), "  # noqa: S608
                    f"sum(hashtextextended(name || spec::text || pack || revision, 0)) FROM {table}"
                    for table in tables
                )
                with connection.cursor() as cursor:
                    cursor.execute(selects)
                    self._stamps = {table: (count, total) for table, count, total in cursor.fetchall()}
                self._checked = time.monotonic()
            return self._stamps.get(model._meta.db_table)

    def forget(self) -> None:
        with self._lock:
            self._checked = float("-inf")


STAMP_SECONDS = 1.0
_stamps = _Stamps()


def definitions_stamp(model: type[Definition]) -> Any:
    """Differs when a definition of this model was changed by whatever means: for caches of compiled definitions.

    All models are looked at in one query, once a second at most.
    """
    return _stamps.get(model)


def forget_stamps() -> None:
    """Look again at the next question: after a change in this process."""
    _stamps.forget()
