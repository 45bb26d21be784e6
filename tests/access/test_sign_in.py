import threading
from datetime import timedelta

import pytest
from django.contrib.auth import authenticate, hashers
from django.db import connection
from django.utils import timezone

from access import throttling
from access.models import AuditEvent, SignInLink, User
from access.permissions import can
from access.services import (
    LinkNotValid,
    SignInRefused,
    SignInThrottled,
    change_user,
    create_user,
    ensure_first_account,
    find_sign_in_link,
    make_sign_in_link,
    redeem_sign_in_link,
    sign_in,
)
from base.errors import Forbidden, InvalidInput, NotFound
from tests.cast import PASSWORD

NEW = "seven quiet lanterns"
HERE = "198.51.100.7"


class TestLinks:
    def test_a_link_works_once(self, no_access):
        token = make_sign_in_link(no_access)
        assert find_sign_in_link(token).user == no_access
        user = redeem_sign_in_link(token=token, name="Noor H.", password=NEW)
        assert (user.name, authenticate(username="noor", password=NEW)) == ("Noor H.", user)
        with pytest.raises(LinkNotValid):
            redeem_sign_in_link(token=token, name="Mallory", password=NEW + "2")
        with pytest.raises(LinkNotValid):
            find_sign_in_link(token)
        assert authenticate(username="noor", password=NEW)

    def test_a_link_works_for_24_hours(self, no_access):
        now = timezone.now()
        token = make_sign_in_link(no_access, now=now)
        find_sign_in_link(token, now=now + timedelta(hours=23, minutes=59))
        with pytest.raises(LinkNotValid):
            redeem_sign_in_link(token=token, name="N", password=NEW, now=now + timedelta(hours=24))

    def test_a_new_link_ends_the_earlier_one(self, no_access):
        first = make_sign_in_link(no_access)
        make_sign_in_link(no_access)
        with pytest.raises(LinkNotValid):
            find_sign_in_link(first)

    @pytest.mark.parametrize(("name", "password"), [(" ", NEW), ("Noor", "short"), ("Noor", "password1234")])
    def test_what_is_refused_leaves_the_link(self, no_access, name, password):
        token = make_sign_in_link(no_access)
        with pytest.raises(InvalidInput):
            redeem_sign_in_link(token=token, name=name, password=password)
        redeem_sign_in_link(token=token, name="Noor", password=NEW)

    def test_an_inactive_account_has_no_link(self, no_access):
        token = make_sign_in_link(no_access)
        change_user(no_access, is_active=False)
        with pytest.raises(LinkNotValid):
            redeem_sign_in_link(token=token, name="Noor", password=NEW)
        with pytest.raises(InvalidInput):
            make_sign_in_link(User.objects.get(username="noor"))

    def test_only_the_hash_is_kept(self, no_access):
        token = make_sign_in_link(no_access)
        link = SignInLink.objects.get()
        assert token not in f"{vars(link)} {link!r} {link}"
        assert not AuditEvent.objects.filter(changes__icontains=token).exists()

    def test_nobody_takes_over_an_account_that_may_more(self, ana, ben):
        with pytest.raises(Forbidden):
            make_sign_in_link(ana, by=ben)
        make_sign_in_link(ben, by=ana)

    @pytest.mark.django_db(transaction=True)
    def test_of_many_at_once_one_gets_in(self):
        token = make_sign_in_link(create_user(username="noor"))
        start, outcomes = threading.Barrier(4), []

        def redeem(number):
            start.wait()
            try:
                redeem_sign_in_link(token=token, name=f"Number {number}", password=f"{NEW} {number}")
                outcomes.append(number)
            except LinkNotValid:
                outcomes.append(None)
            finally:
                connection.close()

        threads = [threading.Thread(target=redeem, args=[number]) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        won = [number for number in outcomes if number is not None]
        assert len(outcomes) == 4
        assert len(won) == 1
        user = User.objects.get(username="noor")
        assert user.name == f"Number {won[0]}"
        assert user.check_password(f"{NEW} {won[0]}")

    @pytest.mark.django_db(transaction=True)
    def test_two_who_both_looked_before_one_of_them_used_it(self, monkeypatch):
        """The second waits on the row and must look again after the wait."""
        token = make_sign_in_link(create_user(username="noor"))
        link = find_sign_in_link(token)
        redeem_sign_in_link(token=token, name="First", password=NEW)
        monkeypatch.setattr("access.services.signing_in.find_sign_in_link", lambda *args, **kwargs: link)
        with pytest.raises(LinkNotValid):
            redeem_sign_in_link(token=token, name="Second", password=NEW)
        assert User.objects.get(username="noor").name == "First"


class TestFirstAccount:
    def test_it_administers_once_its_link_is_redeemed(self, roles):
        token = ensure_first_account()
        admin = User.objects.get()
        assert (admin.username, admin.has_usable_password(), can(admin, "user.write")) == (
            "admin",
            False,
            True,
        )
        with pytest.raises(SignInRefused):
            sign_in(username="admin", password="", address=HERE)
        redeem_sign_in_link(token=token, name="Ada", password=NEW)
        assert sign_in(username="Admin ", password=NEW, address=HERE) == admin

    def test_there_is_one(self, roles, vic):
        assert ensure_first_account() is None
        assert User.objects.count() == 1

    def test_without_roles_nothing_is_left(self, db):
        with pytest.raises(NotFound, match="packs/core"):
            ensure_first_account()
        assert not User.objects.exists()


@pytest.mark.usefixtures("fresh_cache")
class TestSignIn:
    def test_the_case_of_the_name_does_not_matter(self, ana):
        assert sign_in(username=" ANA", password=PASSWORD, address=HERE) == ana
        assert AuditEvent.objects.filter(verb="session.start", actor_label="ana").exists()

    @pytest.mark.parametrize("username", ["ana", "nobody", "", "a\0b", "x" * 5000, "' or 1=1 --"])
    def test_what_is_wrong_is_not_said(self, ana, username):
        with pytest.raises(SignInRefused) as caught:
            sign_in(username=username, password="wrong", address=HERE)
        assert "user name or the password" in caught.value.message

    def test_an_unknown_name_is_hashed_like_a_known_one(self, ana, monkeypatch):
        calls, running = [], []
        hasher = type(hashers.get_hasher())

        def counted(method):
            def run(*args, **kwargs):
                if not running:  # some hashers verify by encoding
                    calls.append(1)
                running.append(1)
                try:
                    return method(*args, **kwargs)
                finally:
                    running.pop()

            return run

        for name in ("encode", "verify"):
            monkeypatch.setattr(hasher, name, counted(getattr(hasher, name)))
        for username in ("ana", "nobody", "no such name!"):
            calls.clear()
            with pytest.raises(SignInRefused):
                sign_in(username=username, password="wrong", address=HERE)
            assert len(calls) == 1, username

    def test_an_inactive_account_is_refused(self, ana, vic):
        change_user(vic, is_active=False, by=ana)
        with pytest.raises(SignInRefused):
            sign_in(username="vic", password=PASSWORD, address=HERE)

    def test_guessing_is_stopped_and_others_still_get_in(self, ana, ben):
        now = timezone.now()
        for _ in range(throttling.PER_ACCOUNT_AND_ADDRESS):
            with pytest.raises(SignInRefused):
                sign_in(username="ana", password="guess", address=HERE, now=now)
        with pytest.raises(SignInThrottled) as caught:
            sign_in(username="ana", password=PASSWORD, address=HERE, now=now)
        assert "minute" in caught.value.message
        assert 0 < caught.value.retry_after <= throttling.WINDOW
        assert sign_in(username="ben", password=PASSWORD, address=HERE, now=now) == ben
        assert sign_in(username="ana", password=PASSWORD, address="198.51.100.8", now=now) == ana
        later = now + timedelta(seconds=throttling.WINDOW)
        assert sign_in(username="ana", password=PASSWORD, address=HERE, now=later) == ana

    def test_an_address_that_tries_many_names_is_stopped(self, ana, monkeypatch):
        monkeypatch.setattr(throttling, "PER_ADDRESS", 8)
        now = timezone.now()
        for number in range(8):
            with pytest.raises(SignInRefused):
                sign_in(username=f"name{number}", password="guess", address=HERE, now=now)
        with pytest.raises(SignInThrottled):
            sign_in(username="ana", password=PASSWORD, address=HERE, now=now)

    def test_successes_are_not_counted(self, ana):
        now = timezone.now()
        for _ in range(3 * throttling.PER_ACCOUNT_AND_ADDRESS):
            sign_in(username="ana", password=PASSWORD, address=HERE, now=now)

    def test_without_redis_people_still_get_in(self, ana, settings):
        settings.CACHES = {
            "default": {
                "BACKEND": "django.core.cache.backends.redis.RedisCache",
                "LOCATION": "unix:///nowhere.sock",
            }
        }
        assert sign_in(username="ana", password=PASSWORD, address=HERE) == ana

    def test_neither_password_nor_mistyped_name_is_recorded(self, ana, caplog):
        for username, password in [("ana", "hunter2-guess"), ("my-password-by-mistake", "x")]:
            with pytest.raises(SignInRefused):
                sign_in(username=username, password=password, address=HERE)
        recorded = str(list(AuditEvent.objects.values())) + caplog.text
        assert "hunter2" not in recorded
        assert "by-mistake" not in recorded
        assert "session.refuse" in recorded
