"""Cards over activity: runs, versions, changes, deployments, the timeline."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import date, timedelta
from statistics import median
from typing import Any, Literal

from django.db.models import QuerySet
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from pydantic import Field

from access.permissions import can
from base.pagination import paginate
from catalog import failing, queries
from catalog.models import Activity, Entity
from integrations.services.targets import operations_on_activity
from portal import events, links
from portal.sources import connections_of
from portal.widgets.base import Absent, NothingToShow, PageContext, Widget, WidgetConfig, register

Type = Literal["run", "commit", "change", "version", "deployment", "alert", "incident", "issue", "check"]


def entity_of(context: PageContext) -> Entity:
    """The entity that the page is about.

    :raises Absent: on a page that is about none.
    """
    if context.entity is None:
        raise Absent
    return context.entity


def reach(context: PageContext) -> list[Any]:
    """Whose activity shows on the page's entity, found once a page."""
    if "reach" not in context.cache:
        context.cache["reach"] = queries.reach(entity_of(context))
    return context.cache["reach"]


# What the cards of one entity show, read in one statement for all of them.
CARD_TYPES = ("run", "version", "commit", "change", "deployment")
CARD_ROWS = 50


def latest(context: PageContext, *kinds: str, limit: int) -> list[Activity]:
    """The entity's newest activities of some types, newest first."""
    if "latest" not in context.cache:
        uids = [uid for uid, _shared in reach(context)]
        available = context.delivered
        types = [kind for kind in CARD_TYPES if kind in available]
        context.cache["latest"] = queries.latest_by_type(context.viewer, uids, types, limit=CARD_ROWS)
    rows = [activity for activity in context.cache["latest"] if activity.type in kinds]
    return sorted(rows, key=lambda activity: (activity.at, activity.pk), reverse=True)[:limit]


class RowsConfig(WidgetConfig):
    """How much a card shows."""

    rows: int = Field(5, ge=1, le=50, description="Rows of the card.")


def acts_on(context: PageContext, activities: Iterable[Activity]) -> dict[int, list[dict[str, str]]]:
    """What the viewer may do to what happened on an entity's page, as items of menus, by the activity's key."""
    entity = entity_of(context)
    return {
        key: [
            {"label": _(one.spec.label), "url": one.url(links.entity_url(entity)), "icon": "player-play"}
            for one in offered
        ]
        for key, offered in operations_on_activity(
            context.viewer, entity, activities, connections_of(context.request).values()
        ).items()
    }


@register
class Runs(Widget[RowsConfig]):
    """The last runs of the entity's pipelines."""

    slug = "runs"
    label = gettext_lazy("Runs")
    description = gettext_lazy("Builds and pipelines of any connected tool")
    template = "widgets/runs.html"
    needs = frozenset({"run"})

    def data(self, context: PageContext) -> dict[str, Any]:
        entity = entity_of(context)
        found = latest(context, "run", limit=max(self.config.rows, 12))
        if not found:
            raise NothingToShow(_("No runs yet. They appear once a pipeline builds it."), icon="player-play")
        shared = {uid for uid, is_shared in reach(context) if is_shared}
        acts = acts_on(context, found[: self.config.rows])
        rows = [events.run_row(activity, acts.get(activity.pk, ())) for activity in found[: self.config.rows]]
        for row, activity in zip(rows, found, strict=False):
            row["is_shared"] = activity.subject_uid in shared
        longest = max((activity.duration or 0 for activity in found), default=0) or 1
        done = [a for a in found if a.status not in {"queued", "running"}]
        passed = sum(a.status == "passed" for a in done)
        return {
            "runs": rows,
            "bars": [
                (
                    events.word_of(a)[0],
                    max((a.duration or 0) / longest, 0.15),
                    f"{events.run_title(a)}: {events.word_of(a)[1]}",
                )
                for a in reversed(found[:12])
            ],
            "summary": _("%(passed)d of %(total)d passed") % {"passed": passed, "total": len(done)},
            "card": {
                "more": {"label": _("All runs"), "url": links.entity_url(entity, "activity") + "&type=run"}
            },
        }


