"""What a search looks through besides a generated catalog, and what people ask of it. Deterministic."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.utils import timezone

from catalog.models import Activity, Entity, PassageSort
from catalog.services.passages import Part, replace_passages
from tests.perf.generate import WORDS

VERBS = ["List", "Create", "Update", "Delete", "Find", "Cancel", "Approve", "Export", "Import", "Close"]
METHODS = ["GET", "POST", "PUT", "DELETE", "GET", "POST", "POST", "GET", "POST", "PATCH"]
_SYLLABLES = [
    "ka",
    "lo",
    "mi",
    "ter",
    "van",
    "dor",
    "sel",
    "bri",
    "nu",
    "fa",
    "gon",
    "pex",
    "tra",
    "wi",
    "zu",
    "hel",
]
_OF_API = 6
_OF_COMPONENT = 4
_AT_ONCE = 500


def vocabulary(rng: random.Random) -> list[str]:
    """Words of the docs: some are in many sections, most in few."""
    return ["".join(rng.choices(_SYLLABLES, k=rng.randrange(2, 5))) for _ in range(5_000)]


def sentence(rng: random.Random, words: list[str], length: int) -> str:
    """Words as often as in a language: the first ones most."""
    return " ".join(words[min(int(rng.paretovariate(0.6)), len(words)) - 1] for _ in range(length))


def add_passages_and_activity(*, seed: int = 11) -> tuple[int, int]:
    """Six operations for each API, four sections of docs for every fourth component, two activities for each.

    :returns: how many passages and activities.
    """
    rng = random.Random(seed)
    words = vocabulary(rng)
    apis = list(Entity.objects.filter(kind="api").order_by("pk").values_list("pk", flat=True))
    components = list(
        Entity.objects.filter(kind="component").order_by("pk").values_list("pk", "uid", "ref", "namespace")
    )
    passages = 0
    for ids in _pages(apis):
        said = {pk: list(_operations(rng, words)) for pk in ids}
        passages += replace_passages(sort=PassageSort.OPERATION, passages=said)
    for rows in _pages(components[::4]):
        sections = {
            row[0]: [
                Part(f"docs/page-{n}.md", sentence(rng, words, 3).capitalize(), sentence(rng, words, 120))
                for n in range(_OF_COMPONENT)
            ]
            for row in rows
        }
        passages += replace_passages(sort=PassageSort.PAGE, passages=sections)
    now, number = timezone.now(), 0
    for rows in _pages(components):
        told = []
        for _pk, uid, ref, namespace in rows:
            for _ in range(2):
                number += 1
                told.append(
                    Activity(
                        connection="ci",
                        connector="ci",
                        type="change",
                        external_id=str(number),
                        title=f"{rng.choice(VERBS)} {rng.choice(WORDS)} {sentence(rng, words, 4)}",
                        at=now - timedelta(minutes=number),
                        as_of=now,
                        subject_uid=uid,
                        subject_ref=ref,
                        namespace=namespace,
                        digest=b"",
                    )
                )
        Activity.objects.bulk_create(told)
    return passages, number


def questions(count: int, *, size: int, seed: int = 23) -> Iterator[tuple[str, str]]:
    """What people type, each with what sort of question it is, in turn."""
    rng = random.Random(seed)
    words = vocabulary(random.Random(11))
    components = size - size * 38 // 100
    for number in range(count):
        name = f"component-{rng.randrange(components)}"
        one, other = rng.sample(WORDS, 2)
        rare = rng.choice(words[200:])
        yield (
            ("exact name", name),
            ("beginning of a name", name[: rng.randrange(4, len(name))]),
            ("one common word", one),
            ("two words", f"{one} {other}"),
            ("two letters", one[:2]),
            ("three words, one too many", f"{one.capitalize()} {other} {rng.randrange(components)}"),
            ("operation", f"{rng.choice(VERBS).lower()} {one}s"),
            ("word of docs", rare),
            ("words of docs", f"{rare} {words[rng.randrange(20, 400)]} {words[rng.randrange(20, 400)]}"),
            ("tag and owner", f"rust team-{rng.randrange(size * 3 // 100)}"),
            ("slip in a name", _slip(rng, name.replace("-", " "))),
            ("slip in a word", _slip(rng, one)),
            ("slip in two words", f"{_slip(rng, one)} {_slip(rng, other)}"),
            ("nothing", f"{rare[::-1]}qx {one[::-1]}xq"),
        )[number % 14]


def _operations(rng: random.Random, words: list[str]) -> Iterator[Part]:
    for number in range(_OF_API):
        thing, verb = rng.choice(WORDS), rng.randrange(len(VERBS))
        key = f"{METHODS[verb]} /{thing}s/{{{thing}Id}}/{rng.choice(words)}-{number}"
        yield Part(key, f"{VERBS[verb]} {thing}s", sentence(rng, words, 20))


def _slip(rng: random.Random, text: str) -> str:
    at = rng.randrange(1, max(len(text) - 1, 2))
    return (
        text[:at] + text[at + 1 :]
        if rng.random() < 0.5
        else text[: at - 1] + text[at : at + 1] + text[at - 1] + text[at + 1 :]
    )


def _pages(rows: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(rows), _AT_ONCE):
        yield rows[start : start + _AT_ONCE]
