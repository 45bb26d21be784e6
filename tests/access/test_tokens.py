import logging
from datetime import timedelta

import pytest
from django.utils import timezone

from access.models import ApiToken, AuditEvent
from access.services import (
    TokenNotValid,
    authenticate_token,
    change_user,
    create_token,
    lifetime,
    revoke_token,
)
from access.services.tokens import NewToken
from base.errors import Forbidden, InvalidInput, NotFound
from base.logs import MaskSecrets


def test_a_token_signs_its_person_in(vic):
    new = create_token(user=vic, name="ci")
    user = authenticate_token(new.text)
    assert (user, user.token) == (vic, new.token)
    assert vic.token is None


def test_the_text_is_shown_once_and_kept_nowhere(vic, caplog):
    new = create_token(user=vic, name="ci")
    row = ApiToken.objects.get()
    everywhere = (
        f"{new!r} {new.token!r} {new.token} {vars(row)} {list(AuditEvent.objects.values())} {caplog.text}"
    )
    assert new.text not in everywhere
    assert new.text[8:] not in everywhere
    assert new.text.startswith(row.prefix)
    assert isinstance(new, NewToken)


def test_a_log_line_that_holds_a_token_is_masked(vic):
    new = create_token(user=vic, name="ci")
    record = logging.LogRecord("x", logging.INFO, "x", 1, "sent %s on", (f"<{new.text}>",), None)
    MaskSecrets().filter(record)
    assert record.getMessage() == "sent <***> on"


def test_never_more_than_the_person_may(vic, ben, cleo):
    for role in ("editor", "administrator"):
        with pytest.raises(Forbidden, match=role.title()):
            create_token(user=vic, name="ci", role=role)
    with pytest.raises(Forbidden):
        create_token(user=ben, name="ci", role="administrator")
    assert not ApiToken.objects.exists()
    create_token(user=cleo, name="ci", role="viewer")


def test_a_role_is_one_that_exists(vic):
    with pytest.raises(NotFound):
        create_token(user=vic, name="ci", role="emperor")


def test_nobody_makes_or_revokes_a_token_of_one_who_may_more(ana, ben):
    with pytest.raises(Forbidden):
        create_token(user=ana, name="ci", by=ben)
    token = create_token(user=ana, name="ci").token
    with pytest.raises(Forbidden):
        revoke_token(token, by=ben)


@pytest.mark.parametrize(
    "text", ["", "po_", "abc", "po_" + "a" * 42, "po_" + "a" * 44, "po_" + "é" * 43, "po_" + "a" * 42 + "\n"]
)
def test_a_malformed_token_is_called_so(db, text):
    with pytest.raises(TokenNotValid, match="46 characters"):
        authenticate_token(text)


def test_unknown_and_revoked_are_not_told_apart(ana, vic):
    revoked = create_token(user=vic, name="old")
    revoke_token(revoked.token, by=vic)
    resting = create_token(user=vic, name="resting")
    change_user(vic, is_active=False, by=ana)
    said = set()
    for text in (revoked.text, resting.text, "po_" + "a" * 43):
        with pytest.raises(TokenNotValid) as caught:
            authenticate_token(text)
        said.add(caught.value.message)
    assert len(said) == 1


def test_an_expired_token_says_so(vic):
    now = timezone.now()
    new = create_token(user=vic, name="ci", expires_at=now + timedelta(days=1), now=now)
    authenticate_token(new.text, now=now + timedelta(hours=23))
    with pytest.raises(TokenNotValid, match="expired on"):
        authenticate_token(new.text, now=now + timedelta(days=1))


def test_a_revoked_token_ends_at_once(vic):
    new = create_token(user=vic, name="ci")
    authenticate_token(new.text)
    revoke_token(new.token, by=vic)
    with pytest.raises(TokenNotValid):
        authenticate_token(new.text)
    revoke_token(new.token, by=vic)
    assert AuditEvent.objects.filter(verb="token.revoke").count() == 1


def test_use_is_noted_now_and_then(vic, django_assert_num_queries, monkeypatch, access_cache):
    monkeypatch.setattr(access_cache, "seconds", 3600)
    now = timezone.now()
    new = create_token(user=vic, name="ci")

    def used_at():
        return ApiToken.objects.get().last_used_at

    assert used_at() is None
    authenticate_token(new.text, now=now)
    assert used_at() == now
    with django_assert_num_queries(0):
        authenticate_token(new.text, now=now + timedelta(minutes=9))
    authenticate_token(new.text, now=now + timedelta(minutes=11))
    assert used_at() == now + timedelta(minutes=11)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30m", 1800), ("12h", 43200), ("90d", 7776000), ("2w", 1209600), ("never", None)]
)
def test_lifetimes(text, seconds):
    assert lifetime(text) == (None if seconds is None else timedelta(seconds=seconds))


@pytest.mark.parametrize("text", ["", "90", "d", "0d", "-1d", "1y", "1.5d", "999999d", "90d "])
def test_wrong_lifetimes(text):
    with pytest.raises(InvalidInput, match="90d"):
        lifetime(text)


def test_what_is_missing_or_past_is_refused(vic):
    with pytest.raises(InvalidInput):
        create_token(user=vic, name=" ")
    with pytest.raises(InvalidInput, match="expired already"):
        create_token(user=vic, name="ci", expires_at=timezone.now() - timedelta(seconds=1))
