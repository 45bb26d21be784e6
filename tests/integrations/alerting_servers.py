"""Real servers for tests: Alertmanager, and what Prometheus tells it."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.integrations.servers import answers, free_port, program


@contextmanager
def run_alertmanager(found: str, folder: Path, hook: dict[str, Any] | None = None) -> Iterator[str]:
    """Run the program; gives its address.

    :param hook: where it delivers, as its `webhook_configs` say it.
    """
    url = f"http://127.0.0.1:{free_port()}"
    config = {
        "route": {"receiver": "hook", "group_wait": "0s", "group_interval": "1s", "repeat_interval": "1h"},
        "receivers": [{"name": "hook", "webhook_configs": [hook] if hook else []}],
    }
    (folder / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    command = [
        found, f"--config.file={folder / 'config.yml'}", f"--storage.path={folder / 'data'}",
        f"--web.listen-address={url.removeprefix('http://')}", "--cluster.listen-address=",
    ]  # fmt: skip
    with program(command, folder=folder, ready=lambda: answers(f"{url}/-/ready")):
        yield url


def post(url: str, body: Any) -> None:
    """Send JSON."""
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    urllib.request.urlopen(request, timeout=10).close()


def fire(url: str, *, over: bool = False, ago: int = 60, **labels: str) -> None:
    """Tell Alertmanager of an alert as Prometheus does: that it began some seconds ago, and whether it has ended."""
    now = datetime.now(UTC)
    alert = {
        "labels": labels,
        "annotations": {"summary": "No answer."},
        "startsAt": (now - timedelta(seconds=ago)).isoformat(),
        **({"endsAt": (now - timedelta(seconds=1)).isoformat()} if over else {}),
        "generatorURL": "https://prometheus.acme.example/graph?g0.expr=up",
    }
    post(f"{url}/api/v2/alerts", [alert])


def silence(url: str, label: str, value: str) -> None:
    """Keep the alerts with a label quiet for an hour."""
    now = datetime.now(UTC)
    matcher = {"name": label, "value": value, "isRegex": False}
    said = {"matchers": [matcher], "createdBy": "ana", "comment": "Known."}
    times = {"startsAt": now.isoformat(), "endsAt": (now + timedelta(hours=1)).isoformat()}
    post(f"{url}/api/v2/silences", {**said, **times})


# What --web.config.file of Prometheus and of Alertmanager needs for the user ana with this password, by bcrypt.
PASSWORD = "hunter2-do-not-show"
WITH_PASSWORD = 'basic_auth_users: {ana: "$2b$04$cLH8h4XG6Omfahfo3ZtSHePFmBG/Qq6TNh8VOYt9HzkCGR.JSkFfu"}\n'


@contextmanager
def run_prometheus(
    found: str, folder: Path, rules: list[dict[str, Any]], targets: list[str]
) -> Iterator[str]:
    """Run the program, which looks at the targets and evaluates the rules each second; gives its address.

    :param targets: hosts with ports, as the job `shop`.
    """
    url = f"http://127.0.0.1:{free_port()}"
    scraped = [{"job_name": "shop", "static_configs": [{"targets": targets}]}]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "scrape_configs": scraped,
        "rule_files": [str(folder / "rules.yml")],
    }
    (folder / "config.yml").write_text(json.dumps(config))
    (folder / "rules.yml").write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))
    (folder / "web.yml").write_text(WITH_PASSWORD)
    command = [
        found, f"--config.file={folder / 'config.yml'}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={url.removeprefix('http://')}", f"--web.config.file={folder / 'web.yml'}",
    ]  # fmt: skip
    with program(command, folder=folder, ready=lambda: answers(f"{url}/-/ready")):
        yield url
