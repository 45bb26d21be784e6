"""Rows as a CSV file that a spreadsheet opens as what it is: text, never a formula."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from io import StringIO

from django.http import StreamingHttpResponse

Cell = str | int | float | datetime | None

# What a spreadsheet takes for the beginning of a formula, also after white space and in full-width form.
_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")


def csv_response(rows: Iterable[Sequence[Cell]], *, filename: str) -> StreamingHttpResponse:
    """A file to save, sent while its rows are still being read.

    :param filename: plain ASCII, without quotes.
    """
    answer = StreamingHttpResponse(_lines(rows), content_type="text/csv; charset=utf-8")
    answer.headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _lines(rows: Iterable[Sequence[Cell]]) -> Iterator[str]:
    buffer = StringIO()
    writer = csv.writer(buffer)
    yield "\ufeff"  # without it a spreadsheet reads UTF-8 as something else
    for row in rows:
        writer.writerow([inert(cell) for cell in row])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def inert(cell: Cell) -> str | int | float:
    """A value as it stands in the file; a text that would be computed gets an apostrophe before it."""
    match cell:
        case None:
            return ""
        case datetime():
            return cell.isoformat(timespec="seconds")
        case str():
            return (
                f"'{cell}"
                if cell.startswith(("\t", "\r", "\n")) or cell.lstrip().startswith(_FORMULA)
                else cell
            )
    return cell
