"""The portal's template tags: `{% load portico %}`. `docs/ui-components.md` lists each with its call.

Small pieces are made here, since a list has thousands of them; larger ones are templates in `components/`.
All text is escaped; every address passes `safe_url`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Any

from django import template
from django.conf import settings
from django.template.context import RequestContext
from django.templatetags.static import static
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.dates import MONTHS_3
from django.utils.formats import date_format, number_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from portal.icons import icon_names
from portal.templatetags import charts, foreign
from portal.templatetags.foreign import safe_url
from portal.templatetags.statuses import TONE_ICONS, Status, status_of
from portal.values import in_words

register = template.Library()
register.filter("safe_url", safe_url)
register.filter("in_words", in_words)

# Icon and colour of the kinds that ship; a kind that a pack adds brings its own.
KINDS = {
    "component": ("cube", "c1"),
    "api": ("api", "c3"),
    "resource": ("database", "c2"),
    "system": ("stack-2", "c6"),
    "domain": ("sitemap", "c6"),
    "group": ("users-group", "c5"),
    "user": ("user", "c7"),
    "location": ("map-pin", "c8"),
    "template": ("template", "c4"),
    "repository": ("git-branch", "c6"),
    "pipeline": ("player-play", "c2"),
    "artifact": ("package", "c4"),
    "environment": ("world", "c4"),
    "cluster": ("server-2", "c3"),
    "workload": ("container", "c3"),
    "website": ("world-www", "c7"),
    "library": ("package", "c4"),
}
FALLBACK_KIND = ("box", "c8")
DIFF_ITEMS = 12
# The colour of a connector's monogram, by its shelf in the gallery.
CATEGORIES = {
    "git": "c6", "ci": "c2", "registry": "c1", "packages": "c7", "cluster": "c3",
    "monitoring": "c5", "issues": "c4", "people": "c3", "files": "c8",
}  # fmt: skip
COLOURS = frozenset(f"c{n}" for n in range(1, 9))
TONES = frozenset(TONE_ICONS)
THEMES = ("light", "dark", "auto")
DENSITIES = ("compact", "normal", "touch")


# -- icons and colours ------------------------------------------------------------------------------------


# The same few pieces stand on every page. Typed, for what is safe is equal to the text that is not.
_kept = lru_cache(maxsize=4_096, typed=True)


@register.simple_tag
def icon(name: str, title: str = "", css: str = "") -> SafeString:
    """An icon of the sprite; one that is not in it becomes a plain box. With a title it speaks, else not."""
    return _icon(name, title, css, settings.STATIC_URL, settings.STORAGES["staticfiles"]["BACKEND"])


@_kept
def _icon(name: str, title: str, css: str, _static_url: str, _storage: str) -> SafeString:
    sprite = static("portico/icons.svg")
    known = name if name in icon_names() else FALLBACK_KIND[0]
    classes = f"po-i {css}" if css else "po-i"
    if title:
        return format_html(
            '<svg class="{}" role="img" aria-label="{}"><use href="{}#{}"></use></svg>',
            classes,
            title,
            sprite,
            known,
        )
    return format_html(
        '<svg class="{}" aria-hidden="true"><use href="{}#{}"></use></svg>', classes, sprite, known
    )


def colour_of(text: str) -> str:
    """A colour that a name always gets: c1 to c7."""
    return f"c{zlib.crc32(text.casefold().encode()) % 7 + 1}"


@register.simple_tag
def kind_icon(kind: str = "", icon_name: str = "", colour: str = "", css: str = "") -> SafeString:
    """A kind's icon in its rounded square. `icon_name` and `colour` (c1..c8) go before those of the kind."""
    own_icon, own_colour = KINDS.get(kind.lower(), FALLBACK_KIND)
    hue = colour if colour in COLOURS else own_colour
    return format_html('<span class="po-kind po-{} {}">{}</span>', hue, css, icon(icon_name or own_icon))


