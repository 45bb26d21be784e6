"""Records: JSON Lines in the shared vocabulary, for a tool that has no connector of its own."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import orjson
from pydantic import Field, SecretStr, field_validator

from base.limits import LimitExceeded, check_data
from base.text import excerpt
from integrations.contract import (
    BadPayload,
    Category,
    Check,
    ConnectionConfig,
    Connector,
    Health,
    Misconfigured,
    Refused,
    SourceError,
    ngettext,
    record_or_refusal,
    resource,
)
from integrations.contract import gettext as _
from integrations.records import RECORD_TYPES, Record

ENTITIES = tuple(model for model in RECORD_TYPES.values() if model.makes == "entity")
ACTIVITY = tuple(model for model in RECORD_TYPES.values() if model.makes == "activity")
FILES = "**/*.{jsonl,ndjson}"
# So many wrong lines before the first record, or in all, and the source is something else than JSON Lines.
_HOPELESS = 20
_MAX_WRONG = 1_000
_TRIED = 200
_RELATIVE = re.compile(
    r"@(?P<sign>[+-])(?=\d)(?:(?P<weeks>\d{1,6})w)?(?:(?P<days>\d{1,6})d)?(?:(?P<hours>\d{1,6})h)?"
    r"(?:(?P<minutes>\d{1,9})m)?(?:(?P<seconds>\d{1,9})s)?"
)


class Config(ConnectionConfig):
    """Where the records are."""

    location: str = Field(
        min_length=1,
        max_length=2_000,
        title="Location",
        description="A web address, or the full path of a file or folder on this server. Of a folder, all "
        "*.jsonl and *.ndjson files are read.",
    )
    token: SecretStr | None = Field(
        None, title="Token", description="Sent to the web address as a bearer token. Empty for none."
    )
    category: Category = Field(
        Category.FILES,
        title="Kind of tool",
        description="What the records are of; it colours the monogram.",
        json_schema_extra={"labels": {"ci": "CI"}},
    )
    types: list[str] = Field(
        default_factory=list,
        title="Only these types",
        description="Record types to read, such as run or deployment. Empty for all.",
    )

    @field_validator("location")
    @classmethod
    def _readable(cls, location: str) -> str:
        urlsplit(location)  # raises a ValueError that says what is wrong
        return location

    @field_validator("types")
    @classmethod
    def _known(cls, types: list[str]) -> list[str]:
        if unknown := sorted(set(types) - set(RECORD_TYPES)):
            raise ValueError(
                _("There is no record type %(type)s; there are: %(types)s")
                % {"type": unknown[0], "types": ", ".join(RECORD_TYPES)}
            )
        return types


@dataclass(frozen=True)
class _Source:
    """One stream of lines.

    :ivar name: for people.
    :ivar written_at: what relative times count from.
    """

    name: str
    written_at: datetime
    path: Path | None = None


@dataclass(frozen=True)
class _Line:
    """A line that holds an object."""

    place: str
    written_at: datetime
    data: dict[str, Any]

    def refused(self, external_id: str, reason: str) -> Refused:
        return Refused(external_id=external_id[:1_000], reason=reason, place=self.place)


class Records(Connector[Config]):
    """Reads what others wrote for it. A line that is wrong is refused with its number; the rest goes on."""

    slug = "records"
    label = "Records"
    monogram = "Re"
    category = Category.FILES
    brings = "Anything: entities and activity as JSON Lines, from a file, a folder or a web address"

    async def check(self) -> Health:
        """Read the first lines."""
        found: Counter[str] = Counter()
        wrong: list[Refused] = []
        try:
            sources = await self._sources()
            async with aclosing(self._lines(sources, wrong)) as lines:
                async for line in lines:
                    record = self._record(line)
                    found[record.type if isinstance(record, Record) else ""] += 1
                    if isinstance(record, Refused):
                        wrong.append(record)
                    if found.total() >= _TRIED:
                        break
        except SourceError as error:
            remedy = _("Correct the location or the token, or wait until the location can be read again.")
            label = _("The location cannot be read")
            return Health([Check(label=label, ok=False, detail=error.message, remedy=remedy)])
        del found[""]
        types = ", ".join(f"{count} {type_}" for type_, count in found.most_common())
        checks = [
            Check(
                label=_("Reached %(location)s") % {"location": self._shown()},
                ok=True,
                detail=_("%(count)d files") % {"count": len(sources)} if len(sources) > 1 else "",
            ),
            Check(
                label=_("Holds records"),
                ok=bool(found),
                detail=types or _("The first lines hold none."),
                remedy="" if found else _("Write one JSON object a line, with a type and an external_id."),
            ),
        ]
        if wrong:
            first = f"{wrong[0].place}: {wrong[0].reason}"
            label = _("%(count)d of the first lines are wrong") % {"count": len(wrong)}
            checks.append(
                Check(label=label, ok=False, detail=first, remedy=_("Mend them; the rest is read."))
            )
        return Health(checks)

    @resource(of=ENTITIES)
    async def entities(self) -> AsyncIterator[Record | Refused]:
        """What exists. It is a complete list: what it no longer shows is gone."""
        async for item in self._of(ENTITIES, tells_wrong_lines=True):
            yield item

    @resource(of=ACTIVITY)
    async def activity(self) -> AsyncIterator[Record | Refused]:
        """What happened. What it no longer shows stays."""
        async for item in self._of(ACTIVITY):
            yield item

    async def _of(
        self, family: tuple[type[Record], ...], *, tells_wrong_lines: bool = False
    ) -> AsyncIterator[Record | Refused]:
        """The records of one family.

        :param tells_wrong_lines: also tell the lines of which nobody can say what they are.
        :raises BadPayload: after all others, if there were such lines: the list is not whole.
        """
        wrong: list[Refused] = []
        told = 0
        places: dict[str, str] = {}
        async with aclosing(self._lines(await self._sources(), wrong)) as lines:
            async for line in lines:
                if tells_wrong_lines:
                    for refusal in wrong[told:]:
                        yield refusal
                    told = len(wrong)
                type_, external_id = line.data.get("type"), line.data["external_id"].strip()
                if not self._is_wanted(type_, family):
                    continue
                if external_id in places:
                    reason = _("The external_id is that of %(place)s.") % {"place": places[external_id]}
                    yield line.refused(f"{external_id} ({line.place})", reason)
                    continue
                places[external_id] = line.place
                yield self._record(line)
        if tells_wrong_lines:
            for refusal in wrong[told:]:
                yield refusal
        if wrong:
            raise BadPayload(
                ngettext(
                    "%(count)d line is no record, so nothing is removed: %(place)s: %(reason)s",
                    "%(count)d lines are no records, so nothing is removed; the first is %(place)s: %(reason)s",
                    len(wrong),
                )
                % {"count": len(wrong), "place": wrong[0].place, "reason": wrong[0].reason}
            )

    def _is_wanted(self, type_: Any, family: tuple[type[Record], ...]) -> bool:
        """Whether a line belongs to the family; an unknown type is told with the entities."""
        if not isinstance(type_, str) or type_ not in RECORD_TYPES:
            return family is ENTITIES
        return RECORD_TYPES[type_] in family and (not self.config.types or type_ in self.config.types)

    def _record(self, line: _Line) -> Record | Refused:
        fields = {name: value for name, value in line.data.items() if name not in ("type", "external_id")}
        external_id, type_ = line.data["external_id"], line.data.get("type")
        model = RECORD_TYPES.get(str(type_))
        if model is None:
            reason = _("There is no record type %(type)s; there are: %(types)s")
            shown = {"type": excerpt(type_), "types": ", ".join(RECORD_TYPES)}
            return line.refused(external_id, reason % shown)
        record = record_or_refusal(model, external_id, **_with_times(fields, line.written_at))
        if isinstance(record, Refused):
            return line.refused(external_id, f"{record.place}: {record.reason}")
        return record

    async def _sources(self) -> list[_Source]:
        """The streams of lines that the location stands for.

        :raises Misconfigured: if it is a folder without any.
        """
        location = self.config.location.removeprefix("file://")
        now = datetime.now(UTC)
        if not location.startswith("/"):
            return [_Source(self._shown(), now)]
        true = self.files.confine(location)
        if not await asyncio.to_thread(true.is_dir):
            return [_Source(true.name, await _written_at(true), true)]
        paths = [path async for path in self.files.walk(true, [FILES])]
        if not paths:
            raise Misconfigured(
                _("%(folder)s holds no *.jsonl or *.ndjson file.") % {"folder": self.config.location}
            )
        return [_Source(str(path.relative_to(true)), await _written_at(path), path) for path in paths]

    async def _lines(self, sources: list[_Source], wrong: list[Refused]) -> AsyncGenerator[_Line, None]:
        """All lines that hold an object with an id; others are added to `wrong`.

        :raises BadPayload: if a source is something else than JSON Lines.
        """
        for source in sources:
            number = good = bad = 0
            async with aclosing(self._read(source)) as lines:
                async for line in lines:
                    number += 1
                    if not (text := line.removeprefix(b"\xef\xbb\xbf").strip()):
                        continue
                    place = _("%(name)s, line %(number)d") % {"name": source.name, "number": number}
                    data, reason = _object(text)
                    if data is not None:
                        good += 1
                        yield _Line(place, source.written_at, data)
                        continue
                    bad += 1
                    external_id = f"{source.name}#{number}"[-1_000:]
                    wrong.append(Refused(external_id=external_id, reason=reason, place=place))
                    if bad >= (_MAX_WRONG if good else _HOPELESS):
                        break
            if bad and (not good or bad >= _MAX_WRONG):
                raise BadPayload(
                    ngettext(
                        "%(place)s is no record; expected: one JSON object a line. %(reason)s",
                        "%(place)s begins %(count)d lines that are no records; expected: one JSON object a line. "
                        "%(reason)s",
                        bad,
                    )
                    % {"place": wrong[-bad].place, "count": bad, "reason": wrong[-bad].reason}
                )

    def _read(self, source: _Source) -> AsyncGenerator[bytes, None]:
        token = self.config.token
        headers = self.http.bearer(token.get_secret_value()) if token else {}
        lines = (
            self.files.lines(source.path)
            if source.path
            else self.http.at(self.config.location, headers=headers).stream_lines(self.config.location)
        )
        return cast("AsyncGenerator[bytes, None]", lines)

    def _shown(self) -> str:
        """The location without what may be a secret in it."""
        parts = urlsplit(self.config.location)
        return f"{parts.hostname}{parts.path}" if parts.hostname else self.config.location


def _object(text: bytes) -> tuple[dict[str, Any] | None, str]:
    """The object that a line holds, or why it holds none that can be told from others."""
    try:
        data = orjson.loads(text)
        check_data(data, what=_("The record"))
    except orjson.JSONDecodeError as error:
        return None, _("This is not JSON: %(why)s.") % {"why": error}
    except LimitExceeded as error:
        return None, error.message
    if not isinstance(data, dict):
        return None, _("This is JSON, but no object.")
    external_id = data.get("external_id")
    if not isinstance(external_id, str) or not external_id.strip():
        return None, _("The external_id is missing, or is no text.")
    return data, ""


def _with_times(data: dict[str, Any], since: datetime) -> dict[str, Any]:
    """The fields with relative times such as `@-3d2h` made absolute, those of steps too."""

    def absolute(name: str, value: Any) -> Any:
        is_time = name == "as_of" or name.endswith("_at")
        if is_time and isinstance(value, str) and (found := _RELATIVE.fullmatch(value)):
            parts = {
                unit: int(count) for unit, count in found.groupdict().items() if unit != "sign" and count
            }
            try:
                return since + timedelta(**parts) * (-1 if found["sign"] == "-" else 1)
            except OverflowError:  # no calendar goes so far; the record's model says so
                return value
        if name == "steps" and isinstance(value, list):
            return [_with_times(step, since) if isinstance(step, dict) else step for step in value]
        return value

    return {name: absolute(name, value) for name, value in data.items()}


async def _written_at(path: Path) -> datetime:
    status = await asyncio.to_thread(path.stat)
    return datetime.fromtimestamp(status.st_mtime, UTC)
