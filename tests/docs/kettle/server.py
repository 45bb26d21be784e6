"""Kettle, a made-up tool that deploys: enough of its HTTP API to try a connector on. `python server.py 8900`."""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEY = "steam"
PAGE = 3
ENVIRONMENTS = [
    {"id": "e1", "name": "staging", "tier": "test"},
    {"id": "e2", "name": "production", "tier": "prod"},
]


def deployment(number: int, phase: str = "rolled-out", env: str = "production") -> dict[str, Any]:
    """A deployment as Kettle tells of it."""
    return {
        "uuid": f"d-{number:04d}",
        "service": "pay",
        "image": f"registry.acme.example/acme/pay:2.{number}",
        "env": env,
        "phase": phase,
        "version": f"2.{number}",
        "sha": f"{number:040x}",
        "by": {"name": "Ana Ruiz", "mail": "ana@acme.example"},
        "begun": f"2026-11-24T1{number % 10}:00:00+00:00",
        "ended": None if phase in ("rolling", "queued") else f"2026-11-24T1{number % 10}:04:00+00:00",
    }


class Kettle(BaseHTTPRequestHandler):
    """`GET /v1/whoami`, `/v1/environments`, `/v1/deployments?cursor=`, `/v1/deployments/<uuid>`; `POST .../again`.

    The key goes into the header `X-Kettle-Key`. A page of deployments, oldest first, is
    `{"items": [...], "cursor": "..."}`; the cursor is that of its end, also when there is nothing new.
    """

    deployments: list[dict[str, Any]] = []

    def do_GET(self) -> None:
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        if self.headers.get("X-Kettle-Key") != KEY:
            return self.say({"error": "The key is wrong."}, 401)
        if path == "/v1/whoami":
            return self.say({"name": "portal", "rights": ["view"]})
        if path == "/v1/environments":
            return self.say(ENVIRONMENTS)
        if path == "/v1/deployments":
            start = int(query.get("cursor", ["0"])[0])
            items = self.deployments[start : start + PAGE]
            return self.say({"items": items, "cursor": str(start + len(items))})
        for item in self.deployments:
            if path == f"/v1/deployments/{item['uuid']}":
                return self.say(item)
        return self.say({"error": "There is no such thing."}, 404)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.deployments.append(deployment(len(self.deployments), "queued"))
        self.say(self.deployments[-1], 201)

    def say(self, data: Any, status: int = 200) -> None:
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


if __name__ == "__main__":
    Kettle.deployments = [deployment(0), deployment(1, "broken"), deployment(2), deployment(3, "rolling")]
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Kettle).serve_forever()
