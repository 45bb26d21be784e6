"""The web address of a sign-in link; the portal has the page."""

from __future__ import annotations

from django.conf import settings
from django.urls import reverse

DEFAULT_URL = "http://127.0.0.1:8000"


def sign_in_url(token: str) -> str:
    """Where the person with this link's secret part signs in."""
    base = (settings.PORTICO_URL or DEFAULT_URL).rstrip("/")
    return base + reverse("portal:sign-in-link", kwargs={"token": token})
