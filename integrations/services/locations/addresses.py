"""Addresses of catalog files: as people type them, and as they are shown."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

from integrations.files import has_glob
from integrations.outbound import mask_url
from integrations.readers import ALL_YAML


def label_of(address: str) -> str:
    """A location in a few words: the last parts of its path."""
    target = mask_url(address.partition(":")[2])
    parts = [part for part in target.split("/") if part and "*" not in part.replace("***", "")]
    return "/".join(parts[-2:]) or target


def shown(target: str) -> str:
    """A target for people: without a password, and a folder or repository without the pattern that we put to it."""
    return mask_url(target).removeprefix("git+").removesuffix(ALL_YAML).rstrip("/") or target


def is_local(address: str) -> bool:
    return "://" not in address or address.startswith(("file://", "git+file://"))


def root_of(address: str) -> str:
    """The folder that a local address lies in: up to the first part with a pattern."""
    path = (
        Path(address.removeprefix("git+").removeprefix("file://").removeprefix("file:"))
        .expanduser()
        .absolute()
    )
    fixed = Path(*takewhile(lambda part: not has_glob(part), path.parts))
    return str(fixed if fixed.is_dir() else fixed.parent)
