"""Dates in queries: `2026-01-31`, `2026-01`, `today`, `7d`.

A date is a span of time; `>` means after all of it, `>=` from its beginning. A duration is an age: `<7d` is
less than seven days ago. Days begin at midnight UTC, so that a stored query means the same to everybody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from catalog.query.nodes import Value

Lookup = Literal["lt", "lte", "gt", "gte"]
Bounds = list[tuple[Lookup, datetime]]

_UNITS = {
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "mo": timedelta(days=30),
    "y": timedelta(days=365),
}
_AGE = re.compile(rf"(\d{{1,6}})({'|'.join(_UNITS)})", re.ASCII)
_DATE = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d))?(Z|[+-]\d\d:\d\d)?)?)?)?",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Period:
    """From `start`, up to but without `end`."""

    start: datetime
    end: datetime


def bounds(value: Value, *, now: datetime) -> Bounds | None:
    """What a moment has to fulfil to match a value: all of these.

    :return: None if the value is no date, no duration, and no range of either.
    """
    try:
        if value.operator == "..":
            return _range(value, now)
        if (age := _age(value.text)) is not None:
            return _older_or_younger(value.operator, now - age)
        if (period := _period(value.text, now)) is None:
            return None
    except (ValueError, OverflowError):  # no such day, or out of the calendar
        return None
    match value.operator:
        case "=":
            return [("gte", period.start), ("lt", period.end)]
        case "<":
            return [("lt", period.start)]
        case "<=":
            return [("lt", period.end)]
        case ">":
            return [("gte", period.end)]
        case _:
            return [("gte", period.start)]


def _older_or_younger(operator: str, moment: datetime) -> Bounds:
    lookups: dict[str, Lookup] = {"=": "gte", "<": "gt", "<=": "gte", ">": "lt", ">=": "lte"}
    return [(lookups[operator], moment)]


def _range(value: Value, now: datetime) -> Bounds | None:
    found: Bounds = []
    ages = [_age(end) for end in (value.text, value.upper) if end]
    if all(age is not None for age in ages):
        if value.text and (youngest := _age(value.text)) is not None:
            found.append(("lte", now - youngest))
        if value.upper and (oldest := _age(value.upper)) is not None:
            found.append(("gte", now - oldest))
        return found
    for end, is_upper in ((value.text, False), (value.upper, True)):
        if end:
            period = _period(end, now)
            if period is None:
                return None
            found.append(("lt", period.end) if is_upper else ("gte", period.start))
    return found


def _age(text: str) -> timedelta | None:
    match = _AGE.fullmatch(text.lower())
    return int(match[1]) * _UNITS[match[2]] if match else None


def _period(text: str, now: datetime) -> _Period | None:
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    day = timedelta(days=1)
    if text.lower() == "today":
        return _Period(midnight, midnight + day)
    if text.lower() == "yesterday":
        return _Period(midnight - day, midnight)
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    year, month, date, hour, _minute, second, zone = match.groups()
    if hour is not None:
        start = datetime.fromisoformat(text.upper() + ("" if zone else "Z")).astimezone(UTC)
        return _Period(start, start + timedelta(seconds=1 if second else 60))
    start = datetime(int(year), int(month or 1), int(date or 1), tzinfo=UTC)
    if date is not None:
        return _Period(start, start + day)
    if month is not None:
        return _Period(start, _first_of(int(year) + int(month) // 12, int(month) % 12 + 1))
    return _Period(start, _first_of(int(year) + 1, 1))


def _first_of(year: int, month: int) -> datetime:
    return datetime(year, month, 1, tzinfo=UTC)
