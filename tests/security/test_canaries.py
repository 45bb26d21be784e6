"""Secrets that were given to a running portal are found nowhere that somebody may look: not in the database, the
logs, Redis, the list of processes, a backup, an answer or a page."""

from __future__ import annotations

import base64
import http.client
import json
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import redis

from tests.faults.running import PG_DUMP, ROOT, Stack

pytestmark = pytest.mark.skipif(
    PG_DUMP is None or not sys.platform.startswith("linux"), reason="runs in the set-up of bin/test"
)
# A form that was refused holds again what was typed into it in the open, for the one who typed it.
FORMS = {"typed": "/sign-in", "location": "/connections/import"}


def canary(name: str) -> str:
    return f"canary-{name}-5f1d0e7c93b24a68"


class Seen:
    """Everything that was looked at, by where it was."""

    def __init__(self) -> None:
        self._texts: dict[str, list[tuple[str, str]]] = {}

    def add(self, place: str, what: str, text: str | bytes) -> None:
        text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        self._texts.setdefault(place, []).append((what, text))

    def where(self, secret: str) -> list[str]:
        """Where a secret stands, as it is or as HTTP, URLs and forms write it."""
        forms = {secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode().rstrip("=")}
        forms |= {base64.b64encode(f"{user}:{secret}".encode()).decode() for user in ("portico", "admin")}
        return [
            f"{place}: {what}: {text[max(0, text.find(form) - 80) : text.find(form) + 80]!r}"
            for place, texts in self._texts.items()
            for what, text in texts
            for form in forms
            if form in text
        ]

    def holds(self, place: str, text: str) -> bool:
        return any(text in content for _what, content in self._texts.get(place, []))


