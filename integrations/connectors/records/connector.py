"""Records: JSON Lines in the shared vocabulary, for a tool that has no connector of its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from pydantic import Field, field_validator

from base.limits import LimitExceeded, check_data
from base.text import excerpt
from integrations.contract import (
    BadPayload,
    Category,
    Check,
    ConnectionConfig,
    Connector,
    Misconfigured,
    Refused,
    SourceError,
    Token,
    ngettext,
    record_or_refusal,
    resource,
)
from integrations.contract import gettext as _
from integrations.records import ACTIVITY, ENTITIES, RECORD_TYPES, Record

Line = tuple[str, datetime, dict[str, Any]]  # its place, when it was written, and its object
# So many wrong lines before the first record, or in all, and the source is something else than JSON Lines.
_HOPELESS = 20
_MAX_WRONG = 1_000
_TRIED = 200


class Config(ConnectionConfig):
    """Where the records are."""

    location: str = Field(
        min_length=1,
        max_length=2_000,
        title="Location",
        description="A web address, or a full path on this server: of a file, or a folder of *.jsonl and *.ndjson.",
    )
    token: Token = None
    category: Category = Field(
        Category.FILES,
        title="Kind of tool",
        description="What the records are of; it colours the monogram.",
        json_schema_extra={"labels": {"ci": "CI"}},
    )
    types: list[str] = Field(
        [], title="Only these types", description="Record types to read, such as run; empty for all."
    )

    @field_validator("types")
    @classmethod
    def _known(cls, types: list[str]) -> list[str]:
        for unknown in sorted(set(types) - set(RECORD_TYPES)):
            raise ValueError(_no_type(unknown))
        return types


class Records(Connector[Config]):
    """Reads what others wrote for it. A line that is wrong is refused with its number; the rest goes on."""

    slug, label, monogram, category = "records", "Records", "Re", Category.FILES
    brings = "Anything: entities and activity as JSON Lines, from a file, a folder or a web address"

    async def checks(self) -> AsyncIterator[Check]:
        """Read the first lines."""
        found, wrong, sources = Counter[str](), list[Refused](), await self._sources()
        async with aclosing(self._lines(sources)) as lines:
            async for line in lines:
                record = line if isinstance(line, Refused) else self._record(*line)
                if isinstance(record, Refused):
                    wrong.append(record)
                else:
                    found[record.type] += 1
                if found.total() + len(wrong) >= _TRIED:
                    break
        files = _("%(count)d files") % {"count": len(sources)} if len(sources) > 1 else ""
        yield Check(_("Reached %(location)s") % {"location": self._shown()}, detail=files)
        types = ", ".join(f"{count} {type_}" for type_, count in found.most_common())
        remedy = "" if found else _("Write one JSON object a line, with a type and an external_id.")
        yield Check(_("Holds records"), bool(found), types or _("The first lines hold none."), remedy)
        if wrong:
            label = _("%(count)d of the first lines are wrong") % {"count": len(wrong)}
            first = f"{wrong[0].place}: {wrong[0].reason}"
            yield Check.failed(label, first, _("Mend them; the rest is read."))

    def failed(self, error: SourceError, *, is_first: bool) -> Check:
        """Whatever it is, the location cannot be read."""
        remedy = str(error.remedy or _("Correct the location or the token, or wait until it can be read."))
        return Check.failed(_("The location cannot be read"), error.message, remedy)

    @resource(of=ENTITIES)
    async def entities(self) -> AsyncIterator[Record | Refused]:
        """What exists. It is a complete list: what it no longer shows is gone."""
        async for item in self._of(ENTITIES):
            yield item

    @resource(of=ACTIVITY)
    async def activity(self) -> AsyncIterator[Record | Refused]:
        """What happened. What it no longer shows stays."""
        async for item in self._of(ACTIVITY):
            yield item

    async def _of(self, family: tuple[type[Record], ...]) -> AsyncIterator[Record | Refused]:
        """The records of one family; lines of which nobody can say what they are are told with the entities.

        :raises BadPayload: after all others, if there were such lines: the list is not whole.
        """
        wrong, places, types = list[Refused](), dict[str, str](), self.config.types
        wanted: set[type[Record] | None] = {model for model in family if not types or model.type in types}
        if family is ENTITIES:
            wanted.add(None)  # an unknown type is told once
        async with aclosing(self._lines(await self._sources())) as lines:
            async for line in lines:
                if isinstance(line, Refused):
                    wrong.append(line)
                    if family is ENTITIES:
                        yield line
                    continue
                place, _written, data = line
                external_id, model = data["external_id"].strip(), RECORD_TYPES.get(str(data.get("type")))
                if model not in wanted:
                    continue
                if external_id in places:
                    reason = _("The external_id is that of %(place)s.") % {"place": places[external_id]}
                    yield Refused(f"{external_id} ({place})", reason, place)
                    continue
                places[external_id] = place
                yield self._record(*line)
        if wrong:
            raise BadPayload(
                ngettext(
                    "%(count)d line is no record, so nothing is removed: %(place)s: %(reason)s",
                    "%(count)d lines are no records, so nothing is removed; the first is %(place)s: %(reason)s",
                    len(wrong),
                )
                % {"count": len(wrong), "place": wrong[0].place, "reason": wrong[0].reason}
            )

    def _record(self, place: str, written_at: datetime, data: dict[str, Any]) -> Record | Refused:
        fields = {name: value for name, value in data.items() if name not in ("type", "external_id")}
        model = RECORD_TYPES.get(str(data.get("type")))
        if model is None:
            return Refused(data["external_id"], _no_type(excerpt(data.get("type"))), place)
        record = record_or_refusal(model, data["external_id"], written_at, **fields)
        if isinstance(record, Refused):
            return Refused(record.external_id, f"{record.place}: {record.reason}", place)
        return record

    async def _sources(self) -> dict[str, Path | None]:
        """The streams of lines that the location stands for, by their names; that of the web has no path.

        :raises Misconfigured: if it is a folder without any.
        """
        location = self.config.location.removeprefix("file://")
        if not location.startswith("/"):
            return {self._shown(): None}
        true = self.files.confine(location)
        if not await asyncio.to_thread(true.is_dir):
            return {true.name: true}
        paths = [path async for path in self.files.walk(true, ["**/*.{jsonl,ndjson}"])]
        if not paths:
            raise Misconfigured(_("%(folder)s holds no *.jsonl or *.ndjson file.") % {"folder": location})
        return {str(path.relative_to(true)): path for path in paths}

    async def _lines(self, sources: dict[str, Path | None]) -> AsyncGenerator[Line | Refused]:
        """All lines; what holds no object with an id is refused.

        :raises BadPayload: if a source is something else than JSON Lines.
        """
        for name, path in sources.items():
            written_at = await asyncio.to_thread(_written_at, path)
            number = good = told = 0
            wrong: list[Refused] = []
            async with aclosing(self._read(path)) as lines:
                async for line in lines:
                    number += 1
                    if not (text := line.removeprefix(b"\xef\xbb\xbf").strip()):
                        continue
                    place = _("%(name)s, line %(number)d") % {"name": name, "number": number}
                    data = _object(text)
                    if isinstance(data, dict):
                        for refused in wrong[told:]:  # the source is JSON Lines after all
                            yield refused
                        good, told = good + 1, len(wrong)
                        yield place, written_at, data
                    else:
                        wrong.append(Refused(f"{name}#{number}"[-1_000:], data, place))
                        if len(wrong) >= (_MAX_WRONG if good else _HOPELESS):
                            break
            if wrong and (not good or len(wrong) >= _MAX_WRONG):
                raise BadPayload(
                    ngettext(
                        "%(place)s is no record; expected: one JSON object a line. %(reason)s",
                        "%(place)s begins %(count)d lines that are no records; expected: one JSON object a line. "
                        "%(reason)s",
                        len(wrong),
                    )
                    % {"place": wrong[0].place, "count": len(wrong), "reason": wrong[0].reason}
                )
            for refused in wrong[told:]:
                yield refused

    def _read(self, path: Path | None) -> AsyncGenerator[bytes]:
        if path:
            return self.files.lines(path)
        web = self.http.at(self.config.location, headers=self.http.bearer(self.config.token))
        return web.stream_lines(self.config.location)

    def _shown(self) -> str:
        """The location without what may be a secret in it."""
        parts = urlsplit(self.config.location)
        return f"{parts.hostname}{parts.path}" if parts.hostname else self.config.location


def _no_type(said: str) -> str:
    shown = {"type": said, "types": ", ".join(RECORD_TYPES)}
    return _("There is no record type %(type)s; there are: %(types)s") % shown


def _object(text: bytes) -> dict[str, Any] | str:
    """The object that a line holds, or why it holds none that can be told from others."""
    try:
        data = orjson.loads(text)
        check_data(data, what=_("The record"))
    except orjson.JSONDecodeError as error:
        return _("This is not JSON: %(why)s.") % {"why": error}
    except LimitExceeded as error:
        return error.message
    if not isinstance(data, dict):
        return _("This is JSON, but no object.")
    if not str(data.get("external_id") or "").strip() or not isinstance(data["external_id"], str):
        return _("The external_id is missing, or is no text.")
    return data


def _written_at(path: Path | None) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC) if path else datetime.now(UTC)
