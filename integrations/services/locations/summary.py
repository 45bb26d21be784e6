"""What an import did, in numbers and words."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class DocumentProblem:
    """Why a document or location was not taken in, and where exactly.

    :ivar document: its number in the file, from 1; 0 when the file itself could not be read.
    :ivar column: where what is wrong stands in the line, from 1; 0 when it is the document as a whole.
    """

    file: str
    document: int
    line: int
    path: str
    message: str
    ref: str = ""
    column: int = 0

    @property
    def place(self) -> dict[str, str | int]:
        """Where it is, as the catalog's problems keep it."""
        place: dict[str, str | int] = {"file": self.file, "document": self.document, "line": self.line}
        return place | ({"column": self.column} if self.column else {})


@dataclass
class ImportSummary:
    """What an import did; `documents` = `accepted` + `refused`; `written` and `unchanged` count entities.

    :ivar unread: places that could not be read, so that nothing was removed.
    """

    files: int = 0
    documents: int = 0
    accepted: int = 0
    refused: int = 0
    written: int = 0
    unchanged: int = 0
    removed: int = 0
    unread: int = 0
    problems: list[DocumentProblem] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`, and as the location's summary."""
        return asdict(self)

    def add(self, other: ImportSummary) -> None:
        """Put another location's numbers to these."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
