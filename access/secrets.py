"""Secrets at rest: encrypted with keys that live outside of the database."""

from __future__ import annotations

import base64
import functools
import hashlib
from dataclasses import dataclass

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models, transaction
from django.utils.translation import gettext as _

from access.models import Secret
from base.errors import DomainError

_MIN_KEY_LENGTH = 32


class SecretUnreadable(DomainError):
    """A secret was sealed with a key that we no longer have."""

    code = "secret-unreadable"
    status = 500


@dataclass(frozen=True)
class _Keys:
    fernet: MultiFernet
    primary: str  # a fingerprint; tells nothing of the key


@functools.lru_cache(maxsize=4)
def _keys(texts: tuple[str, ...]) -> _Keys:
    if not texts or any(len(text) < _MIN_KEY_LENGTH for text in texts):
        raise ImproperlyConfigured(
            f"PORTICO_ENCRYPTION_KEYS must hold one or more random texts of at least {_MIN_KEY_LENGTH} "
            "characters, newest first, with blanks between them."
        )
    keys = [base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()) for text in texts]
    return _Keys(MultiFernet([Fernet(key) for key in keys]), hashlib.sha256(keys[0]).hexdigest()[:16])


def _current() -> _Keys:
    return _keys(tuple(settings.PORTICO_ENCRYPTION_KEYS))


def seal(value: str) -> str:
    """The value encrypted with the newest key."""
    return _current().fernet.encrypt(value.encode()).decode()


def unseal(sealed: str) -> str:
    """The value that was sealed.

    :raises SecretUnreadable: if none of the present keys opens it.
    """
    try:
        return _current().fernet.decrypt(sealed).decode()
    except InvalidToken:
        raise SecretUnreadable(
            _(
                "A stored secret cannot be read: it was encrypted with a key that is not among "
                "PORTICO_ENCRYPTION_KEYS. Bring that key back, or enter the secret again."
            )
        )


def reseal(sealed: str) -> str:
    """The same value, sealed with the newest key.

    :raises SecretUnreadable: if none of the present keys opens it.
    """
    return seal(unseal(sealed))


def keep_secret(*, owner_type: str, owner_uid: str, name: str, value: str) -> None:
    """Keep one secret of an owner, in place of the one of this name."""
    Secret.objects.update_or_create(
        owner_type=owner_type,
        owner_uid=owner_uid,
        name=name,
        defaults={"sealed": seal(value), "key_id": _current().primary},
    )


def read_secrets(*, owner_type: str, owner_uid: str) -> dict[str, str]:
    """All secrets of an owner by name, in the clear: for the moment of use, never to be shown or passed on.

    :raises SecretUnreadable: if none of the present keys opens one.
    """
    rows = Secret.objects.filter(owner_type=owner_type, owner_uid=owner_uid)
    return {name: unseal(sealed) for name, sealed in rows.values_list("name", "sealed")}


def names_of_secrets(*, owner_type: str, owner_uid: str) -> set[str]:
    """Which secrets an owner has."""
    rows = Secret.objects.filter(owner_type=owner_type, owner_uid=owner_uid)
    return set(rows.values_list("name", flat=True))


def forget_secrets(*, owner_type: str, owner_uid: str, name: str | None = None) -> None:
    """Forget one secret of an owner, or all of them."""
    rows = Secret.objects.filter(owner_type=owner_type, owner_uid=owner_uid)
    (rows if name is None else rows.filter(name=name)).delete()


_sealed_columns: list[tuple[type[models.Model], str]] = []


def register_sealed(model: type[models.Model], field: str) -> None:
    """Make a column of another floor known that holds `seal`ed text, so that key rotation reaches it."""
    _sealed_columns.append((model, field))


def count_secrets() -> tuple[int, int]:
    """How many secrets are kept, and how many of them none of the present keys opens."""
    sealed = list(Secret.objects.values_list("sealed", flat=True))
    for model, field in _sealed_columns:
        sealed += model._base_manager.exclude(**{field: ""}).values_list(field, flat=True)
    return len(sealed), sum(not _opens(text) for text in sealed)


def _opens(sealed: str) -> bool:
    try:
        unseal(sealed)
    except SecretUnreadable:
        return False
    return True


def rotate_keys() -> int:
    """Seal everything with the newest key; after that the older ones can go.

    :returns: how many secrets were sealed anew.
    :raises SecretUnreadable: if one cannot be opened; then nothing was changed.
    """
    primary = _current().primary
    with transaction.atomic():
        stale = list(Secret.objects.select_for_update().exclude(key_id=primary))
        for secret in stale:
            secret.sealed, secret.key_id = reseal(secret.sealed), primary
        Secret.objects.bulk_update(stale, ["sealed", "key_id"], batch_size=500)
        count = len(stale)
        for model, field in _sealed_columns:
            rows = list(model._base_manager.select_for_update().exclude(**{field: ""}).order_by("pk"))
            for row in rows:
                setattr(row, field, reseal(getattr(row, field)))
            model._base_manager.bulk_update(rows, [field], batch_size=500)
            count += len(rows)
    return count
