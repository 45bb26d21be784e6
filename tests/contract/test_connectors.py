"""What every connector promises, whatever its tool.

A connector's test inherits `ConnectorContract`; one that speaks HTTP inherits `HttpConnectorContract` and
gives a running tool. Its exchanges are recorded once, then answered again from memory, one of them spoiled.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import httpx2 as httpx
import pytest
from pydantic import SecretStr, ValidationError

from integrations.connectors.buildbot.connector import Buildbot
from integrations.connectors.git.connector import Git
from integrations.connectors.github.connector import GitHub
from integrations.connectors.oci.connector import Oci
from integrations.connectors.records.connector import Records
from integrations.contract import (
    WEBHOOK_SECRET,
    AuthFailed,
    BadPayload,
    ConnectionConfig,
    Connector,
    Misconfigured,
    NotThere,
    SourceUnavailable,
    WebhookRequest,
    is_secret,
)
from integrations.http import HttpLimits
from integrations.outbound import GuardedTransport, OutboundPolicy
from integrations.records import RECORD_TYPES
from integrations.registry import connectors
from tests.integrations import alerting_servers, github, servers
from tests.integrations.reading import Reading, collect, use
from tests.integrations.servers import Acme

SECRET = alerting_servers.PASSWORD
LIMITS = HttpLimits(connect=1, read=1, total=0.15, stream_total=0.15, attempts=2, backoff=0.001)

# Method, address without its query, whether credentials were sent, and the how manieth of these.
Key = tuple[str, str, bool, int]


class Recorder(httpx.AsyncBaseTransport):
    """Passes requests on and keeps what came back."""

    def __init__(self) -> None:
        self.inner = GuardedTransport(OutboundPolicy(["127.0.0.1"]), limits=httpx.Limits())
        self.count: Counter[tuple[str, str, bool]] = Counter()
        self.answers: dict[Key, tuple[int, list[tuple[str, str]], bytes]] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        key = _next_key(self.count, request)
        response = await self.inner.handle_async_request(request)
        try:
            body = await response.aread()
        finally:
            await response.aclose()
        skipped = {"content-encoding", "transfer-encoding", "content-length"}
        headers = [(name, value) for name, value in response.headers.multi_items() if name not in skipped]
        self.answers[key] = (response.status_code, headers, body)
        return httpx.Response(response.status_code, headers=headers, content=body)

    async def aclose(self) -> None:
        await self.inner.aclose()


class Replay(httpx.AsyncBaseTransport):
    """Answers what was recorded, and spoils one exchange: always, however often it is asked for."""

    def __init__(self, recorder: Recorder, spoiled: Key | None = None, how: str = "") -> None:
        self.answers, self.spoiled, self.how = recorder.answers, spoiled, how
        self.told: set[str] = set()
        self.count: Counter[tuple[str, str, bool]] = Counter()
        self.hit = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        key = _next_key(self.count, request)
        if self.spoiled in (key, EVERYTHING) or (self.hit and key[:2] == self.spoiled[:2]):
            self.hit = True
            return await self.spoil(request)
        while key not in self.answers and key[3] > 1:  # a retry
            key = (*key[:3], key[3] - 1)
        status, headers, body = self.answers[key]
        return httpx.Response(status, headers=headers, content=body)

    async def spoil(self, request: httpx.Request) -> httpx.Response:
        match self.how:
            case "hang":
                await asyncio.Event().wait()
            case "cut":
                raise httpx.RemoteProtocolError(
                    "peer closed connection without sending complete message body"
                )
            case "broken JSON":
                return httpx.Response(
                    200, headers={"Content-Type": "application/json"}, content=b'{"half": ['
                )
            case "a sign-in page":
                return httpx.Response(
                    200, headers={"Content-Type": "text/html"}, content=b"<html>Sign in</html>"
                )
            case "other JSON":
                return httpx.Response(200, json={"welcome": "to another program"})
        # Some tools repeat in an error what they were sent.
        scheme, _space, sent = request.headers.get("Authorization", "").partition(" ")
        if scheme == "Basic":
            sent = base64.b64decode(sent).decode().partition(":")[2]
        self.told |= {sent} - {""}
        return httpx.Response(int(self.how), json={"message": f"no {scheme} is good with {sent}"})


EVERYTHING: Key = ("*", "*", False, 0)


def _next_key(count: Counter[tuple[str, str, bool]], request: httpx.Request) -> Key:
    found = (request.method, str(request.url).partition("?")[0], "Authorization" in request.headers)
    count[found] += 1
    return (*found, count[found])


class ConnectorContract:
    """Inherit it, name the connector, and give settings that are valid.

    :cvar settings: every required setting, and every secret with the value `SECRET`.
    """

    connector: ClassVar[type[Connector]]
    settings: ClassVar[dict[str, Any]]

    @property
    def folder(self) -> Path:
        return Path(inspect.getfile(self.connector)).parent

    def test_it_is_installed_under_its_name(self) -> None:
        assert connectors()[self.connector.slug] is self.connector
        assert self.folder.name == self.connector.slug

    def test_it_says_what_it_is(self) -> None:
        assert self.connector.label.strip()
        assert self.connector.brings.strip()
        assert len(self.connector.monogram) == 2
        assert self.connector.category

    def test_every_setting_is_explained(self) -> None:
        model = self.connector.Config
        assert issubclass(model, ConnectionConfig)
        assert model is not ConnectionConfig
        for name, info in model.model_fields.items():
            assert (info.description or "").endswith("."), f"{name} needs a description"
            assert info.title, f"{name} needs a title"

    def test_an_unknown_setting_is_refused(self) -> None:
        with pytest.raises(ValidationError):
            self.connector.Config.model_validate({**self.settings, "no-such-setting": 1})

    def test_every_parameter_of_its_operations_is_explained(self) -> None:
        for spec in self.connector.operations():
            assert spec.label
            assert set(spec.on) <= set(RECORD_TYPES.values())
            assert spec.params.model_config.get("extra") == "forbid"
            for name, info in spec.params.model_fields.items():
                assert info.description, f"{spec.name}.{name} needs a description"

    def test_it_declares_what_it_lists(self) -> None:
        specs = self.connector.resources()
        assert specs
        assert len({spec.name for spec in specs}) == len(specs)
        for spec in specs:
            assert set(spec.of) <= set(RECORD_TYPES.values())
            method = getattr(self.connector, spec.method)
            assert inspect.isasyncgenfunction(method)
            assert inspect.getdoc(method), f"{spec.name} needs a docstring"
            assert len(inspect.signature(method).parameters) == (2 if spec.incremental else 1)

    @pytest.mark.parametrize("proof", ["", "wrong", "Bearer wrong", "sha256=", f"sha256={'0' * 64}"])
    def test_it_takes_no_delivery_without_proof(self, proof: str) -> None:
        spec = self.connector.webhook()
        if spec is None:
            return
        assert is_secret(self.connector.Config.model_fields[WEBHOOK_SECRET])
        names = {"authorization", "x-hub-signature-256", spec.id_header, spec.event_header, *spec.headers}
        request = WebhookRequest(dict.fromkeys(names, proof), b"{}", datetime.now(UTC))
        assert spec.verify(request, SECRET) is False

    def test_its_readme_tells_of_all_of_it(self) -> None:
        text = (self.folder / "README.md").read_text()
        assert text.startswith("# ")
        names = {spec.name for spec in (*self.connector.resources(), *self.connector.operations())}
        assert {name for name in names if name not in text} == set()

    def test_no_secret_is_shown(self) -> None:
        model = self.connector.Config
        config = model.model_validate(self.settings)
        secrets = [name for name in model.model_fields if isinstance(getattr(config, name), SecretStr)]
        assert {name for name, value in self.settings.items() if value == SECRET} == set(secrets)
        for shown in (repr(config), str(config), config.model_dump_json()):
            assert SECRET not in shown

        async def look(made: Connector) -> str:
            return repr(made) + str(made)

        assert SECRET not in use(self.connector, self.settings, look)

    def test_it_sees_the_contract_alone(self) -> None:
        """Its files import of ours only the contract, the records, and what is pure."""
        for path in self.folder.glob("*.py"):
            for line in path.read_text().splitlines():
                words = line.split()
                if words[:1] in (["from"], ["import"]) and words[1].split(".")[0] in OURS:
                    assert words[1] in ALLOWED or words[1].startswith(
                        f"integrations.connectors.{self.folder.name}"
                    )


OURS = {"access", "catalog", "integrations", "plugins", "portal", "django"}
ALLOWED = {
    "integrations.alerting",
    "integrations.contract",
    "integrations.records",
    "integrations.docs",
    "integrations.documents",
    "integrations.packages",
    "integrations.repository_files",
}


class HttpConnectorContract(ConnectorContract):
    """For a connector that reads over HTTP.

    A subclass has a fixture `upstream` with the settings of a running tool that has at least one of
    everything that the connector reads.
    """

    @pytest.fixture(scope="class")
    @classmethod
    def recorded(cls, upstream: dict[str, Any]) -> tuple[Recorder, dict[str, Reading]]:
        """All exchanges of one reading of everything, and what it brought."""
        recorder = Recorder()

        async def everything(made: Connector) -> dict[str, Reading]:
            return {spec.name: await collect(made, spec.name) for spec in made.resources()}

        found = use(cls.connector, upstream, everything, transport=recorder)
        for name, reading in found.items():
            assert reading.records, f"the running tool must have something for {name}"
        return recorder, found

    def replay(
        self, upstream: dict[str, Any], transport: Replay
    ) -> tuple[Exception | None, dict[str, Reading]]:
        """Read everything as a sync does: the next resource also after one that failed."""
        found: dict[str, Reading] = {}

        async def everything(made: Connector) -> Exception | None:
            failure = None
            for spec in made.resources():
                try:
                    found[spec.name] = await collect(made, spec.name)
                except Exception as error:  # noqa: BLE001 - judged by the test
                    failure = failure or error
            return failure

        return use(self.connector, upstream, everything, transport=transport, limits=LIMITS), found

    def test_what_was_recorded_reads_the_same_again(self, upstream: dict[str, Any], recorded: Any) -> None:
        recorder, expected = recorded
        failure, found = self.replay(upstream, Replay(recorder))
        assert failure is None
        assert [r.external_id for x in found.values() for r in x.records] == [
            r.external_id for x in expected.values() for r in x.records
        ]

    @pytest.mark.parametrize(
        ("how", "errors"),
        [
            ("401", (AuthFailed,)),
            ("403", (AuthFailed,)),
            ("404", (NotThere, Misconfigured)),
            ("500", (SourceUnavailable,)),
            ("503", (SourceUnavailable,)),
            ("hang", (SourceUnavailable,)),
            ("cut", (SourceUnavailable,)),
            ("broken JSON", (BadPayload,)),
            ("a sign-in page", (BadPayload,)),
            ("other JSON", (BadPayload,)),
        ],
    )
    def test_a_failure_on_any_page_is_raised_or_refused(
        self, upstream: dict[str, Any], recorded: Any, how: str, errors: tuple[type[Exception], ...]
    ) -> None:
        recorder, expected = recorded
        refused_before = {r.external_id for reading in expected.values() for r in reading.refused}
        for key in recorder.answers:
            if key[0] == "HEAD" and errors == (BadPayload,):
                continue  # nobody reads the body of an answer to HEAD
            if recorder.answers[key][0] == 401 and how == "401":
                continue  # that is how a registry asks who we are
            transport = Replay(recorder, key, how)
            failure, found = self.replay(upstream, transport)
            assert transport.hit, f"{key} was not asked for"
            refused = {r.external_id for reading in found.values() for r in reading.refused} - refused_before
            assert failure or refused, f"{how} at {key} was swallowed"
            if failure:
                assert isinstance(failure, errors), f"{how} at {key} became {failure!r}"
                assert not [secret for secret in transport.told if secret in str(failure)]

    @pytest.mark.parametrize(
        "how", ["401", "403", "404", "500", "hang", "cut", "broken JSON", "a sign-in page", "other JSON"]
    )
    def test_the_check_says_what_to_do(self, upstream: dict[str, Any], recorded: Any, how: str) -> None:
        transport = Replay(recorded[0], EVERYTHING, how)
        health = use(self.connector, upstream, lambda made: made.check(), transport=transport, limits=LIMITS)
        assert not health.ok
        for check in health.checks:
            assert check.label
            assert not [secret for secret in transport.told if secret in check.detail]
            if not check.ok:
                assert check.detail
                assert check.remedy.endswith(".")

    def test_no_secret_is_in_what_it_reads(self, upstream: dict[str, Any], recorded: Any) -> None:
        secrets = [value for name, value in upstream.items() if name in {"password", "token"}]
        for reading in recorded[1].values():
            for record in reading.records:
                shown = record.model_dump_json() + repr(record)
                assert not [secret for secret in secrets if secret in shown]

    def test_what_it_marks_can_be_stored(self, recorded: Any) -> None:
        for reading in recorded[1].values():
            for cursor in reading.marks:
                assert json.loads(json.dumps(cursor)) == cursor


class TestGit(ConnectorContract):
    connector = Git
    settings = {"repositories": ["https://git.acme.example/shop/payments"], "token": SECRET}


class TestRecords(HttpConnectorContract):
    connector = Records
    settings = {"location": "https://feeds.acme.example/runs.jsonl", "token": SECRET}

    @pytest.fixture(scope="class")
    @classmethod
    def upstream(cls) -> Iterator[dict[str, Any]]:
        """A file of two records on a web server."""
        lines = (
            b'{"type": "environment", "external_id": "production", "name": "production"}\n'
            b'{"type": "run", "external_id": "7", "status": "passed", "started_at": "2026-01-02T03:04:05Z"}\n'
        )
        with servers.serve(lambda _request: (200, {"Content-Type": "application/x-ndjson"}, lines)) as url:
            yield {"location": f"{url}/all.jsonl", "token": "open-sesame"}


@pytest.mark.server
class TestBuildbot(HttpConnectorContract):
    connector = Buildbot
    settings = {
        "base_url": "https://ci.acme.example/",
        "username": "ana",
        "password": SECRET,
        "token": SECRET,
    }

    @pytest.fixture(scope="class")
    @classmethod
    def upstream(cls, acme_buildbot: Acme) -> dict[str, Any]:
        acme_buildbot.buildbot.build("payments", branch="broken")
        return {"base_url": acme_buildbot.buildbot.url, "builders": ["payments"]}


@pytest.mark.server
class TestGitHub(HttpConnectorContract):
    connector = GitHub
    settings = {"token": SECRET, "webhook_secret": SECRET}

    @pytest.fixture(scope="class")
    @classmethod
    def upstream(cls) -> Iterator[dict[str, Any]]:
        """One repository with one of everything, played from GitHub's example payloads."""
        with servers.required(), github.play() as server:
            yield server.settings


