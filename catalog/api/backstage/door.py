"""The short way to what Backstage's clients ask most: reads by token, past everything that pages and forms need.

It knows the good case alone. Whatever is unusual, wrong or refused is left to the ordinary way, which answers in full;
so there is one place for each error, and no answer that is given on one way only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO
from typing import Any

from django.http import HttpResponse, QueryDict, StreamingHttpResponse
from django.http.request import split_domain_port, validate_host
from django.utils.functional import cached_property

from access.permissions import can
from access.services import authenticate_token
from base.api import JSONParser
from catalog.api.backstage import views

PREFIX = "/api/catalog/"
_NAME = r"([^/]+)"
_ROUTES: tuple[tuple[re.Pattern[str], type[views.CatalogView], tuple[str, ...]], ...] = (
    (re.compile(r"entities/by-query"), views.EntitiesByQuery, ()),
    (
        re.compile(rf"entities/by-name/{_NAME}/{_NAME}/{_NAME}"),
        views.EntityByName,
        ("kind", "namespace", "name"),
    ),
    (re.compile(r"entities/by-refs"), views.EntitiesByRefs, ()),
    (re.compile(r"entity-facets"), views.EntityFacets, ()),
    (re.compile(r"entities"), views.Entities, ()),
)
MOST_BYTES = 100_000
_ACCEPTED = {"*/*", "application/json"}


class Asked:
    """A request as far as the views look at one."""

    def __init__(self, environ: Mapping[str, Any], user: Any, body: bytes) -> None:
        self.user = user
        self.method = environ["REQUEST_METHOD"]
        self.content_type = environ.get("CONTENT_TYPE") or ""
        self.headers = {"If-None-Match": environ.get("HTTP_IF_NONE_MATCH", "")}
        self._query = environ.get("QUERY_STRING", "")
        self._body = body

    @cached_property
    def query_params(self) -> QueryDict:
        return QueryDict(self._query, encoding="utf-8")

    @cached_property
    def data(self) -> Any:
        return JSONParser().parse(BytesIO(self._body))


def answer(environ: dict[str, Any], *, hosts: list[str]) -> HttpResponse | StreamingHttpResponse | None:
    """Answer a request, if this is all that it takes.

    :param hosts: by which the portal may be asked.
    :returns: None for whatever goes the ordinary way; `wsgi.input` is as it was.
    """
    method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
    token = environ.get("HTTP_AUTHORIZATION", "")
    if not path.startswith(PREFIX) or not token.startswith("Bearer ") or method not in ("GET", "POST"):
        return None
    found = _view_at(path)
    query = environ.get("QUERY_STRING", "")
    if found is None or not _is_known(environ.get("HTTP_HOST", ""), tuple(hosts)):
        return None
    if _ACCEPTED.isdisjoint(re.split(r"\s*,\s*", environ.get("HTTP_ACCEPT", "*/*"))):
        return None
    if "%00" in query or any(not 32 <= ord(letter) < 127 for letter in path + query):
        return None
    view, names = found
    verb, handler = view.verbs.get(method), getattr(view, method.lower(), None)
    if verb is None or handler is None:
        return None
    body = b""
    if method == "POST":
        length, kind = environ.get("CONTENT_LENGTH") or "", environ.get("CONTENT_TYPE") or ""
        if not length.isdecimal() or int(length) > MOST_BYTES or kind.partition(";")[0] != "application/json":
            return None
        body = environ["wsgi.input"].read(int(length))
        environ["wsgi.input"] = BytesIO(body)
    try:
        user = authenticate_token(token[7:].strip())
        if not can(user, verb):
            return None
        answered: HttpResponse | StreamingHttpResponse = handler(view(), Asked(environ, user, body), **names)
        return answered
    except Exception:  # noqa: BLE001 - the ordinary way says what is wrong, and logs it
        return None


def _view_at(path: str) -> tuple[type[views.CatalogView], dict[str, str]] | None:
    for pattern, view, names in _ROUTES:
        if (match := pattern.fullmatch(path, len(PREFIX))) is not None:
            return view, dict(zip(names, match.groups(), strict=True))
    return None


@lru_cache(maxsize=1_000)
def _is_known(host: str, hosts: tuple[str, ...]) -> bool:
    domain, _port = split_domain_port(host)
    return bool(domain) and validate_host(domain, hosts)
