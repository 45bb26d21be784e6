"""Text that others wrote, made safe to show: addresses, Markdown and code.

Whatever a tool or a file says is untrusted. Addresses pass `safe_url`, Markdown is rendered and then cleaned
by an allow-list, code is escaped by the highlighter.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape
from urllib.parse import urljoin, urlsplit

import nh3
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import slugify
from django.utils.translation import gettext as _
from markdown_it.token import Token
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name, get_lexer_for_filename
from pygments.lexers.special import TextLexer
from pygments.util import ClassNotFound

from base.markdown import LIMIT, headings_of, parser

SCHEMES = {"http", "https", "mailto"}
# Beyond this the highlighter would hold up a page; the text is shown plain.
HIGHLIGHT_LIMIT = 200_000
TAGS = {
    "a", "b", "blockquote", "br", "code", "dd", "del", "details", "div", "dl", "dt", "em", "h1", "h2", "h3",
    "h4", "h5", "h6", "hr", "i", "img", "ins", "kbd", "li", "mark", "ol", "p", "pre", "q", "s", "samp",
    "small", "span", "strong", "sub", "summary", "sup", "table", "tbody", "td", "tfoot", "th", "thead",
    "tr", "ul",
}  # fmt: skip
ATTRIBUTES = {
    "a": {"href", "title"},
    "img": {"src", "alt", "title"},
    "code": {"class"},
    "pre": {"class"},
    "span": {"class"},
    "ol": {"start"},
    "details": {"open"},
    "th": {"colspan", "rowspan", "scope"},
    "td": {"colspan", "rowspan"},
    **{f"h{level}": {"id"} for level in range(1, 7)},
}
_PLAIN = re.compile(r"/(?!/)[\w./?=&%:,+~-]*", re.ASCII)
# What the highlighter writes; anything else could dress foreign text up as part of the portal.
CODE_CLASS = re.compile(r"po-hl|[a-z][a-z0-9]{0,2}|language-[\w+-]{1,30}")


def safe_url(value: object, base: str = "") -> str:
    """The address if a browser may follow it, else an empty text.

    Allowed are http, https and mailto addresses and paths of this site. With `base`, an http or https
    address, a relative one is resolved against it.
    """
    if not base and isinstance(value, str) and _PLAIN.fullmatch(value):
        return value  # most are paths of ours
    # Browsers drop control characters before they read the scheme, and take a backslash for a slash.
    text = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", "", str(value or "")).strip().replace(" ", "%20")
    if base and text:
        try:
            text = urljoin(base, text)
        except ValueError:
            return ""
    try:
        parts = urlsplit(text)
        _port = parts.port
    except ValueError:
        return ""
    if parts.scheme:
        if parts.scheme.lower() not in SCHEMES or "\\" in text:
            return ""
        return text if parts.netloc or parts.scheme.lower() == "mailto" else ""
    return text if re.match(r"/(?![/\\])|#|\?", text) else ""


def _name_headings(tokens: list[Token]) -> None:
    """Give headings an id of their own space, so that it can never shadow one of the page's."""
    for heading in headings_of(tokens):
        tokens[heading.position].attrSet("id", f"md-{heading.slug}")


def _highlight_fence(text: str, language: str, _attributes: str) -> str:
    return f'<pre><code class="po-hl">{_highlight(text, language)}</code></pre>'


_markdown = parser(html=True, highlight=_highlight_fence)
_IMAGE_OR_LINK = re.compile(r'<(?P<tag>/?a|img)\b(?P<attributes>(?:[^>"]|"[^"]*")*)>')


def _images_to_links(html: str) -> str:
    """Turn each image into a link to it: pages fetch nothing from other hosts.

    Within a link there can be no second one, so there the image's text alone remains.
    """
    depth = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal depth
        if match["tag"] != "img":
            depth = 1 if match["tag"] == "a" else 0
            return match[0]
        attributes = dict(re.findall(r'([a-z]+)="([^"]*)"', match["attributes"]))
        text = attributes.get("alt") or (attributes.get("title") or escape(_("Image")))
        if depth or not attributes.get("src"):
            return text
        return f'<a href="{attributes["src"]}" rel="noopener noreferrer nofollow">{text}</a>'

    return _IMAGE_OR_LINK.sub(replace, html)


def render_markdown(
    text: str, base_url: str = "", *, links: Callable[[str], str] | None = None
) -> SafeString:
    """Markdown as clean HTML, raw HTML kept as far as the allow-list goes.

    Relative links are resolved against `base_url`; without one they lead nowhere.

    :param links: gives for the target of a link an address of this portal, or nothing.
    """
    tokens = _markdown.parse(text[:LIMIT])
    _name_headings(tokens)

    def attribute(tag: str, name: str, value: str) -> str | None:
        if name in {"href", "src"}:
            if name == "href" and value.startswith("#"):
                return f"#md-{slugify(value[1:])}"
            if name == "href" and links is not None and (ours := links(value)):
                return ours
            url = safe_url(value, base_url)
            # A path of the text's own site would lead into this portal.
            return url if url and urlsplit(url).scheme else None
        if name == "class":
            return value if all(CODE_CLASS.fullmatch(part) for part in value.split()) else None
        if name == "id":
            return value if value.startswith("md-") else f"md-{slugify(value)}"
        return value

    clean = nh3.clean(
        _markdown.renderer.render(tokens, _markdown.options, {}),
        tags=TAGS,
        attributes=ATTRIBUTES,
        attribute_filter=attribute,
        url_schemes=SCHEMES,
        link_rel="noopener noreferrer nofollow",
    )
    return mark_safe(_reachable(_below_a_card(_images_to_links(clean))))  # noqa: S308 - cleaned by the allow-list above


_MARKED = re.compile(r"[\n*_`\[<>#&\\~|]|^\s*(?:[-+]|\d+[.)])\s|  ")


def is_plain(text: str) -> bool:
    """Whether a text would be the same as Markdown, which is quicker to know than to render."""
    return _MARKED.search(text) is None


def _below_a_card(clean: str) -> str:
    """The text's headings stand below that of the card around it: h3 is its highest."""
    return re.sub(r"<(/?)h([1-6])\b", lambda tag: f"<{tag[1]}h{min(int(tag[2]) + 2, 6)}", clean)


def _reachable(clean: str) -> str:
    """Code and tables that are wider than the page scroll, so the keyboard must reach them."""
    for tag in ("pre", "table"):
        clean = clean.replace(f"<{tag}>", f'<{tag} tabindex="0">')
    return re.sub(r"<th>\s*</th>", "<td></td>", clean)


def _lexer(language: str, filename: str) -> Lexer:
    try:
        if language:
            return get_lexer_by_name(language, stripnl=False)
        if filename:
            return get_lexer_for_filename(filename, stripnl=False)
    except ClassNotFound:
        pass
    return TextLexer(stripnl=False)


def _highlight(text: str, language: str = "", filename: str = "") -> str:
    if len(text) > HIGHLIGHT_LIMIT:
        return escape(text)
    return str(highlight(text, _lexer(language, filename), HtmlFormatter(nowrap=True)))


def code_lines(text: str, language: str = "", filename: str = "") -> list[SafeString]:
    """The text's lines as highlighted, escaped HTML."""
    html = _highlight(text, language, filename)
    return [mark_safe(line) for line in html.rstrip("\n").split("\n")]  # noqa: S308 - escaped by the highlighter