class FailingConfig(WidgetConfig):
    """How much is shown."""

    rows: int = Field(10, ge=1, le=50, description="Changes shown that came before.")


@register
class Failing(Widget[FailingConfig]):
    """What fails, since when and where, and what changed before; absent while nothing does."""

    slug = "failing"
    label = gettext_lazy("Failing")
    description = gettext_lazy("Since when it fails, the first bad commit, and what changed before")
    template = "widgets/failing.html"
    needs = frozenset({"run"})

    def data(self, context: PageContext) -> dict[str, Any]:
        entity = entity_of(context)
        if entity.failing_since is None:
            raise Absent
        failures = failing.failures_of(context.viewer, entity)
        causes = failing.before_it_failed(context.viewer, entity, failures, limit=self.config.rows)
        return {
            "since": entity.failing_since,
            "failures": [self._failure(one) for one in failures],
            "before": [self._cause(entity, near, activity) for near, activity in causes],
            "card": {"title": self._title(failures)},
        }

    @staticmethod
    def _title(failures: list[failing.Failure]) -> str:
        if not failures:
            return _("Failing")
        return ngettext("Failing: %(n)d pipeline", "Failing: %(n)d pipelines", len(failures)) % {
            "n": len(failures)
        }

    @staticmethod
    def _failure(one: failing.Failure) -> dict[str, Any]:
        return {
            "title": events.run_title(one.first),
            "url": one.first.url,
            "since": one.first.at,
            "commit": one.first.commit[:7],
            "commit_title": one.commit.title if one.commit else "",
            "commit_url": one.commit.url if one.commit else "",
            "author": one.author,
            "step": one.step,
            "log_url": one.log_url,
            "as_of": one.last.as_of,
            "again": {"title": events.run_title(one.last), "url": one.last.url}
            if one.last.pk != one.first.pk
            else None,
        }

    @staticmethod
    def _cause(entity: Entity, near: failing.Near, activity: Activity) -> dict[str, Any]:
        tone, word = events.word_of(activity)
        return {
            "at": activity.at,
            "tone": tone,
            "icon": events.icon_of(activity),
            "title": events.title_of(activity),
            "url": activity.url,
            "text": word,
            "actor": activity.actor,
            "chip": links.chip(near.entity.ref, near.entity) if near.distance else None,
        }


@register
class Versions(Widget[RowsConfig]):
    """The newest versions: tags, releases, images, packages."""

    slug = "versions"
    label = gettext_lazy("Versions and images")
    description = gettext_lazy("Releases, tags, images and packages")
    template = "widgets/versions.html"
    needs = frozenset({"version"})

    def data(self, context: PageContext) -> dict[str, Any]:
        entity = entity_of(context)
        found = latest(context, "version", limit=self.config.rows)
        if not found:
            raise NothingToShow(_("No versions yet. Tags, images and packages appear here."), icon="tag")
        subjects = queries.titles_by_uid(context.viewer, {a.subject_uid for a in found})
        rows = []
        for activity in found:
            subject = subjects.get(activity.subject_uid) if activity.subject_uid else None
            data = activity.data
            rows.append(
                {
                    "version": activity.version,
                    "url": activity.url,
                    "at": activity.at,
                    "size": data.get("size"),
                    "digest": data.get("digest", ""),
                    "platforms": data.get("platforms", []),
                    "aliases": data.get("aliases", []),
                    "is_deprecated": data.get("is_deprecated"),
                    "subject": links.chip(subject.ref, subject)
                    if subject and subject.pk != entity.pk
                    else None,
                }
            )
        more = {"label": _("All versions"), "url": links.entity_url(entity, "activity") + "&type=version"}
        return {"versions": rows, "card": {"more": more}}


@register
class Changes(Widget[RowsConfig]):
    """Commits and changes, newest first."""

    slug = "changes"
    label = gettext_lazy("Changes")
    description = gettext_lazy("Commits, pull and merge requests")
    template = "widgets/changes.html"
    needs = frozenset({"commit", "change"})

    def data(self, context: PageContext) -> dict[str, Any]:
        entity = entity_of(context)
        found = latest(context, "commit", "change", limit=self.config.rows)
        if not found:
            raise NothingToShow(
                _("No changes yet. Commits appear once its repository is connected."), icon="git-commit"
            )
        rows = [
            {
                "icon": events.ICONS[a.type],
                "title": events.title_of(a),
                "url": a.url,
                "sha": a.commit[:7],
                "actor": a.actor,
                "at": a.at,
            }
            for a in found
        ]
        more = {
            "label": _("All changes"),
            "url": links.entity_url(entity, "activity") + "&type=commit,change",
        }
        return {"changes": rows, "card": {"more": more}}


