"""Activity as rows and timeline items: the same words whatever tool it came from."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import pgettext_lazy

from catalog.models import Activity, Entity
from integrations.models import Connection
from portal import links
from portal.sources import badge, badge_of_connection
from portal.templatetags.statuses import status_of

# What each type of activity is called on a card and which icon stands for it when it has no status.
DOMAINS = {"run": "run", "deployment": "deployment", "alert": "alert", "incident": "alert", "check": "check"}
ICONS = {"commit": "git-commit", "change": "git-pull-request", "version": "tag", "issue": "circle-dot"}


def run_row(activity: Activity, acts: Sequence[dict[str, str]] = ()) -> dict[str, Any]:
    """A run as a row of a card, with what can be done to it."""
    return {
        "status": activity.status,
        "title": run_title(activity),
        "url": activity.url,
        "external": True,
        "branch": activity.branch,
        "commit": activity.commit,
        "duration": activity.duration,
        "at": activity.finished_at or activity.started_at or activity.at,
        "acts": acts,
    }


def run_title(activity: Activity) -> str:
    """A run by its pipeline and number."""
    name = activity.title or activity.subject_ref.rpartition("/")[2]
    return f"{name} #{activity.number}" if activity.number and f"#{activity.number}" not in name else name


def title_of(activity: Activity) -> str:
    """An activity in a few words."""
    match activity.type:
        case "run":
            return run_title(activity)
        case "version":
            return activity.title or activity.version
        case "deployment":
            return _("%(version)s to %(environment)s") % {
                "version": activity.version or activity.title or _("A version"),
                "environment": activity.environment,
            }
        case "change" | "issue":
            return f"#{activity.number} {activity.title}" if activity.number else activity.title
        case _:
            return activity.title or activity.external_id


def word_of(activity: Activity) -> tuple[str, str]:
    """What became of an activity: tone and word."""
    if activity.type in DOMAINS:
        status = status_of(DOMAINS[activity.type], activity.status)
        return status.tone, str(status.word).lower()
    words = {
        ("commit", ""): _("committed"),
        ("version", ""): _("published"),
        ("change", "open"): _("opened"),
        ("change", "merged"): _("merged"),
        ("change", "closed"): _("closed"),
        ("issue", "open"): _("opened"),
        ("issue", "closed"): _("closed"),
    }
    return "mute", words.get((activity.type, activity.status)) or words.get(
        (activity.type, ""), activity.status
    )


# How what happened goes with what it happened to: "#937 Speed up tokens merged into payment-gateway".
JOINS = {
    "run": pgettext_lazy("passed ... a pipeline", "in"),
    "commit": pgettext_lazy("committed ... a repository", "to"),
    "change": pgettext_lazy("opened ... a repository", "in"),
    "change merged": pgettext_lazy("merged ... a repository", "into"),
    "version": pgettext_lazy("published ... a package", "of"),
    "deployment": pgettext_lazy("1.2 to production deployed ... a component", "for"),
    "alert": pgettext_lazy("firing ... a component", "on"),
    "incident": pgettext_lazy("resolved ... a component", "on"),
    "check": pgettext_lazy("passes ... a component", "on"),
    "issue": pgettext_lazy("opened ... a repository", "in"),
}


def join_of(activity: Activity) -> str:
    """The word between what became of an activity and what it happened to."""
    found = JOINS.get(f"{activity.type} {activity.status}") or JOINS.get(activity.type)
    return str(found or "")


def _subject(activity: Activity, entity: Entity | None) -> dict[str, str] | None:
    """What it happened to: the entity, else its name, else the key under which it waits for one."""
    if entity is not None:
        return {"title": entity.title, "url": links.entity_url(entity), "join": join_of(activity)}
    key = activity.keys[0].partition(":")[2] if activity.keys else ""
    name = activity.subject_ref.rpartition("/")[2].rpartition(":")[2] or key
    return {"title": name, "url": "", "join": join_of(activity)} if name else None


def icon_of(activity: Activity) -> str:
    """What stands before an activity: the icon of its status where it has one, else of its type."""
    if activity.type in DOMAINS:
        return status_of(DOMAINS[activity.type], activity.status).icon
    return ICONS.get(activity.type, "point")


def days_of(
    activities: Iterable[Activity],
    subjects: dict[uuid.UUID, Entity],
    *,
    connections: Mapping[str, Connection],
    with_subject: bool = True,
    acts: Mapping[int, Sequence[dict[str, str]]] | None = None,
) -> list[dict[str, Any]]:
    """A timeline: days with their items; equal neighbours fold into one.

    :param connections: by slug.
    :param acts: what can be done to some of them, by their keys: items of a menu.
    """
    days: dict[date, list[dict[str, Any]]] = {}
    for activity in activities:
        at = timezone.localtime(activity.at)
        items = days.setdefault(at.date(), [])
        tone, word = word_of(activity)
        subject = subjects.get(activity.subject_uid) if activity.subject_uid else None
        item: dict[str, Any] = {
            "at": activity.at,
            "tone": tone,
            "icon": icon_of(activity),
            "title": title_of(activity),
            "url": activity.url,
            "external": True,
            "text": word,
            "actor": activity.actor,
            "source": badge_of_connection(connections[activity.connection])
            if activity.connection in connections
            else badge(activity.connection, activity.connector),
            "acts": (acts or {}).get(activity.pk, ()),
            "fold": (activity.type, activity.status, title_of(activity), activity.subject_uid),
        }
        if with_subject:
            item["subject"] = _subject(activity, subject)
        if items and items[-1]["fold"] == item["fold"]:
            items[-1]["more"] = items[-1].get("more", 0) + 1
        else:
            items.append(item)
    return [{"label": day_label(day), "date": day.isoformat(), "items": items} for day, items in days.items()]


def day_label(day: date, *, today: date | None = None) -> str:
    """A day as a heading: Today, Yesterday, else its date."""
    now = today or timezone.localdate()
    if day == now:
        return _("Today")
    if day == now - timedelta(days=1):
        return _("Yesterday")
    return date_format(day, "j M Y")


def newest(activities: Iterable[Activity]) -> datetime | None:
    """When the newest of some activities happened."""
    return max((activity.at for activity in activities), default=None)
