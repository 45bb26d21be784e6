import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command

from access.models import AuditEvent, Secret
from access.secrets import (
    SecretUnreadable,
    forget_secrets,
    keep_secret,
    names_of_secrets,
    read_secrets,
    register_sealed,
    rotate_keys,
    seal,
    unseal,
)

OLD, NEW = "an old key of thirty-two characters or more", "a new key of thirty-two characters or more"
VALUE = "s3cr3t-välue"


@pytest.fixture(autouse=True)
def keys(settings):
    settings.PORTICO_ENCRYPTION_KEYS = [OLD]
    return settings


def keep(name="token", value=VALUE):
    keep_secret(owner_type="connection", owner_uid="7", name=name, value=value)


def read():
    return read_secrets(owner_type="connection", owner_uid="7")


def test_a_sealed_value_comes_back_and_shows_nothing():
    sealed = seal(VALUE)
    assert unseal(sealed) == VALUE
    assert "s3cr3t" not in sealed
    assert seal(VALUE) != sealed


def test_another_key_or_a_changed_value_is_refused(keys):
    sealed = seal(VALUE)
    with pytest.raises(SecretUnreadable):
        unseal(sealed[:-6] + "AAAAA=")
    keys.PORTICO_ENCRYPTION_KEYS = [NEW]
    with pytest.raises(SecretUnreadable) as caught:
        unseal(sealed)
    assert sealed not in caught.value.message


@pytest.mark.parametrize("texts", [[], ["short"], [NEW, "short"]])
def test_weak_keys_are_refused(keys, texts):
    keys.PORTICO_ENCRYPTION_KEYS = texts
    with pytest.raises(ImproperlyConfigured, match="PORTICO_ENCRYPTION_KEYS") as caught:
        seal(VALUE)
    assert "short" not in str(caught.value)


def test_secrets_of_an_owner(db):
    keep()
    keep(value="second")
    keep("key", "third")
    assert read() == {"token": "second", "key": "third"}
    assert names_of_secrets(owner_type="connection", owner_uid="7") == {"token", "key"}
    assert read_secrets(owner_type="connection", owner_uid="8") == {}
    forget_secrets(owner_type="connection", owner_uid="7", name="key")
    assert read() == {"token": "second"}
    forget_secrets(owner_type="connection", owner_uid="7")
    assert not Secret.objects.exists()


def test_nothing_is_stored_or_said_in_the_clear(db):
    keep()
    row = Secret.objects.get()
    assert "s3cr3t" not in f"{vars(row)} {row!r} {row}"


def test_keys_rotate_and_the_old_one_can_go(db, keys, monkeypatch, capsys):
    monkeypatch.setattr("access.secrets._sealed_columns", [])
    keep()
    keys.PORTICO_ENCRYPTION_KEYS = [NEW, OLD]
    assert read() == {"token": VALUE}
    call_command("rotate_keys")
    assert "1 secrets" in capsys.readouterr().out
    assert AuditEvent.objects.get(verb="secret.rotate").changes == {"count": 1}
    keys.PORTICO_ENCRYPTION_KEYS = [NEW]
    assert read() == {"token": VALUE}
    assert rotate_keys() == 0


def test_rotation_reaches_other_floors_columns(no_access, keys, monkeypatch):
    monkeypatch.setattr("access.secrets._sealed_columns", [])
    no_access.name = seal(VALUE)
    no_access.save()
    register_sealed(type(no_access), "name")
    keys.PORTICO_ENCRYPTION_KEYS = [NEW, OLD]
    assert rotate_keys() == 1
    keys.PORTICO_ENCRYPTION_KEYS = [NEW]
    no_access.refresh_from_db()
    assert unseal(no_access.name) == VALUE


def test_rotation_is_whole_or_not_at_all(no_access, keys, monkeypatch):
    monkeypatch.setattr("access.secrets._sealed_columns", [])
    keep()
    before = Secret.objects.get().sealed
    register_sealed(type(no_access), "name")  # holds a name that no key opens
    keys.PORTICO_ENCRYPTION_KEYS = [NEW, OLD]
    with pytest.raises(SecretUnreadable):
        rotate_keys()
    assert Secret.objects.get().sealed == before