@pytest.mark.server
class TestOci(HttpConnectorContract):
    connector = Oci
    settings = {"base_url": "https://registry.acme.example", "username": "ana", "password": SECRET}

    @pytest.fixture(scope="class")
    @classmethod
    def upstream(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
        """A registry with a token service, and an index among its images."""
        storage = tmp_path_factory.mktemp("contract") / "storage"
        with servers.required(), servers.run_registry(storage) as registry:
            parts = [
                registry.push("acme/pay", platform=f"linux/{name}", content=name)
                for name in ("amd64", "arm64")
            ]
            registry.push_index("acme/pay", "1.0", parts=parts)
            registry.push("acme/web", "latest")
        with (
            servers.run_token_server("reader", "open-sesame") as tokens,
            servers.run_registry(storage, token=tokens) as registry,
        ):
            yield {"base_url": registry.url, "username": "reader", "password": "open-sesame"}


def test_every_connector_of_ours_is_held_to_the_contract() -> None:
    folder = Path(__file__).parent.parent / "integrations/connectors"
    beside = [
        import_module(f"tests.integrations.connectors.{path.stem}") for path in folder.glob("test_*.py")
    ]
    tested = {
        found.connector
        for module in [sys.modules[__name__], *beside]
        for found in vars(module).values()
        if inspect.isclass(found) and issubclass(found, ConnectorContract) and hasattr(found, "connector")
    }
    ours = {c for c in connectors().values() if c.__module__.startswith("integrations.connectors.")}
    assert tested == ours