def _letters(name: str) -> str:
    words = [
        word
        for word in name.replace("-", " ").replace("_", " ").replace(".", " ").split()
        if word[0].isalnum()
    ]
    if not words:
        return "?"
    return (words[0][:2] if len(words) == 1 else words[0][0] + words[1][0]).upper()


@register.simple_tag
@_kept
def avatar(name: str, shape: str = "person", css: str = "") -> SafeString:
    """Two letters on the name's own colour; round for a person, square for a `team`."""
    if not name:
        return format_html('<span class="po-avatar po-avatar-none {}" aria-hidden="true"></span>', css)
    team = "po-avatar-team " if shape == "team" else ""
    return format_html(
        '<span class="po-avatar {}po-{} {}" aria-hidden="true">{}</span>',
        team,
        colour_of(name),
        css,
        _letters(name),
    )


@register.simple_tag
@_kept
def monogram(
    label: str, letters: str = "", category: str = "", size: int = 16, title: str = ""
) -> SafeString:
    """A connector's or connection's own two letters, coloured by category. Size is 16, 20 or 36."""
    if not letters:
        words = label.replace("-", " ").replace("_", " ").split() or ["?"]
        letters = words[0][:2] if len(words) == 1 else words[0][0] + words[1][0]
    text = letters[:1].upper() + letters[1:2].lower()
    extra = f"po-mg-{size}" if size in {20, 36} else ""
    return format_html(
        '<span class="po-mg po-{} {}" role="img" aria-label="{}" data-tip="{}">{}</span>',
        CATEGORIES.get(category, "c8"), extra, title or label, title or label, text,
    )  # fmt: skip


# -- status, pills, chips ---------------------------------------------------------------------------------


def _status(status: Status, *, word: str, detail: str, pill: bool) -> SafeString:
    turning = "po-i-turn" if status.icon == "loader-2" else ""
    tip = format_html(' data-tip="{}" tabindex="0"', detail) if detail else ""
    return format_html(
        '<span class="po-status po-{}{}"{}>{}{}</span>',
        status.tone, " po-pill" if pill else "", tip, icon(status.icon, css=turning), word,
    )  # fmt: skip


@register.simple_tag
def status(
    what: str, state: object, detail: str = "", stale: datetime | None = None, pill: bool = False
) -> SafeString:
    """The word for a state, with icon and colour.

    :param what: run, deployment, health, check, alert, incident or sync.
    :param state: our own word for the state; empty says that there is none yet.
    :param detail: the tool's own word, shown as a tooltip.
    :param stale: since when nobody has confirmed it, if that is too long ago.
    :param pill: on a soft ground, for page headers.
    """
    found = status_of(what, state)
    word = str(found.word)
    if stale:
        age = age_text(timezone.now() - stale)
        word = _("%(status)s, stale %(age)s") % {"status": word, "age": age}
        found = Status(word, "mute", "history")
    return _status(found, word=word, detail=detail, pill=pill)


@register.simple_tag
def tone(name: str, text: str, detail: str = "", pill: bool = False) -> SafeString:
    """A word of one's own in a status' look. `name` is ok, warn, fail, run, mute or info."""
    name = name if name in TONES else "mute"
    return _status(Status(text, name, TONE_ICONS[name]), word=text, detail=detail, pill=pill)


@register.simple_tag
def pill(text: str, tone: str = "", icon_name: str = "") -> SafeString:
    """A few words on a soft ground."""
    css = f"po-{tone}" if tone in TONES else ""
    return format_html(
        '<span class="po-pill {}">{}{}</span>', css, icon(icon_name) if icon_name else "", text
    )


@register.simple_tag
def tag(text: str, url: str = "") -> SafeString:
    """A tag of the catalog; with an address, a link to the list of what bears it."""
    address = safe_url(url)
    if address:
        return format_html('<a class="po-tag" href="{}">{}</a>', address, text)
    return format_html('<span class="po-tag">{}</span>', text)


