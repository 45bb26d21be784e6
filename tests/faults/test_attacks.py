"""Input that means harm: catalog files, addresses, requests. The good beside it goes in, the rest is refused in words,
and nothing answers with a failure of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.utils import timezone

from catalog.models import Entity, Served
from catalog.services.render import render_dirty
from integrations.services.locations import ImportSummary, import_paths

pytestmark = pytest.mark.django_db

GOOD = """
apiVersion: backstage.io/v1alpha1
kind: Component
metadata: {name: good}
spec: {type: service, lifecycle: production, owner: team}
"""
WIDE = "".join(chr(0x4E00 + number * 7919 % 20_000) for number in range(900))


def _component(name: str, metadata: str = "", spec: str = "") -> str:
    return (
        "apiVersion: backstage.io/v1alpha1\nkind: Component\n"
        f"metadata:\n  name: {name}\n{metadata}"
        f"spec:\n  type: service\n  lifecycle: production\n  owner: team\n{spec}"
    )


NASTY: dict[str, str] = {
    "numbers of many digits": _component(
        "x",
        spec="".join(
            f"  n{count}: {'9' * count}\n  h{count}: 0x{'f' * count}\n" for count in (19, 60, 350, 5_000)
        ),
    ),
    "numbers that are none": _component("x", spec="  a: .inf\n  b: -.inf\n  c: .nan\n"),
    "an octal and a hexadecimal": _component(
        "x", spec="  a: 0o777777777777777777777777\n  b: 0xffffffffffffffffffff\n"
    ),
    "an exponent": _component("x", spec="  a: 1e999999\n  b: 1_000\n  c: 190:20:30\n"),
    "NUL": _component("x", metadata='  title: "a\\0b"\n  description: "\\0"\n'),
    "NUL in a key": _component("x", spec='  "a\\0b": 1\n'),
    "NUL in the owner": _component("x").replace("owner: team", 'owner: "te\\0am"'),
    "half a surrogate pair": _component("x", metadata='  title: "\\ud800"\n'),
    "a raw control character": _component("x", metadata="  title: a\x07b\n"),
    "laughs": "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    + "".join(
        f"{b}: &{b} [{', '.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + _component("x", spec="  boom: *i\n"),
    "an alias of itself": _component("x", spec="  loop: &loop\n    again: *loop\n"),
    "merge keys": _component("x", spec="  <<: [{a: 1}, {b: 2}]\n"),
    "deep lists": _component("x", spec=f"  deep: {'[' * 5_000}{']' * 5_000}\n"),
    "deep objects": _component("x", spec=f"  deep: {'{a: ' * 900}1{'}' * 900}\n"),
    "many values": _component("x", spec=f"  many: [{'0,' * 300_000}0]\n"),
    "a long string": _component("x", metadata=f"  description: {'a' * 3_000_000}\n"),
    "a python object": _component("x", spec="  run: !!python/object/apply:os.system [id]\n"),
    "odd tags": _component("x", spec="  a: !!binary aGVsbG8=\n  b: !!set {x, y}\n  c: !foo bar\n"),
    "odd keys": _component(
        "x", spec="  1: one\n  null: none\n  true: yes\n  2026-01-01: day\n  [a, b]: list\n"
    ),
    "two keys of one name": _component("x", spec="  a: 1\n  a: 2\n"),
    "dates": _component("x", spec="  at: 2026-01-01\n  then: 0001-01-01T00:00:00+14:00\n"),
    "a list for a name": _component("[a, b]"),
    "a path for a name": _component("../../etc/passwd"),
    "a name in another script": _component("漢字"),
    "a long name": _component("a" * 5_000),
    "owners of all types": _component("x").replace("owner: team", "owner: {a: [1, {b: null}]}"),
    "relations of all types": _component(
        "x", spec="  dependsOn: {a: 1}\n  providesApis: [1, null, {x: y}]\n"
    ),
    "a reference that no index holds": _component("x", spec=f"  dependsOn: ['component:default/{WIDE}']\n"),
    "a very long reference": _component("x", spec=f"  dependsOn: ['component:default/{'a' * 100_000}']\n"),
    "an address that no index holds": _component(
        "x", metadata=f"  annotations: {{backstage.io/source-location: 'url:https://git.example/a/{WIDE}'}}\n"
    ),
    "a script for a link": _component("x", metadata="  links: [{url: 'javascript:alert(1)', title: x}]\n"),
    "markup": _component(
        "x", metadata='  title: "<script>alert(1)</script>"\n  description: "<img onerror=x src=y>"\n'
    ),
    "a location of files": "apiVersion: backstage.io/v1alpha1\nkind: Location\nmetadata: {name: l}\n"
    "spec: {type: file, targets: [/etc/passwd, ../../../../../../etc/passwd, '/proc/self/environ', '~/.ssh/id_rsa']}\n",
    "a location of addresses": "apiVersion: backstage.io/v1alpha1\nkind: Location\nmetadata: {name: l}\n"
    "spec: {type: url, targets: ['http://169.254.169.254/latest/', 'http://127.0.0.1:1/', 'http://[::1]:1/', "
    "'file:///etc/passwd', 'gopher://127.0.0.1:1/', 'http://2130706433/', 'git+file:///root/x.git//*.yaml', "
    "'git+https://169.254.169.254/x.git//*.yaml', 'git+ssh://-oProxyCommand=id/x.git//a.yaml']}\n",
    "addresses that cannot be understood": _component(
        "x",
        metadata="  annotations: {backstage.io/source-location: 'url:https://[a/b', github.com/project-slug: '[/['}\n"
        "  links: [{url: 'https://[x/y'}]\n",
        spec="  definition: {$text: 'https://[a/b'}\n",
    )
    + "\n---\napiVersion: backstage.io/v1alpha1\nkind: Location\nmetadata: {name: l}\n"
    "spec: {type: url, targets: ['https://[a/b', 'https://a]b/c.yaml', 'git+https://[x/y.git//z', 'https://\u2100.example/']}\n"
    "\n---\napiVersion: backstage.io/v1alpha1\nkind: Location\nmetadata: {name: m}\n"
    "spec: {type: file, targets: ['//[', 'https://[a/b', 'file://[a/b']}\n",
    "a location of odd types": "apiVersion: backstage.io/v1alpha1\nkind: Location\nmetadata: {name: l}\n"
    "spec: {type: [a], target: {b: c}, targets: 7}\n",
    "a placeholder of a file": _component("x", spec="  definition: {$text: /etc/passwd}\n"),
    "a placeholder above": _component("x", spec="  definition: {$text: ../../../../../../etc/passwd}\n"),
    "a placeholder of an address": _component(
        "x", spec="  definition: {$text: 'http://169.254.169.254/latest'}\n"
    ),
    "a placeholder of itself": _component("x", spec="  definition: {$yaml: ./nasty.yaml}\n"),
    "UTF-16": _component("x").encode("utf-16").decode("latin-1"),
    "a zip": "PK\x03\x04" + "\x00" * 100,
    "nothing but dashes": "---\n" * 1_000,
}


@pytest.fixture
def take_in(core_pack: None, tmp_path: Path, settings: Any) -> Callable[[str], ImportSummary]:
    """Import a folder of a good file and another, as the browser would: only allowed folders are read."""

    def do(text: str) -> ImportSummary:
        folder = tmp_path / "catalog"
        folder.mkdir()
        settings.PORTICO_FILES_ALLOW = [folder]
        (folder / "a-good.yaml").write_text(GOOD)
        (folder / "nasty.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
        (folder / "z-good.yaml").write_text(GOOD.replace("good", "better"))
        summary = import_paths(addresses=[str(folder)], by="tests")
        render_dirty(at=timezone.now())
        return summary

    return do


@pytest.mark.parametrize("what", NASTY)
def test_a_nasty_file_harms_nothing_else(
    take_in: Callable[[str], ImportSummary], contacted: set[tuple[str, int]], what: str
) -> None:
    summary = take_in(NASTY[what])
    assert {"component:default/good", "component:default/better"} <= set(
        Entity.objects.filter(deleted_at=None).values_list("ref", flat=True)
    )
    assert summary.documents == summary.accepted + summary.refused
    for problem in summary.problems:
        assert problem.message
    for document, relations in Served.objects.values_list("document", "relations"):
        assert "root:x:0" not in document
        orjson.loads(document)
        orjson.loads(relations)
    assert contacted == set()