@pytest.fixture
def echo() -> Iterator[str]:
    """A tool that lets nobody in and repeats what it was told, as some proxies do."""

    class Echo(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"{self.requestline}\n{self.headers}".encode()
            self.send_response(403)
            self.send_header("WWW-Authenticate", f'Bearer error="{self.headers.get("Authorization")}"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def stack_variables(echo: str) -> dict[str, str]:
    """The portal may reach all of loopback, and logs all that it can."""
    return {"PORTICO_OUTBOUND_ALLOW": "127.0.0.1", "PORTICO_LOG_LEVEL": "DEBUG"}


class Watch:
    """Looks again and again at what is only there for a moment: command lines, and what Redis is told."""

    def __init__(self, address: str) -> None:
        self.lines: set[str] = set()
        self.commands: list[str] = []
        self._redis = redis.Redis.from_url(address)
        self._over = threading.Event()
        self._threads = [threading.Thread(target=t, daemon=True) for t in (self._processes, self._monitor)]

    def __enter__(self) -> Watch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._redis.set("the-end", "of the watch")
        for thread in self._threads:
            thread.join(10)

    def _processes(self) -> None:
        while not self._over.wait(0.02):
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.lines.add(file.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
                except OSError:
                    continue

    def _monitor(self) -> None:
        with self._redis.monitor() as monitor:
            for command in monitor.listen():
                self.commands.append(str(command))
                if "the-end" in str(command):
                    return


class Browser:
    """A person at the pages, who keeps every page."""

    def __init__(self, port: int, seen: Seen, token: str) -> None:
        self._port, self._seen, self._token = port, seen, token
        self._cookies: dict[str, str] = {}

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        data = urlencode(body) if isinstance(body, dict) and "form" in headers else body
        data = data if isinstance(data, str) or data is None else json.dumps(data)
        kind = "application/x-www-form-urlencoded" if headers.pop("form", None) else "application/json"
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        try:
            connection.request(method, path, data, {"Content-Type": kind, "Cookie": cookies, **headers})
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
            for name, value in answer.getheaders():
                if name.lower() == "set-cookie":
                    key, _equals, rest = value.partition("=")
                    self._cookies[key] = rest.partition(";")[0]
                else:
                    text += f"\n{name}: {value}"
        finally:
            connection.close()
        self._seen.add("answers", f"{method} {path.partition('?')[0]} {answer.status}", text)
        return answer.status, text

    def api(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        return self.ask(method, f"/api/v1/{path}", body, Authorization=f"Bearer {self._token}")

    def post(self, path: str, **fields: str) -> int:
        _status, page = self.ask("GET", path)
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert token, page[:2000]
        fields["csrfmiddlewaretoken"] = token[1]
        return self.ask("POST", path, fields, form="yes", Referer=f"http://127.0.0.1:{self._port}{path}")[0]


def manage(stack: Stack, *words: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=ROOT,
        env=stack.environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_secrets_are_found_nowhere(stack: Stack, upstream: Any, echo: str, tmp_path: Path) -> None:
    seen, made = (
        Seen(),
        {name: canary(name) for name in ("password", "typed", "good", "echoed", "hook", "stranger")},
    )
    made |= {
        name: canary(name) for name in ("refused", "bearer", "address", "passphrase", "changed", "location")
    }
    made["token"] = stack.token
    made["secret key"] = (stack.home / "secret-key").read_text().strip()
    made["encryption key"] = (stack.home / "encryption-keys").read_text().strip()
    stack.wait(stack.is_ready, 60)
    visible = "this-may-be-seen"

    with Watch(stack.redis) as watch:
        browser = Browser(stack.port, seen, stack.token)
        # Accounts: a link that signs in once, a password that is chosen, typed wrong, and typed right.
        link = manage(stack, "sign_in_link", "--user", "admin").strip()
        made["link"] = link.rpartition("/")[2]
        made["new token"] = manage(stack, "create_token", "--user", "admin", "--name", visible).strip()
        path = f"/sign-in/{made['link']}"
        chosen = {
            "password": made["password"],
            "new_password1": made["password"],
            "new_password2": made["password"],
        }
        assert browser.post(path, username="admin", name="Ana", again=made["password"], **chosen) in (
            200,
            302,
        )
        browser._cookies.clear()
        browser.post("/sign-in", username="admin", password=made["typed"])
        browser.post("/sign-in", username=made["typed"], password="x")
        assert browser.post("/sign-in", username="admin", password=made["password"]) == 302

        # Connections: one that works, one to a tool that repeats everything, one with an address that tells all.
        for slug, connector, config in (
            ("good", "records", {"location": upstream.lines_url, "token": made["good"]}),
            ("echoing", "records", {"location": f"{echo}/x.jsonl", "token": made["echoed"]}),
            (
                "told",
                "records",
                {"location": echo.replace("//", f"//portico:{made['address']}@") + "/x.jsonl"},
            ),
            ("hook", "alertmanager", {"base_url": f"{echo}/", "webhook_secret": made["hook"]}),
            ("wrong", "records", {"token": made["refused"], "no-such": made["refused"]}),
            (made["refused"], "records", {"location": "x", "token": [made["refused"]]}),
        ):
            browser.api(
                "POST",
                "connections/",
                {"slug": slug, "label": visible, "connector": connector, "config": config},
            )
        browser.api("PATCH", "connections/good/", {"config": {"token": made["changed"]}})
        for slug in ("good", "echoing", "told", "hook"):
            browser.api("POST", f"connections/{slug}/check/")
            browser.api("POST", f"connections/{slug}/preview/")
            browser.api("POST", f"connections/{slug}/sync/")
        for secret in (made["hook"], made["stranger"]):
            alert = {"version": "4", "status": "firing", "alerts": []}
            browser.ask("POST", "/hooks/hook", alert, Authorization=f"Bearer {secret}")
        browser.ask("POST", "/hooks/hook", "no JSON", Authorization=f"Bearer {made['hook']}")

        # A catalog file at an address that tells all.
        told = echo.replace("//", f"//portico:{made['location']}@") + "/catalog-info.yaml"
        browser.post("/connections/import", address=told)
        browser.post("/connections/import", address=told, action="import")
        browser.ask("GET", "/connections/import")

        # What goes wrong in public.
        browser.ask("GET", "/api/v1/entities/", Authorization=f"Bearer {made['bearer']}")
        browser.ask("GET", "/api/v1/entities/", Authorization=f"Bearer {made['token']} x")
        browser.ask("GET", "/no/such/page", Authorization=f"Bearer {made['token']}")
        browser.ask("POST", "/sign-in", {"password": made["typed"]}, form="yes")  # without its CSRF token
        browser.api("POST", "connections/", [made["refused"]])
        stack.wait(lambda: not stack.active(), 90)
        stack.wait(lambda: stack.ask("SELECT 1 FROM integrations_syncrun WHERE state = 'failed'"), 60)
        stack.wait(lambda: stack.ask("SELECT 1 FROM integrations_syncrun WHERE state = 'synced'"), 60)

        # What a person or a program may read afterwards, and what an operator takes away.
        for path in (
            "connections/",
            "connections/good/",
            "connections/echoing/",
            "sync-runs/",
            "problems/",
            "audit/",
        ):
            assert browser.api("GET", path)[0] == 200, path
        for path in ("schema/", "activity/", "entities/", "feed", "tokens/", "users/"):
            browser.api("GET", path)
        for slug in ("good", "echoing", "told", "hook"):
            for page in ("", "/edit", "/runs", "/deliveries", "/settings", "/records"):
                browser.ask("GET", f"/connections/{slug}{page}")
        for path in (
            "/",
            "/connections",
            "/problems",
            "/activity",
            "/settings",
            "/settings/tokens",
            "/admin/",
        ):
            browser.ask("GET", path)
        for name in ("auditevent", "secret", "apitoken", "user", "signinlink"):
            browser.ask("GET", f"/admin/access/{name}/")
        seen.add("digest", "facts", "\n".join(stack.facts()))
        backup = tmp_path / "portico.backup"
        manage(stack, "backup", str(backup), PORTICO_BACKUP_PASSPHRASE=made["passphrase"])

    with zipfile.ZipFile(backup) as archive:
        for name in archive.namelist():
            seen.add("backup", name, archive.read(name))
    assert PG_DUMP
    dump = subprocess.run([PG_DUMP, stack.database], capture_output=True, check=True).stdout
    seen.add("database", "dump", dump)
    for file in (stack.home / "logs").iterdir():
        seen.add("logs", file.name, file.read_bytes())
    store = redis.Redis.from_url(stack.redis)
    for key in store.scan_iter(count=1000):
        seen.add("redis", str(key), (store.dump(key) or b"") + key)
    seen.add("redis", "commands", "\n".join(watch.commands))
    seen.add("processes", "command lines", "\n".join(watch.lines))

    # Each place was really looked at: it holds what it should.
    expected = {
        "database": visible, "backup": visible, "logs": "web ", "redis": "the-end", "processes": "celery",
        "answers": visible, "digest": "\n",
    }  # fmt: skip
    assert [place for place, text in expected.items() if not seen.holds(place, text)] == []
    leaks = {name: where for name, secret in made.items() if (where := seen.where(secret))}
    for name, form in FORMS.items():
        leaks[name] = [
            where for where in leaks.get(name, []) if not where.startswith(f"answers: POST {form} ")
        ]
    found = [f"{name} in {where}" for name, places in leaks.items() for where in places]
    assert not found, "\n".join(found[:40])
