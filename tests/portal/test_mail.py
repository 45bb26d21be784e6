"""Mails of what people watch, against a server that speaks SMTP: what they say, when they go, and what goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import close_old_connections, connection, transaction
from django.test import Client
from django.utils import timezone

from access.models import AuditEvent, Grant, User
from access.permissions import changing_access
from catalog.services.render import render_dirty
from portal import mail, telling
from portal.models import Mail, Notice, Watch
from portal.watches import change_watch, delete_watch, mail_trouble, make_watch, mark_all
from tests.catalog.saying import claim, component, say
from tests.portal.smtp import MailServer, mail_server

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 30, 9, 0, tzinfo=UTC)
SOON = mail.SETTLING


@pytest.fixture
def post(settings: Any) -> Iterator[MailServer]:
    with mail_server() as server:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.port
        settings.DEFAULT_FROM_EMAIL = "Portico <portico@acme.example>"
        settings.PORTICO_URL = "https://portal.example"
        yield server


@pytest.fixture(autouse=True)
def catalog(core_pack: None) -> None:
    say("yaml:a", component("pay"))
    tell()


def tell(*, later: timedelta = timedelta()) -> None:
    render_dirty(at=timezone.now())
    telling.tell(now=NOW + later)


def watch(user: User, how: str = "now", **more: Any) -> Watch:
    return make_watch(**{"user": user, "about": "entities", "query": "kind:component", "mail": how} | more)


def come(name: str, *, later: timedelta = timedelta()) -> None:
    say(f"yaml:{name}", component(name))
    tell(later=later)


def send(*, later: timedelta = SOON) -> int:
    return mail.send_due(now=NOW + later)


def body(message: Any) -> str:
    return str(message.get_content()).replace("\r\n", "\n")


class TestTheWayOut:
    """As RFC 8058 has it: the mail program sends one request, signed in nowhere."""

    def link(self, message: Any) -> str:
        return (
            message["List-Unsubscribe"].replace("\n", "").strip(" <>").removeprefix("https://portal.example")
        )

    def test_one_request_ends_the_mails_of_one_watch(
        self, post: MailServer, vic: User, settings: Any
    ) -> None:
        settings.ALLOWED_HOSTS = ["*"]
        made, other = watch(vic, name="Ours"), watch(vic, name="Others")
        come("card")
        assert send() == 2
        url = self.link(post.mails[0])
        client = Client(enforce_csrf_checks=True)
        page = client.get(url).content.decode()
        assert "<li>Ours</li>" in page
        assert "Others" not in page
        assert Watch.objects.filter(mail="now").count() == 2, "to look at it ends nothing"
        answer = client.post(url, {"List-Unsubscribe": "One-Click"})
        assert answer.status_code == 200
        assert "These mails have ended" in answer.content.decode()
        assert list(Watch.objects.filter(mail="now")) == [other]
        event = AuditEvent.objects.filter(verb="watch.update").latest("pk")
        assert (event.actor_type, event.changes["mail"]) == ("system", ["now", "none"])
        come("more", later=timedelta(hours=1))
        assert send(later=timedelta(hours=2)) == 1
        change_watch(watch=made, mail="daily")
        assert client.get(url).status_code == 200

    def test_of_the_mail_a_day_it_ends_all(self, post: MailServer, vic: User, settings: Any) -> None:
        settings.ALLOWED_HOSTS = ["*"]
        made = [watch(vic, how, name=how) for how in ("daily", "daily", "now")]
        come("card")
        assert send(later=timedelta(hours=22)) == 2
        daily = next(one for one in post.mails if "things" in one["Subject"])
        assert Client().post(self.link(daily), {"List-Unsubscribe": "One-Click"}).status_code == 200
        assert [Watch.objects.get(pk=one.pk).mail for one in made] == ["none", "none", "now"]

    def test_another_link_ends_nothing(self, post: MailServer, vic: User, settings: Any) -> None:
        settings.ALLOWED_HOSTS = ["*"]
        watch(vic)
        come("card")
        send()
        url = self.link(post.mails[0])
        for wrong in (url[:-1] + ("A" if url[-1] != "A" else "B"), "/notices/end/x"):
            assert Client().post(wrong, {"List-Unsubscribe": "One-Click"}).status_code == 404
        assert Watch.objects.get().mail == "now"

    def test_where_it_goes_by_http_a_person_opens_it(
        self, post: MailServer, vic: User, settings: Any
    ) -> None:
        settings.PORTICO_URL = "http://portal.example"
        watch(vic)
        come("card")
        send()
        [message] = post.mails
        assert message["List-Unsubscribe-Post"] is None
        assert message["List-Unsubscribe"].strip().startswith("<http://portal.example/notices/end/")


class TestWhatItSays:
    def test_text_a_link_and_a_way_out(self, post: MailServer, vic: User) -> None:
        made = watch(vic, name="Ours")
        come("card")
        assert send(later=SOON / 2) == 0  # it may be more in a moment
        assert send() == 1
        assert send() == 0
        [message] = post.mails
        assert post.recipients == ["vic@acme.example"]
        assert message["Subject"] == "[Portico] Ours: 1 new"
        assert message["From"] == "Portico <portico@acme.example>"
        assert message["List-Unsubscribe"].strip().startswith("<https://portal.example/notices/end/")
        assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        assert message["Message-ID"].endswith("@portal.example>")
        assert message.get_content_type() == "text/plain"
        text = body(message)
        assert "Ours\nNew: card.\nhttps://portal.example/catalog?q=kind%3Acomponent\n" in text
        assert f"https://portal.example/settings/tell-me/{made.pk}\n" in text

    def test_a_name_makes_no_header(self, post: MailServer, vic: User) -> None:
        made = watch(vic)
        Watch.objects.filter(pk=made.pk).update(name="a\r\nBcc: evil@evil.example\r\n\r\nhello")
        say("yaml:b", claim("component:x", {"type": "service"}, metadata={"title": "t\r\n.\r\nRSET\r\n"}))
        tell()
        assert send() == 1
        [message] = post.mails
        assert message["Bcc"] is None
        assert message["Subject"] == "[Portico] a Bcc: evil@evil.example hello: 1 new"
        assert post.recipients == ["vic@acme.example"]

    def test_it_says_what_may_be_seen_when_it_goes(self, post: MailServer, cleo: User, vic: User) -> None:
        watch(cleo)
        watch(vic)
        say("yaml:b", claim("component:elsewhere/shop", {"type": "service"}))
        tell()
        with changing_access():
            Grant.objects.filter(user=cleo).delete()
        assert send() == 1
        assert post.recipients == ["vic@acme.example"]
        assert Mail.objects.filter(sent_at=None).count() == 0

    def test_what_was_read_is_not_mailed(self, post: MailServer, vic: User) -> None:
        watch(vic)
        come("card")
        mark_all(user=vic)
        assert send() == 0
        assert not Mail.objects.filter(sent_at=None).exists()

    @pytest.mark.parametrize("what", ["paused", "deleted", "no mail", "inactive", "no address"])
    def test_who_wants_none_any_more_gets_none(self, post: MailServer, vic: User, what: str) -> None:
        made = watch(vic)
        come("card")
        match what:
            case "paused":
                change_watch(watch=made, is_paused=True)
            case "deleted":
                delete_watch(watch=made)
            case "no mail":
                change_watch(watch=made, mail="none")
            case "inactive":
                User.objects.filter(pk=vic.pk).update(is_active=False)
            case _:
                User.objects.filter(pk=vic.pk).update(email="")
        assert send() == 0
        assert post.mails == []


class TestWhenItGoes:
    def test_what_comes_meanwhile_is_in_it_and_what_comes_soon_after_waits(
        self, post: MailServer, vic: User
    ) -> None:
        watch(vic)
        for number in range(3):
            come(f"c{number}", later=timedelta(seconds=10 * number))
        assert send() == 1
        come("later", later=SOON * 2)
        assert send(later=SOON * 4) == 0
        come("more", later=SOON * 5)
        assert send(later=SOON + mail.BETWEEN) == 1
        first, second = post.mails
        assert "New: c0, c1, c2." in body(first)
        assert second["Subject"] == "[Portico] 2 things that you watch"
        assert "later" in body(second)
        assert "more" in body(second)
        assert first["Message-ID"] != second["Message-ID"]

    def test_one_a_day_has_all_watches(self, post: MailServer, vic: User) -> None:
        watch(vic, "daily", name="One")
        watch(vic, "daily", name="Two")
        watch(vic, "none", name="Three")
        come("card")
        come("more", later=timedelta(hours=3))
        assert send(later=timedelta(hours=21, minutes=59)) == 0
        assert send(later=timedelta(hours=22)) == 1
        [message] = post.mails
        assert "\nhttps://portal.example/settings/tell-me\n" in body(message)
        assert body(message).count("https://portal.example/catalog") == 4
        assert "Three" not in body(message)
        come("last", later=timedelta(hours=23))
        assert send(later=timedelta(hours=45)) == 0
        assert send(later=timedelta(hours=46)) == 1

    def test_without_a_server_none_is_kept(self, vic: User) -> None:
        made = watch(vic, "none")
        Watch.objects.filter(pk=made.pk).update(mail="now")
        come("card")
        assert Notice.objects.count() == 1
        assert not Mail.objects.exists()


class TestWhenItFails:
    def test_it_is_tried_again_later_and_later_and_then_given_up(self, post: MailServer, vic: User) -> None:
        made = watch(vic)
        come("card")
        post.answers["MAIL"] = "451 try later, password=hunter22"
        moment, pauses = SOON, []
        for _number in range(mail.ATTEMPTS - 1):
            assert send(later=moment) == 0
            row = Mail.objects.get()
            pauses.append(row.not_before - (NOW + moment))
            assert send(later=moment) == 0
            moment = row.not_before - NOW
        assert pauses[:3] == [timedelta(minutes=1), timedelta(minutes=2), timedelta(minutes=4)]
        assert pauses[-1] == timedelta(hours=4)
        assert send(later=moment) == 0
        row = Mail.objects.get()
        assert row.sent_at is not None
        assert row.attempts == mail.ATTEMPTS
        assert "451 try later" in mail_trouble(made)
        assert "hunter22" not in row.trouble
        assert post.mails == []

    def test_one_that_went_in_the_end_has_no_trouble(self, post: MailServer, vic: User) -> None:
        made = watch(vic)
        come("card")
        post.answers["DATA"] = "452 full"
        assert send() == 0
        assert mail_trouble(made)
        post.answers.clear()
        assert send(later=SOON * 2) == 1
        assert mail_trouble(made) == ""

    def test_an_address_that_there_is_not_is_given_up_at_once(self, post: MailServer, vic: User) -> None:
        made = watch(vic)
        come("card")
        post.answers["RCPT"] = "550 no such person"
        assert send() == 0
        row = Mail.objects.get()
        assert row.attempts == 1
        assert row.sent_at is not None
        assert "no such person" in mail_trouble(made)

    def test_a_server_that_is_not_there_is_asked_once_and_keeps_no_mail_for_ever(
        self, post: MailServer, vic: User, ben: User, settings: Any
    ) -> None:
        for who in (vic, ben):
            watch(who)
        come("card")
        there, settings.EMAIL_PORT = settings.EMAIL_PORT, 1
        assert send() == 0
        assert sorted(Mail.objects.values_list("attempts", flat=True)) == [0, 1]
        settings.EMAIL_PORT = there
        assert send(later=SOON * 3) == 2

    def test_a_worker_that_dies_before_the_server_took_it_loses_and_doubles_nothing(
        self, post: MailServer, vic: User
    ) -> None:
        watch(vic)
        come("card")
        with transaction.atomic():  # what a killed one leaves is rolled back
            post.answers["DATA"] = "421 going down"
            send()
            transaction.set_rollback(True)
        assert Mail.objects.get().attempts == 0
        post.answers.clear()
        assert send() == 1
        assert send() == 0
        assert len(post.mails) == 1

    def test_a_double_has_the_same_name(self, post: MailServer, vic: User) -> None:
        watch(vic)
        come("card")
        with transaction.atomic():
            assert send() == 1
            transaction.set_rollback(True)
        assert send() == 1
        first, second = post.mails
        assert first["Message-ID"] == second["Message-ID"]


@pytest.mark.django_db(transaction=True)
def test_two_workers_send_it_once_and_what_comes_while_it_goes_is_in_the_next(
    post: MailServer, vic: User
) -> None:
    watch(vic)
    come("card")
    post.hold.clear()

    def work() -> None:
        try:
            send()
        finally:
            close_old_connections()
            connection.close()

    worker = threading.Thread(target=work)
    worker.start()
    assert post.asked.wait(10)
    assert send() == 0  # the other holds it
    come("meanwhile", later=timedelta(seconds=30))
    post.hold.set()
    worker.join()
    assert ["New: card." in body(one) for one in post.mails] == [True]
    assert send(later=SOON * 2 + mail.BETWEEN) == 1
    assert "New: meanwhile." in body(post.mails[1])
    assert "card" not in body(post.mails[1])