@register.simple_tag
def entity_chip(
    title: str = "",
    ref: str = "",
    kind: str = "",
    url: str = "",
    icon_name: str = "",
    colour: str = "",
    missing: bool = False,
    card: str = "",
) -> SafeString:
    """An entity as icon and name. People and teams show their avatar.

    :param title: shown; else the name in `ref` is.
    :param missing: the entity does not exist (yet): a dashed line below the name.
    :param card: address of a fragment that tells more, shown on hover and focus.
    """
    kind = (kind or ref.partition(":")[0]).lower()
    text = title or ref.rpartition("/")[2] or ref
    if kind in {"group", "user"} and not icon_name:
        picture = avatar(text, "team" if kind == "group" else "person")
    else:
        picture = kind_icon(kind, icon_name, colour)
    css = "po-chip po-chip-missing" if missing else "po-chip"
    tip = ref if not missing else _("%(ref)s is not in the catalog.") % {"ref": ref or text}
    address, more = safe_url(url), safe_url(card)
    if address:
        extra = format_html(' data-tip="{}"', tip) if missing else ""
        extra = format_html(' data-card="{}"', more) if more else extra
        return format_html(
            '<a class="{}" href="{}"{}>{}<span>{}</span></a>', css, address, extra, picture, text
        )
    return format_html('<span class="{}" data-tip="{}">{}<span>{}</span></span>', css, tip, picture, text)


@register.simple_tag
def owner_chip(owner: Any = None, **more: Any) -> SafeString:
    """An owner's chip, or "No owner". `owner` is a mapping or object with title, ref, kind, url, missing."""
    values = {
        name: said_of(owner, name) for name in ("title", "ref", "kind", "url", "missing", "card")
    } | more
    if not (values.get("title") or values.get("ref")):
        return format_html('<span class="po-chip po-2">{}<span>{}</span></span>', avatar(""), _("No owner"))
    return entity_chip(**{name: value for name, value in values.items() if value})


@register.simple_tag
def link(url: str, text: str = "", external: bool = True, css: str = "") -> SafeString:
    """A link to an address that a tool or a file gave; an unsafe one stays text.

    :param css: underlined where words stand beside it, from which its colour alone would not tell it.
    """
    address = safe_url(url)
    if not address:
        return format_html("{}", text or url)
    away = mark_safe(' rel="noopener noreferrer"') if external else ""
    classes = format_html(' class="{}"', css) if css else ""
    return format_html('<a href="{}"{}{}>{}</a>', address, classes, away, text or url)


@register.inclusion_tag("components/menu.html")
def menu(
    items: Sequence[Any],
    text: str = "",
    icon_name: str = "",
    label: str = "",
    css: str = "po-btn",
    primary: bool = False,
    left: bool = False,
) -> dict[str, Any]:
    """A button that opens a list of links and forms; `label` names it where it shows an icon alone.

    An item has label, url, icon, and perhaps method ("post"), danger, confirm (title, text, verb, name),
    dialog, is_active; `{"rule": True}` draws a line, `{"heading": text}` a heading.
    """
    return {
        "items": items, "text": text, "icon": icon_name, "label": label, "css": css, "primary": primary,
        "left": left,
    }  # fmt: skip


@register.inclusion_tag("components/action.html")
def action(action: Any) -> dict[str, Any]:
    """A button for one act: label, url, icon, primary, danger, small, disabled (why not); a GET link, or with
    method "post" a form, with `items` a menu, with `dialog` the opener of a dialog."""
    # A mapping's own method `items` would answer a template that looks for an absent entry.
    return {"action": action, "entries": said_of(action, "items") if isinstance(action, Mapping) else None}


# -- times and numbers ------------------------------------------------------------------------------------


