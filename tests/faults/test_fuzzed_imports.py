"""The importer with files made by chance: no crash, no hang, bounded memory, each fault told, the good served."""

from __future__ import annotations

import ctypes
import gc
import json
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from access.permissions import cache
from catalog.models import Entity, Problem, Served
from catalog.services.render import render_dirty
from integrations.services.locations import ImportSummary, import_paths

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("core_pack")]

SECONDS = 20
MEGABYTES = 400  # of one import, at its height; a file may be 5 MB, and is kept several times over
KEPT = 100  # megabytes, after all imports
GOOD = """apiVersion: backstage.io/v1alpha1
kind: Component
metadata: {name: good}
spec: {type: service, lifecycle: production, owner: team}
"""
FILES = ["a.yaml", "b.yaml", "c.yml"]
_BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)

# Texts that mean harm, and those that only look odd.
odd_text = st.one_of(
    st.text(max_size=20),
    st.text(
        alphabet="\u0000\u0007\u0085\u200b\u202e\u2028\ufeff\ud7ff\U0010ffff{}[]&*!|>'\"%@`#,:?- \t\n",
        max_size=12,
    ),
    st.sampled_from(
        ["../../etc/passwd", "a" * 300, "漢" * 900, "component:", "~", "=", "<<", "yes", "0o7", "1e999"]
    ),
    st.integers(10_000, 400_000).map(lambda count: "x" * count),
)
scalar = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    odd_text,
    st.integers(20, 2_000).map(lambda n: 10**n),
)
value = st.recursive(
    scalar,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(odd_text, inner, max_size=4)),
    max_leaves=12,
)


@st.composite
def written(draw: st.DrawFn) -> str:
    """A document with something odd in it, as text."""
    target = draw(
        st.sampled_from([*FILES, "./*.yaml", "./**", "..", "./none.yaml", "/etc/passwd", "https://[a/b"])
    )
    match draw(
        st.sampled_from(
            [
                "spec",
                "metadata",
                "kind",
                "bomb",
                "deep",
                "twice",
                "raw",
                "location",
                "placeholder",
                "cut",
                "tag",
            ]
        )
    ):
        case "spec":
            document: Any = {"spec": draw(value)}
        case "metadata":
            named = st.fixed_dictionaries({"name": st.just("x"), "tags": value, "annotations": value})
            document = {"metadata": draw(st.one_of(value, named))}
        case "kind":
            document = {"kind": draw(value), "apiVersion": draw(value)}
        case "bomb":
            return _BOMB + _text({"spec": {}})
        case "deep":
            count = draw(st.integers(20, 3_000))
            opening, closing = draw(st.sampled_from([("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", "")]))
            return f"{_text({})}extra: {opening * count}1{closing * count}\n"
        case "twice":
            return _text({}) + "spec: {a: 1, a: 2}\nkind: API\n"
        case "raw":
            return draw(odd_text)
        case "location":
            kind = draw(st.sampled_from(["file", "url", "x"]))
            document = {"kind": "Location", "spec": {"targets": [target, target], "type": kind}}
        case "placeholder":
            way = draw(st.sampled_from(["$text", "$json", "$yaml", "$other"]))
            document = {"spec": {"definition": {way: target}}}
        case "cut":
            text = _text({})
            return text[: draw(st.integers(0, len(text)))] + draw(odd_text)
        case _:
            tags = ["!!python/object/apply:os.system [id]", "!x y", "!!binary '@'", "*none", "&a *a"]
            tag = draw(st.sampled_from(tags))
            return f"{_text({})}extra: {tag}\n"
    return _text(document)


def _text(changes: dict[str, Any]) -> str:
    document = {
        "apiVersion": "backstage.io/v1alpha1",
        "kind": "Component",
        "metadata": {"name": "x"},
        "spec": {"type": "service", "lifecycle": "production", "owner": "team"},
        **changes,
    }
    return "".join(f"{key}: {_json(value)}\n" for key, value in document.items())


def _json(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False)


files = st.dictionaries(
    st.sampled_from(FILES), st.lists(written(), min_size=1, max_size=4).map("---\n".join), min_size=1
)


def take_in(folder: Path, made: dict[str, str]) -> tuple[ImportSummary, float]:
    """Import files and a good one, and how long that took."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    for name, text in made.items():
        (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    begun = time.monotonic()
    summary = import_paths(addresses=[str(folder)], by="tests")
    render_dirty(at=timezone.now())
    return summary, time.monotonic() - begun


def megabytes(name: str) -> float:
    """What the process has in memory (`VmRSS`), or had at most since `clear_refs` was told so (`VmHWM`)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0]) / 1024


def check(folder: Path, made: dict[str, str]) -> None:
    Path("/proc/self/clear_refs").write_text("5")
    before = megabytes("VmRSS")
    summary, seconds = take_in(folder, made)
    assert seconds < SECONDS
    assert megabytes("VmHWM") - before < MEGABYTES
    assert Entity.objects.filter(ref="component:default/good", deleted_at=None).exists()
    assert summary.documents == summary.accepted + summary.refused
    assert len(summary.problems) >= min(summary.refused, 1)
    for problem in summary.problems:
        assert problem.message.strip()
        assert problem.file
        assert len(problem.message) < 5_000, "what came is shown shortened"
    told = Problem.objects.filter(type="refused-document", resolved_at=None)
    assert told.exists() == bool(summary.problems)
    for document, relations in Served.objects.values_list("document", "relations"):
        orjson.loads(document)
        orjson.loads(relations)


def explore(folder: Path, examples: int) -> None:
    (folder / "good.yaml").write_text(GOOD)

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(made=files)
    def each(made: dict[str, str]) -> None:
        with transaction.atomic():
            try:
                check(folder, made)
            finally:
                transaction.set_rollback(True)
        cache.clear()

    before = megabytes("VmRSS")
    each()
    # Hypothesis kept all its examples until now, more than a gigabyte, and the allocator what it gave back.
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    assert megabytes("VmRSS") - before < KEPT


@pytest.fixture
def folder(tmp_path: Path, settings: Any) -> Path:
    made = tmp_path / "catalog"
    made.mkdir()
    settings.PORTICO_FILES_ALLOW = [made]
    return made


def test_any_files_are_taken_in_or_refused_in_words(folder: Path, contacted: set[tuple[str, int]]) -> None:
    explore(folder, 40)
    assert contacted == set()


@pytest.mark.full
def test_so_they_are_at_length(folder: Path, contacted: set[tuple[str, int]]) -> None:
    explore(folder, 1_500)
    assert contacted == set()


def test_locations_that_lead_in_a_circle_are_read_once(folder: Path) -> None:
    leading = (
        "apiVersion: backstage.io/v1alpha1\nkind: Location\nmetadata: {name: %s}\nspec: {targets: [%s]}\n"
    )
    made = {
        "a.yaml": leading % ("a", "./b.yaml, ./a.yaml, './*.yaml'") + f"---\n{GOOD.replace('good', 'one')}",
        "b.yaml": leading % ("b", "./a.yaml, ../catalog/b.yaml"),
    }
    summary, _seconds = take_in(folder, made)
    assert (summary.files, summary.problems) == (2, [])
    assert Entity.objects.filter(deleted_at=None).count() == 3
