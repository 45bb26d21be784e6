"""Secrets do not reach the log."""

from __future__ import annotations

import logging
import time

import pytest

from base.logs import MaskSecrets, mask_secrets


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer hunter2hunter2",
        "{'Authorization': 'Basic hunter2hunter2='}",
        "authorization=token hunter2, next",
        "Cookie: sessionid=hunter2; csrftoken=hunter2",
        "got bearer hunter2hunter2 from the client",
        "password=hunter2",
        "password: hunter2",
        '{"password": "a \\" hunter2", "user": "ana"}',
        "{'api_key': 'hunter2'}",
        "X-Api-Key: hunter2",
        "PORTICO_SECRET_KEY=hunter2",
        "https://ana:hunter2@git.example/x.git",
        "https://hunter2@git.example/x.git",
        "postgresql://portico:hun%40ter2hunter2@db/portico",
        "GET /x?access_token=hunter2&page=2",
        "client_secret=b'hunter2'",
        "eyJhunter2hunter2.eyJhunter2hunter2.hunter2",
        "ghp_hunter2hunter2hunter2",
        "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_secrets_are_masked(text: str) -> None:
    masked = mask_secrets(text)
    assert "hunter2" not in masked
    assert "***" in masked


@pytest.mark.parametrize(
    "text",
    [
        "Sync of git-main finished in 12:30:45",
        "https://git.example/acme/pay?page=2",
        "component:default/tokenizer changed",
        "mail to ana@acme.example",
        "GET /api/v1/entities/?q=kind:component 200",
    ],
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert mask_secrets(text) == text


def test_what_follows_a_secret_stays_readable() -> None:
    assert mask_secrets("GET /x?token=abc&page=2 failed") == "GET /x?token=***&page=2 failed"


def test_arguments_and_tracebacks_are_masked_too() -> None:
    logger = logging.Logger("test")  # of its own, so that no other handler hears it
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Keep()
    handler.addFilter(MaskSecrets())
    logger.addHandler(handler)
    try:
        raise RuntimeError("token=hunter2")
    except RuntimeError:
        logger.exception("Failed with %s", "password=hunter2")
    assert "hunter2" not in lines[0]
    assert "RuntimeError: token=***" in lines[0]


@pytest.mark.parametrize(
    "part", ["x", "a-", "token", "token ", "a.", "eyJaaaaaaaa-", "http://", "my_token_", "bearer "]
)
def test_a_long_line_costs_what_its_length_is(part):
    started = time.process_time()
    mask_secrets(part * (100_000 // len(part)))
    assert time.process_time() - started < 2