def _moment(value: object) -> datetime | None:
    if isinstance(value, str):
        try:
            value = parse_datetime(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        return value if timezone.is_aware(value) else timezone.make_aware(value)
    if isinstance(value, date):
        return timezone.make_aware(datetime.combine(value, time.min))
    return None


def age_text(age: timedelta) -> str:
    """A length of time in its largest unit: "12 min", "3 d"."""
    seconds = int(abs(age.total_seconds()))
    if seconds < 60:
        return _("%(n)d s") % {"n": seconds}
    if seconds < 3600:
        return _("%(n)d min") % {"n": seconds // 60}
    if seconds < 86_400:
        return _("%(n)d h") % {"n": seconds // 3600}
    days = seconds // 86_400
    if days < 90:
        return _("%(n)d d") % {"n": days}
    if days < 730:
        return ngettext("%(n)d month", "%(n)d months", days // 30) % {"n": days // 30}
    return ngettext("%(n)d year", "%(n)d years", days // 365) % {"n": days // 365}


def exact_time(value: datetime) -> str:
    """A moment to the minute, with its zone: "24 Nov 2026, 14:02 UTC"."""
    local = timezone.localtime(value)
    return f"{local.day} {MONTHS_3[local.month].title()} {local.year}, {local:%H:%M} {local.tzname()}"


@register.simple_tag
def ago(value: object, words: str = "") -> SafeString:
    """How long ago (or ahead) a moment is; the exact time is in the tooltip. Empty for no moment.

    :param words: "ago" to write "12 min ago", "short" where there is room for "1 d" but not for "yesterday".
    """
    moment = _moment(value)
    if moment is None:
        return SafeString()
    age = timezone.now() - moment
    if abs(age) < timedelta(seconds=45):
        text = _("now")
    elif age < timedelta():
        # What was just set a week ahead is a week ahead, not six days.
        text = _("in %(age)s") % {"age": age_text(age - timedelta(seconds=59))}
    elif words != "short" and timedelta(hours=12) <= age < timedelta(days=2) and _days_since(moment) == 1:
        text = _("yesterday")
    elif words == "ago":
        text = _("%(age)s ago") % {"age": age_text(age)}
    else:
        text = age_text(age)
    return _time(moment, text)


def _days_since(moment: datetime) -> int:
    return (timezone.localtime().date() - timezone.localtime(moment).date()).days


@register.simple_tag
def at(value: object, style: str = "full") -> SafeString:
    """A moment: "24 Nov 2026, 14:02"; `style` "time" gives "14:02", "day" gives "24 Nov 2026"."""
    moment = _moment(value)
    if moment is None:
        return SafeString()
    shape = {"time": "H:i", "day": "j M Y"}.get(style, "j M Y, H:i")
    return _time(moment, date_format(timezone.localtime(moment), shape))


def _time(moment: datetime, text: str) -> SafeString:
    return format_html(
        '<time datetime="{}" title="{}" tabindex="0">{}</time>', moment.isoformat(), exact_time(moment), text
    )


@register.filter
def duration(value: object) -> str:
    """Seconds or a timedelta in words: "48 s", "3 min 12 s", "1 h 4 min", "3 d"."""
    if value is None or value == "":
        return ""
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(str(value))
    if seconds < 1:
        return _("%(n)d ms") % {"n": round(seconds * 1000)} if seconds > 0 else _("%(n)d s") % {"n": 0}
    whole = round(seconds)
    if whole < 60:
        return _("%(n)d s") % {"n": whole}
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        first, second = _("%(n)d min") % {"n": minutes}, _("%(n)d s") % {"n": rest}
    elif whole < 86_400:
        hours, rest = divmod(whole // 60, 60)
        first, second = _("%(n)d h") % {"n": hours}, _("%(n)d min") % {"n": rest}
    else:
        days, rest = divmod(whole // 3600, 24)
        first, second = _("%(n)d d") % {"n": days}, _("%(n)d h") % {"n": rest}
        rest = rest if days < 3 else 0
    return f"{first} {second}" if rest else first


@register.filter
def num(value: object) -> str:
    """A number with its thousands apart: 1,204."""
    if value is None or value == "":
        return ""
    return number_format(value, use_l10n=True, force_grouping=True)  # type: ignore[arg-type]


@register.filter
def percent(value: object) -> str:
    """A number of hundredths: 96.4 becomes "96.4 %", 100 becomes "100 %"."""
    if value is None or value == "":
        return ""
    figure = round(float(str(value)), 1)
    return f"{number_format(int(figure) if figure.is_integer() else figure)} %"


@register.filter
def filesize(value: object) -> str:
    """Bytes in the unit that fits: "812 B", "48.2 MB"."""
    if value is None or value == "":
        return ""
    size = float(str(value))
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    figure = round(size, 1) if unit != "B" and size < 100 else round(size)
    return f"{number_format(figure, force_grouping=True)} {unit}"


# -- charts and graphs ------------------------------------------------------------------------------------


@register.simple_tag
def sparkline(values: Sequence[float | None], label: str) -> SafeString:
    """A small line of values; `label` says in words what it shows."""
    return charts.sparkline(values, label) if isinstance(values, Sequence) else SafeString()


@register.simple_tag
def run_bars(bars: Sequence[tuple[str, float, str]], label: str) -> SafeString:
    """Recent runs as small bars: (tone, height 0..1, what it was), oldest first."""
    return charts.run_bars(bars, label)


@register.inclusion_tag("components/bar_chart.html")
def bar_chart(chart: Any) -> dict[str, Any]:
    """Stacked bars with legend and table. `chart` has title, labels and series of name, values, colour."""
    series = [
        {
            "name": str(said_of(one, "name")),
            "values": list(said_of(one, "values")),
            "colour": said_of(one, "colour") or f"c{n}",
        }
        for n, one in enumerate(said_of(chart, "series") or [], 1)
    ]
    labels = [str(label) for label in said_of(chart, "labels") or []]
    return {
        "title": said_of(chart, "title"),
        "svg": charts.bar_chart(labels, series, str(said_of(chart, "title") or "")),
        "series": series,
        "rows": [(label, [one["values"][n] for one in series]) for n, label in enumerate(labels)],
    }


@register.inclusion_tag("components/relation_graph.html")
def relation_graph(graph: Any) -> dict[str, Any]:
    """An entity between those that point at it and those that it points at.

    `graph` has centre, incoming and outgoing nodes, more_incoming and more_outgoing (numbers) and url (of the
    whole graph); a node has title, sub, kind, icon, colour, url, missing.
    """
    sides = {}
    for side in ("incoming", "outgoing"):
        nodes, more = list(said_of(graph, side) or []), int(said_of(graph, f"more_{side}") or 0)
        sides[side] = {"nodes": [_node(node) for node in nodes], "more": more}
        sides[side]["lines"] = charts.curves(len(nodes) + bool(more), outward=side == "outgoing")
    return {"centre": _node(said_of(graph, "centre")), "url": safe_url(said_of(graph, "url")), **sides}


def _node(node: Any) -> dict[str, Any]:
    own_icon, own_colour = KINDS.get(str(said_of(node, "kind") or "").lower(), FALLBACK_KIND)
    colour = said_of(node, "colour")
    return {
        "title": said_of(node, "title"),
        "sub": said_of(node, "sub"),
        "url": safe_url(said_of(node, "url")),
        "missing": bool(said_of(node, "missing")),
        "icon": said_of(node, "icon") or own_icon,
        "colour": colour if colour in COLOURS else own_colour,
    }


# -- texts ------------------------------------------------------------------------------------------------


@register.simple_tag
def markdown(text: str, base_url: str = "") -> SafeString:
    """Markdown of others as clean HTML."""
    return format_html('<div class="po-md">{}</div>', foreign.render_markdown(text or "", base_url))


@register.simple_tag
def foreign_text(text: str) -> SafeString:
    """A description of others: Markdown, where there is any."""
    if foreign.is_plain(text):
        return format_html('<p class="po-md">{}</p>', text)
    return markdown(text)


@register.inclusion_tag("components/code.html")
def code(text: str, language: str = "", filename: str = "", numbers: bool = True) -> dict[str, Any]:
    """A text with line numbers, highlighted by language or file name."""
    return {
        "lines": foreign.code_lines(text or "", language, filename),
        "filename": filename,
        "language": language,
        "numbers": numbers,
    }


@register.inclusion_tag("components/query_tokens.html")
def query_tokens(tokens: Iterable[Any]) -> dict[str, Any]:
    """The finished terms of a query; a token has text, remove_url and error."""
    rows = []
    for token in tokens or ():
        text = str(said_of(token, "text") or token)
        bare = text.removeprefix("-")
        field, colon, value = bare.partition(":")
        rows.append(
            {
                "text": text,
                "sign": "-" if bare != text else "",
                "field": f"{field}{colon}" if colon else "",
                "value": value if colon else bare,
                "remove_url": safe_url(said_of(token, "remove_url")),
                "error": said_of(token, "error"),
            }
        )
    return {"tokens": rows}


@register.inclusion_tag("components/diff.html")
def diff(rows: Iterable[Any]) -> dict[str, Any]:
    """What changed, field by field. A row has path, old, new; None for old means added, for new removed.

    Of a list, each item that went or came is shown, not the whole list twice.
    """
    shown = []
    for row in rows or ():
        old, new = said_of(row, "old"), said_of(row, "new")
        gone, come = _items(old), _items(new)
        if isinstance(old, list) and isinstance(new, list) and set(gone) != set(come):
            gone, come = (
                [text for text in gone if text not in come],
                [text for text in come if text not in gone],
            )
        signs = [(text, False) for text in gone] + [(text, True) for text in come]
        shown.append(
            {
                "path": said_of(row, "path"),
                "signs": signs[:DIFF_ITEMS],
                "more": signs[DIFF_ITEMS:],
                "is_swap": [is_new for _text, is_new in signs] == [False, True],
            }
        )
    return {"rows": shown}


def _items(value: Any) -> list[str]:
    if value is None:
        return []
    return [in_words(one) for one in value] if isinstance(value, list) and value else [in_words(value)]


@register.inclusion_tag("components/pagination.html")
def pagination(page: Any) -> dict[str, Any]:
    """Where one is in a list. `page` has first, last, total, previous_url, next_url, updated_at.

    Where a page has several, each has a `label` of its own.
    """
    return {
        name: said_of(page, name)
        for name in ("first", "last", "total", "previous_url", "next_url", "updated_at", "label")
    }


# -- the page ---------------------------------------------------------------------------------------------


@register.simple_tag(takes_context=True)
def html_attributes(context: RequestContext | Mapping[str, Any]) -> SafeString:
    """The reader's choices on `<html>`, so that the first paint is right: theme, density, sidebar, keys."""
    request = context.get("request")
    cookies = getattr(request, "COOKIES", {})
    theme = cookies.get("po_theme")
    density = cookies.get("po_density")
    chosen = [("data-bs-theme", theme if theme in THEMES else "auto")]
    if density in DENSITIES:
        chosen.append(("data-density", density))
    if cookies.get("po_sidebar") == "rail":
        chosen.append(("data-sidebar", "rail"))
    if cookies.get("po_keys") == "off":
        chosen.append(("data-keys", "off"))
    return format_html_join(" ", '{}="{}"', chosen)


@register.simple_tag(takes_context=True)
def chosen(context: RequestContext | Mapping[str, Any], cookie: str, value: str, default: str) -> str:
    """`checked` if the reader's choice in a cookie is this value."""
    cookies = getattr(context.get("request"), "COOKIES", {})
    return "checked" if (cookies.get(cookie) or default) == value else ""


def said_of(thing: Any, name: str) -> Any:
    """What a mapping or an object has of a name; None where it has nothing."""
    if thing is None:
        return None
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)