@register
class Deployments(Widget[RowsConfig]):
    """What runs where: the newest deployment of each environment."""

    slug = "deployments"
    label = gettext_lazy("Deployments")
    description = gettext_lazy("What runs where")
    template = "widgets/deployments.html"
    needs = frozenset({"deployment"})

    def data(self, context: PageContext) -> dict[str, Any]:
        found = latest(context, "deployment", limit=CARD_ROWS)
        if not found:
            raise NothingToShow(_("No deployments yet."), icon="rocket")
        newest: dict[str, Activity] = {}
        for activity in found:
            newest.setdefault(activity.environment, activity)
        return {
            "environments": [
                {
                    "name": name,
                    "version": a.version or a.commit[:7],
                    "status": a.status,
                    "at": a.at,
                    "url": a.url,
                }
                for name, a in list(newest.items())[: self.config.rows]
            ],
            "card": {
                "footer": ngettext("%(count)d environment", "%(count)d environments", len(newest))
                % {"count": len(newest)}
            },
        }


@register
class Deployed(Widget[RowsConfig]):
    """What was deployed last to the page's environment, newest first."""

    slug = "deployed"
    label = gettext_lazy("Deployed here")
    description = gettext_lazy("What runs in an environment")
    template = "widgets/deployed.html"
    needs = frozenset({"deployment"})

    def data(self, context: PageContext) -> dict[str, Any]:
        entity = entity_of(context)
        found = queries.list_activity(context.viewer).filter(type="deployment", environment=entity.name)
        newest = found.order_by("subject_uid", "-at", "-id").distinct("subject_uid")
        rows = sorted(newest, key=lambda activity: activity.at, reverse=True)
        if not rows:
            raise NothingToShow(_("Nothing was deployed here yet."), icon="rocket")
        shown = rows[: self.config.rows]
        subjects = queries.titles_by_uid(context.viewer, {a.subject_uid for a in shown})
        return {
            "deployments": [
                {
                    "chip": links.chip(a.subject_ref, subjects.get(a.subject_uid) if a.subject_uid else None),
                    "version": a.version or a.commit[:7],
                    "status": a.status,
                    "at": a.at,
                }
                for a in shown
            ],
            "card": {
                "footer": _("%(count)d in all") % {"count": len(rows)},
                "more": {
                    "label": _("All deployments"),
                    "url": links.entity_url(entity, "activity") + "&type=deployment",
                },
            },
        }


@register
class Alerts(Widget[RowsConfig]):
    """Alerts and incidents that are not over, newest first: of the page's entity, or of what is its own."""

    slug = "alerts"
    label = gettext_lazy("Alerts")
    description = gettext_lazy("Alerts and incidents that are not over")
    template = "widgets/alerts.html"
    needs = frozenset({"alert", "incident"})

    def data(self, context: PageContext) -> dict[str, Any]:
        entity = entity_of(context)
        rows = queries.list_activity(context.viewer).filter(type__in=self.needs)
        found = list(_around(context, rows).exclude(status="resolved")[: self.config.rows + 1])
        if not found:
            raise NothingToShow(_("Nothing alerts."), icon="circle-check-filled")
        shown = found[: self.config.rows]
        subjects = queries.titles_by_uid(context.viewer, {a.subject_uid for a in shown} - {entity.uid})
        return {
            "alerts": [
                {
                    "status": a.status,
                    "title": events.title_of(a),
                    "url": a.url,
                    "severity": a.data.get("severity", ""),
                    "at": a.at,
                    "chip": links.chip(a.subject_ref, subjects[a.subject_uid])
                    if a.subject_uid in subjects
                    else None,
                }
                for a in shown
            ],
            "card": {
                "more": {
                    "label": _("All alerts"),
                    "url": links.entity_url(entity, "activity") + "&type=alert,incident",
                }
            },
        }


