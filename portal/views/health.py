"""For those who watch the portal: does the process live, has it all that it needs, what does it count."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser
from django.core.cache import cache
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from access.api.authentication import TokenAuthentication
from access.permissions import can


def healthz(request: HttpRequest) -> HttpResponse:
    """The process answers."""
    return JsonResponse({"status": "ok"})


def readyz(request: HttpRequest) -> HttpResponse:
    """Whether database and Redis answer; 503 with what is missing if not."""
    missing = missing_parts()
    return JsonResponse(
        {"status": "unavailable" if missing else "ok", "missing": missing}, status=503 if missing else 200
    )


def missing_parts() -> list[str]:
    """What the portal needs and does not reach now: database, redis."""
    checks = {"database": _database, "redis": _redis}
    return [name for name, check in checks.items() if not check()]


def _database() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Exception:  # noqa: BLE001 - whatever it is, we are not ready
        return False
    return True


def _redis() -> bool:
    try:
        cache.get("portico-ready")
    except Exception:  # noqa: BLE001
        return False
    return True


def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus metrics, for a token or session that may read the audit log; they name hosts."""
    user = request.user
    if isinstance(user, AnonymousUser):
        found = TokenAuthentication().authenticate(request)  # type: ignore[arg-type]
        user = found[0] if found else user
    if not can(user, "audit.read"):
        return HttpResponse(status=403)
    return HttpResponse(generate_latest(), content_type=CONTENT_TYPE_LATEST)
