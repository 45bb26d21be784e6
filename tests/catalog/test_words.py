"""The very words of documents, packed beside their claims."""

from __future__ import annotations

import hashlib

import pytest

from catalog.documents import patches
from catalog.documents.patches import pack_words, unpack_words
from catalog.models import Claim


@pytest.mark.parametrize(
    "text", ["a", "kind: Component\n", "x: \0\n", "half \ud800 of a pair", "Grüße, 世界\r\n", "y" * 100_000]
)
def test_what_is_packed_is_unpacked_again(text: str) -> None:
    assert unpack_words(pack_words(text)) == text


def test_a_usual_document_takes_little_room() -> None:
    text = (
        "apiVersion: backstage.io/v1alpha1\nkind: Component\nmetadata:\n  name: pay\n  title: Payments\n"
        "  annotations:\n    github.com/project-slug: acme/pay\n"
        "spec:\n  type: service\n  lifecycle: production\n  owner: team-pay\n  system: shop\n"
    )
    assert len(pack_words(text)) < len(text) / 2


def test_what_packs_them_never_changes() -> None:
    digest = hashlib.sha256(patches._USUAL).hexdigest()
    assert digest == "8cae56f7fe8eee35d59e950e407772e13e166e81d1fa083c35aaccccfc0bfef3"


def test_words_of_before_they_were_packed_are_read() -> None:
    assert Claim(place={"text": "kind: A\n"}).text == "kind: A\n"
    assert Claim(place={}, words=pack_words("kind: B\n")).text == "kind: B\n"
    assert Claim(place={}).text == ""
