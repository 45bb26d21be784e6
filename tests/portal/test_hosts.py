"""A request for a host that the portal is not: a sentence that says what to set, and harmless whatever came."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.test import Client


@pytest.fixture
def strict(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["localhost", "portal.example"]


@pytest.mark.parametrize("path", ["/", "/sign-in", "/healthz", "/nothing/here", "/admin/"])
def test_a_page_names_the_host_and_the_variables(
    strict: None, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        answer = Client(headers={"host": "other.example:8000"}).get(path)
    assert answer.status_code == 400
    page = answer.content.decode()
    assert "does not answer to the host “other.example:8000”" in page
    assert "PORTICO_ALLOWED_HOSTS" in page
    assert "PORTICO_URL" in page
    assert "Content-Security-Policy" in answer.headers
    # One line in the log, without a traceback: whoever scans the network must not fill it.
    (record,) = caplog.records
    assert record.exc_info is None
    assert "'other.example:8000'" in record.getMessage()


def test_a_program_gets_problem_details(strict: None) -> None:
    answer = Client(headers={"host": "other.example"}).get("/api/v1/entities/")
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert "“other.example”" in answer.json()["detail"]


@pytest.mark.parametrize("host", ['"><script>alert(1)</script>', "a" * 5_000, "x\x1b[31m", "<b>.example"])
def test_what_came_is_shown_harmless_and_short(
    strict: None, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = Client(headers={"host": host}).get("/")
    assert answer.status_code == 400
    page = answer.content.decode()
    assert "does not answer to the host" in page
    assert "<script>alert" not in page
    assert "<b>" not in page
    assert "a" * 101 not in page
    assert "\x1b" not in caplog.text


def test_a_known_host_is_served(strict: None) -> None:
    assert Client(headers={"host": "portal.example"}).get("/healthz").status_code == 200
