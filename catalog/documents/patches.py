"""Patches of catalog files: other values at some paths, as `git apply` takes them in."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from difflib import unified_diff
from typing import Any

from base.yaml_edit import set_values

# What is longer is hardly written by hand, and each claim would carry it.
MAX_TEXT = 64 * 1024


def kept_text(text: str) -> str:
    """A document's very words if they are few enough to be kept beside what they say, else nothing."""
    return text if len(text) <= MAX_TEXT else ""


# What most documents say, so that of each only the rest must be kept. It stays as it is for ever: what was packed with
# it is unpacked with it.
_USUAL = b"""kind: Location
metadata:
  namespace: default
  annotations:
    backstage.io/techdocs-ref: dir:.
    backstage.io/source-location: url:https://
    pagerduty.com/integration-key:\x20
    sonarqube.org/project-key:\x20
    gitlab.com/project-slug:\x20
    github.com/project-slug:\x20
  labels:
  links:
    - url: https://
      title:\x20
      icon:\x20
spec:
  type: openapi
  lifecycle: experimental
  definition: |
    openapi: 3.0.0
    info:
      title:\x20
      version: 1.0.0
    paths: {}
  profile:
    displayName:\x20
    email:\x20
    picture:\x20
  parent:\x20
  children: []
  memberOf: []
  domain:\x20
  subcomponentOf: component:
  dependencyOf:
    - component:
  consumesApis:
  providesApis:
  dependsOn:
    - resource:default/
    - component:default/
---
apiVersion: backstage.io/v1alpha1
kind: API
kind: System
kind: Domain
kind: Group
  type: team
kind: User
kind: Resource
  type: database
kind: Component
metadata:
  name:\x20
  title:\x20
  description:\x20
  tags:
    - java
    - python
spec:
  type: website
  type: library
  type: service
  lifecycle: production
  owner: group:
  system:\x20
"""
_WINDOW = 12  # bits of how far back is looked; to make a larger window ready takes longer than the packing


def pack_words(text: str) -> bytes:
    """A document's very words in a third of the room."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -_WINDOW, 5, zdict=_USUAL)
    return packer.compress(text.encode("utf-8", "surrogatepass")) + packer.flush()


def unpack_words(packed: bytes) -> str:
    """What `pack_words` was given."""
    unpacker = zlib.decompressobj(-_WINDOW, zdict=_USUAL)
    return (unpacker.decompress(packed) + unpacker.flush()).decode("utf-8", "surrogatepass")


def patch_of(text: str, values: Mapping[tuple[str, ...], Any], *, file: str, line: int) -> str:
    """A unified diff of the file in which a document stands.

    :param text: the document's very words.
    :param line: of the file at which they begin.
    :raises CannotEdit: if the text is written in a way that lets no value of it be changed alone.
    """
    edited = set_values(text, values)
    path = path_in_repository(file)
    before, after = text.splitlines(keepends=True), edited.splitlines(keepends=True)
    return "".join(_lines(unified_diff(before, after, f"a/{path}", f"b/{path}"), line - 1))


_HUNK = re.compile(r"@@ -(\d+)(.*?) \+(\d+)(.*)", re.DOTALL)


def _lines(diff: Iterator[str], above: int) -> Iterator[str]:
    for row in diff:
        if found := _HUNK.fullmatch(row):
            yield f"@@ -{int(found[1]) + above}{found[2]} +{int(found[3]) + above}{found[4]}"
        else:
            yield row if row.endswith("\n") else f"{row}\n\\ No newline at end of file\n"


_WEB = re.compile(r"\w+://[^/]+/.+?/(?:-/)?(?:blob|tree|raw|src/branch|src)/[^/]+/(.+)")


def path_in_repository(file: str) -> str:
    """Where a file lies in its repository, of its path or web address; its name alone where that does not say."""
    file = file.partition("?")[0].partition("#")[0]
    if found := _WEB.fullmatch(file):
        return found[1]
    return file.rpartition("/")[2] if "://" in file or file.startswith("/") else file