FIGURE_DAYS = 60
FIGURE_ROWS = 5_000


def figures(context: PageContext, days: int) -> dict[str, list[Activity]]:
    """The entity's runs, versions and commits of some days by type, newest first; read once a page for all figures."""
    days = max(days, FIGURE_DAYS)
    key = f"figures-{days}"
    if key not in context.cache:
        uids = [uid for uid, _shared in reach(context)]
        found: dict[str, list[Activity]] = {}
        rows = (
            queries.list_activity(context.viewer)
            .filter(
                type__in=["run", "version", "commit"],
                subject_uid__in=uids,
                at__gte=context.now - timedelta(days=days),
            )
            .only("type", "status", "at", "started_at", "finished_at")[:FIGURE_ROWS]
        )
        for activity in rows:
            found.setdefault(activity.type, []).append(activity)
        context.cache[key] = found
    return context.cache[key]


def runs_per_day(context: PageContext, days: int) -> list[tuple[date, int, int]]:
    """Finished runs by day: (day, not failed, failed), oldest first, days without runs included."""
    today = timezone.localdate(context.now)
    counts = {today - timedelta(days=n): [0, 0] for n in reversed(range(days))}
    for activity in figures(context, days).get("run", []):
        day = timezone.localdate(activity.at)
        if day in counts and activity.status not in {"queued", "running"}:
            counts[day][activity.status == "failed"] += 1
    return [(day, good, bad) for day, (good, bad) in counts.items()]


class PerDayConfig(WidgetConfig):
    """How far back."""

    days: int = Field(14, ge=3, le=90, description="Days shown.")


@register
class RunsPerDay(Widget[PerDayConfig]):
    """Runs by day, failed ones apart."""

    slug = "runs-per-day"
    label = gettext_lazy("Runs per day")
    template = "widgets/chart.html"
    needs = frozenset({"run"})

    def data(self, context: PageContext) -> dict[str, Any]:
        days = runs_per_day(context, self.config.days)
        if not any(good or bad for _day, good, bad in days):
            said = ngettext("No runs in %(days)d day.", "No runs in %(days)d days.", self.config.days)
            raise NothingToShow(said % {"days": self.config.days}, icon="chart-bar")
        return {
            "chart": {
                "title": _("Runs per day"),
                "labels": [date_format(day, "j M") for day, _good, _bad in days],
                "series": [
                    {"name": _("Not failed"), "values": [good for _day, good, _bad in days], "colour": "c1"},
                    {"name": _("Failed"), "values": [bad for _day, _good, bad in days], "colour": "c-fail"},
                ],
            }
        }


class NumberConfig(WidgetConfig):
    """Which figure."""

    figure: Literal["pass-rate", "run-time", "versions", "commits"] = Field(description="What is counted.")
    days: int = Field(30, ge=1, le=365, description="Over how many days.")


_FIGURES = {"pass-rate": "run", "run-time": "run", "versions": "version", "commits": "commit"}


@register
class Number(Widget[NumberConfig]):
    """One figure about the entity, with what it was before."""

    slug = "number"
    label = gettext_lazy("Number")
    description = gettext_lazy("One value and its trend")
    template = "widgets/number.html"

    def needed(self) -> Collection[str]:
        return {_FIGURES[self.config.figure]}

    def data(self, context: PageContext) -> dict[str, Any]:
        entity_of(context)
        make = {
            "pass-rate": self._pass_rate,
            "run-time": self._run_time,
            "versions": self._versions,
            "commits": self._commits,
        }[self.config.figure]
        return {"number": {**make(context), "id": ""}}

    def _halves(self, context: PageContext, kind: str) -> tuple[list[Activity], list[Activity]]:
        border = context.now - _days(self.config.days)
        rows = figures(context, 2 * self.config.days).get(kind, [])
        return [a for a in rows if a.at >= border], [a for a in rows if a.at < border]

    def _pass_rate(self, context: PageContext) -> dict[str, Any]:
        now, before = self._halves(context, "run")
        rate, earlier = _rate(now), _rate(before)
        if rate is None:
            raise Absent
        done = sum(a.status in _DONE for a in now)
        number = {
            "label": ngettext("Pass rate, %(days)d day", "Pass rate, %(days)d days", self.config.days)
            % {"days": self.config.days},
            "value": f"{rate:.1f}".rstrip("0").rstrip(".") + " %",
            "values": _per_day(now, context, self.config.days, good_only=True),
            "note": ngettext("of %(count)d run", "of %(count)d runs", done) % {"count": done},
        }
        if earlier is not None and abs(rate - earlier) >= 0.05:
            number |= {
                "trend": "up" if rate > earlier else "down",
                "trend_tone": "ok" if rate > earlier else "fail",
                "trend_text": _("%(points).1f pt") % {"points": abs(rate - earlier)},
                "note": _("to %(days)d d before") % {"days": self.config.days},
            }
        return number

    def _run_time(self, context: PageContext) -> dict[str, Any]:
        now, _before = self._halves(context, "run")
        durations = sorted(d for a in now if (d := a.duration) is not None and a.status in _DONE)
        if not durations:
            raise Absent
        slow = durations[min(int(len(durations) * 0.95), len(durations) - 1)]
        return {
            "label": _("Run time, median"),
            "seconds": median(durations),
            "slow": slow,
        }

    def _versions(self, context: PageContext) -> dict[str, Any]:
        return self._count(
            context,
            "version",
            ngettext("Versions, %(days)d day", "Versions, %(days)d days", self.config.days)
            % {"days": self.config.days},
        )

    def _commits(self, context: PageContext) -> dict[str, Any]:
        return self._count(
            context,
            "commit",
            ngettext("Commits, %(days)d day", "Commits, %(days)d days", self.config.days)
            % {"days": self.config.days},
        )

    def _count(self, context: PageContext, kind: str, label: str) -> dict[str, Any]:
        now, before = self._halves(context, kind)
        if not now and not before:
            raise Absent
        return {
            "label": label,
            "value": str(len(now)),
            "values": _per_day(now, context, self.config.days),
            "last_at": events.newest([*now, *before]),
        }


_DONE = {"passed", "unstable", "failed"}


def _days(count: int) -> timedelta:
    return timedelta(days=count)


def _rate(runs: list[Activity]) -> float | None:
    done = [a for a in runs if a.status in _DONE]
    return 100 * sum(a.status == "passed" for a in done) / len(done) if done else None


def _per_day(
    rows: list[Activity], context: PageContext, days: int, *, good_only: bool = False
) -> list[float | None]:
    """A value for each seventh of the window: how many, or the share that passed."""
    buckets: list[list[Activity]] = [[] for _ in range(min(days, 10))]
    span = days * 86_400 / len(buckets)
    for activity in rows:
        age = (context.now - activity.at).total_seconds()
        index = len(buckets) - 1 - min(int(age / span), len(buckets) - 1)
        buckets[index].append(activity)
    if good_only:
        return [_rate(bucket) for bucket in buckets]
    return [float(len(bucket)) for bucket in buckets]


class TimelineConfig(WidgetConfig):
    """What the timeline shows."""

    types: list[Type] = Field(default_factory=list, description="Only these types; empty for all.")
    rows: int = Field(30, ge=5, le=200, description="Events of a page.")
    filters: bool = Field(True, description="Show the row of filters above.")


TYPE_LABELS: dict[str, Any] = {
    "run": gettext_lazy("Runs"),
    "commit": gettext_lazy("Commits"),
    "change": gettext_lazy("Changes"),
    "version": gettext_lazy("Versions"),
    "deployment": gettext_lazy("Deployments"),
    "alert": gettext_lazy("Alerts"),
    "incident": gettext_lazy("Incidents"),
    "issue": gettext_lazy("Issues"),
    "check": gettext_lazy("Checks"),
}


# Nothing happens to these themselves: their timeline is that of what is theirs.
_WIDE = {"group", "user", "system", "environment"}


def _around(context: PageContext, rows: QuerySet[Activity]) -> QuerySet[Activity]:
    """What happened to the page's entity: to what a team or person owns, a system holds, an environment runs."""
    entity = entity_of(context)
    if entity.kind == "environment":
        return rows.filter(environment=entity.name)
    if entity.kind not in _WIDE:
        return rows.filter(subject_uid__in=[uid for uid, _shared in reach(context)])
    field = "system" if entity.kind == "system" else "owner"
    theirs = queries.list_entities(context.viewer).filter(**{field: entity.ref})
    return rows.filter(subject_uid__in=theirs.values("uid"))


@register
class Timeline(Widget[TimelineConfig]):
    """What happened, newest first: of the page's entity, or of everything that the viewer may see."""

    slug = "timeline"
    label = gettext_lazy("Timeline")
    description = gettext_lazy("Everything that happened, newest first")
    template = "widgets/timeline.html"

    def data(self, context: PageContext) -> dict[str, Any]:
        available = context.delivered
        wanted = self._wanted(context, available)
        rows = queries.list_activity(context.viewer)
        if context.entity is not None:
            rows = _around(context, rows)
        elif context.query:
            found = queries.search_entities(context.viewer, context.query, now=context.now)
            rows = rows.filter(subject_uid__in=found.values("uid"))
        if wanted:
            rows = rows.filter(type__in=wanted)
        if status := context.params.get("status"):
            rows = rows.filter(status=status)
        cursor = context.params.get("cursor") if self.config.filters else None
        page = paginate(rows, order=("-at", "-id"), limit=self.config.rows, cursor=cursor or None)
        if not page.rows and not wanted and not status:
            raise NothingToShow(
                _("Nothing has happened to what the query finds.")
                if context.entity is None and context.query
                else _("Nothing has happened yet. Connect a tool, and its runs and changes appear here.")
                if can(context.viewer, "connection.write")
                else _("What happens in the connected tools appears here, as far as your roles reach it."),
                icon="activity",
            )
        # Where all of it happened to the page's own entity, its name needs not be said.
        is_own = context.entity is not None and context.entity.kind not in _WIDE and len(reach(context)) == 1
        subjects = {} if is_own else queries.titles_by_uid(context.viewer, {a.subject_uid for a in page.rows})
        days = events.days_of(
            page.rows,
            subjects,
            connections=connections_of(context.request),
            with_subject=not is_own,
            acts=acts_on(context, page.rows) if context.entity is not None else None,
        )
        if days and days[0]["date"] == context.params.get("after"):
            days[0]["is_continued"] = bool(context.request.headers.get("HX-Request"))
        older = context.url(cursor=page.next, after=days[-1]["date"]) if page.next and days else ""
        return {
            "days": days,
            "older_url": older if self.config.filters else "",
            "newest_url": context.url(cursor=None, after=None) if cursor else "",
            "tell_me": links.tell_me(
                about="activity", query=context.query, type=",".join(wanted), status=status or ""
            )
            if self.config.filters and context.entity is None
            else None,
            "filters": self._filters(context, available, wanted) if self.config.filters else [],
        }

    def _wanted(self, context: PageContext, available: set[str]) -> list[str]:
        asked = [name for name in context.params.get("type", "").split(",") if name]
        given = [name for name in asked if name in TYPE_LABELS]
        if asked and not given:
            sentence = _("There is no activity of type “%(name)s”; there are: %(names)s.")
            names = ", ".join(TYPE_LABELS)
            context.refuse("type", sentence % {"name": ", ".join(asked)[:60], "names": names})
        allowed: list[str] = list(self.config.types) or sorted(available)
        return [name for name in given if name in allowed] or list(self.config.types)

    def _filters(self, context: PageContext, available: set[str], wanted: list[str]) -> list[dict[str, Any]]:
        names = [
            name for name in TYPE_LABELS if name in available and name in (self.config.types or TYPE_LABELS)
        ]
        if len(names) < 2:
            return []
        chosen = set(wanted) if wanted != list(self.config.types) else set()
        first = {
            "label": _("All"),
            "url": context.url(type=None, cursor=None, after=None),
            "is_active": not chosen,
        }
        return [first] + [
            {
                "label": TYPE_LABELS[name],
                "url": context.url(type=name, cursor=None, after=None),
                "is_active": name in chosen,
            }
            for name in names
        ]
