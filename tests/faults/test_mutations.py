"""Whether the tests would notice: each guard is taken out of a copy of the checkout, and a test must fail there.

Run it by `bin/test --full tests/faults/test_mutations.py`; the fast tier only sees to it that each guard is still
where it would be taken out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(
    ".git",
    ".venv",
    "var",
    "build",
    "node_modules",
    "__pycache__",
    ".*_cache",
    ".hypothesis",
    "e2e",
    "perf",
    "images",
)
SECONDS = 600

MERGE = "tests/catalog/test_merge.py"
SYNC = "tests/integrations/test_sync.py"
OUTBOUND = "tests/integrations/test_outbound.py"
REACH = "tests/portal/test_reach.py"
NETWORK = "tests/portal/test_network_pages.py"
OWNERS = "tests/integrations/test_owners.py"
OPENID = "tests/integrations/test_openid.py"
DELIVERIES = "tests/integrations/test_deliveries.py"
ALERTMANAGER = "tests/integrations/connectors/test_alertmanager.py"
IDENTITIES = "tests/access/test_identities.py"


@dataclass(frozen=True)
class Mutation:
    """One guard taken out.

    :ivar before: the text of it, which stands in the file once; `after` takes its place.
    :ivar noticed_by: tests of the fast tier of which at least one must fail.
    """

    name: str
    file: str
    before: str
    after: str
    noticed_by: tuple[str, ...]


MUTATIONS = [
    Mutation(
        "permission filter",
        "access/permissions.py",
        "    return queryset.filter(condition)\n",
        "    return queryset\n",
        (f"{REACH}::TestOneNamespace",),
    ),
    Mutation(
        "permission filter of served relations",
        "catalog/queries.py",
        '    return there - set(seen.values_list("ref", flat=True))\n',
        "    return set()\n",
        (f"{REACH}::TestOneNamespace",),
    ),
    Mutation(
        "permission to write",
        "access/api/permissions.py",
        "            require(request.user, verb, thing)\n",
        "            pass\n",
        (f"{REACH}::TestWriting",),
    ),
    Mutation(
        "what a token may do",
        "access/permissions.py",
        "            token.role is not None and not _allows(token.role.verbs, verb)\n",
        "            False\n",
        (f"{REACH}::TestWriting",),
    ),
    Mutation(
        "where a token reaches",
        "access/permissions.py",
        "        reach.append([Scope(token.scope_type, token.scope)])\n",
        "",
        (f"{REACH}::TestOneNamespace",),
    ),
    Mutation(
        "permission filter of the feed",
        "catalog/feed.py",
        "visible(viewer, FeedItem.objects.filter(transaction__lt=horizon)).filter(",
        "FeedItem.objects.filter(transaction__lt=horizon).filter(",
        (f"{REACH}::TestOneNamespace",),
    ),
    Mutation(
        "sight of queries: what lies at the other end of a relation",
        "catalog/query/sight.py",
        '    return seen.order_by().values_list("pk", flat=True) if seen.query.where else None\n',
        "    return None\n",
        (f"{REACH}::TestOneNamespace",),
    ),
    Mutation(
        "sweep guard: nothing after something",
        "integrations/sync.py",
        "        is_empty = row.listed == 0\n",
        "        is_empty = False\n",
        (f"{SYNC}::TestSweep",),
    ),
    Mutation(
        "sweep guard: much less than before",
        "integrations/sync.py",
        "        if is_empty or is_much(missing, before):\n",
        "        if is_empty:\n",
        (f"{SYNC}::TestSweep",),
    ),
    Mutation(
        "sweep guard: an unfinished list",
        "integrations/sync.py",
        "            self._fail(page.error, row, now)\n",
        "            self._fail(page.error, row, now)\n            self._sweep(page.resource, row, now)\n",
        (f"{SYNC}::TestSweep",),
    ),
    Mutation(
        "sweep guard of catalog files",
        "integrations/services/locations/writing.py",
        "        if self.is_guarded and ((is_all and not self.reading.seen) or is_much(len(gone), count)):\n",
        "        if False:\n",
        ("tests/integrations/test_locations.py::TestLater",),
    ),
    Mutation(
        "outbound guard: which addresses",
        "integrations/outbound.py",
        "            verdict = judge(ip)\n",
        "            verdict = None\n",
        (OUTBOUND,),
    ),
    Mutation(
        "outbound guard: the checked address is the one that is used",
        "integrations/outbound.py",
        "        return self._permitted(host, port, [ip_address(text) for text in texts])\n",
        "        return [ip_address(text) for text in texts]\n",
        (OUTBOUND,),
    ),
    Mutation(
        "outbound guard: administrators alone open a private host",
        "portal/views/connections.py",
        "    require(request.user, EVERYTHING)\n",
        "",
        (NETWORK,),
    ),
    Mutation(
        "outbound guard: a name that was allowed does not open this machine",
        "integrations/outbound.py",
        "if rule.port is not None or not verdict.is_own]",
        "]",
        (OUTBOUND,),
    ),
    Mutation(
        "outbound guard: a connection's own proxy is judged",
        "integrations/outbound.py",
        "            if not proxy or proxy == self._route.proxy:\n",
        "            if not proxy:\n",
        ("tests/integrations/test_network.py",),
    ),
    Mutation(
        "raw payloads: of a connection that one may not see",
        "portal/widgets/entity.py",
        "visible(context.viewer, StoredRecord.objects.filter(deleted_at=None))",
        "StoredRecord.objects.filter(deleted_at=None)",
        (f"{REACH}::TestRawPayloads",),
    ),
    Mutation(
        "forwarded headers: only of those that are trusted",
        "portal/middleware.py",
        '        if self._is_trusted(meta.get("REMOTE_ADDR", "")):\n',
        "        if True:\n",
        ("tests/portal/test_behind_proxy.py",),
    ),
    Mutation(
        "merge order: rank",
        "catalog/services/merge.py",
        "key=lambda said: (said.rank, said.age, said.claim_id)",
        "key=lambda said: (said.age, said.claim_id)",
        (MERGE, OWNERS),
    ),
    Mutation(
        "merge order: the older source",
        "catalog/services/merge.py",
        "key=lambda said: (said.rank, said.age, said.claim_id)",
        "key=lambda said: (said.rank, -said.age, said.claim_id)",
        (MERGE,),
    ),
    Mutation(
        "lease: who holds it writes",
        "integrations/sync.py",
        "        if not held:\n            raise LeaseLost\n",
        "        if not held:\n            pass\n",
        (f"{SYNC}::TestLease",),
    ),
    Mutation(
        "lease: one at a time",
        "integrations/sync.py",
        "        SyncRun.objects.leasable(now=now)\n",
        "        SyncRun.objects.active()\n",
        (f"{SYNC}::TestLease",),
    ),
    Mutation(
        "deliveries: who sends it",
        "integrations/services/deliveries.py",
        "    if not spec.verify(WebhookRequest(headers, body, now), secret):\n",
        "    if False:\n",
        (f"{DELIVERIES}::TestTheDoor",),
    ),
    Mutation(
        "deliveries: no secret, no door",
        "integrations/services/deliveries.py",
        "    if connection is None or spec is None or not secret:\n",
        "    if connection is None or spec is None:\n",
        (f"{DELIVERIES}::TestTheDoor",),
    ),
    Mutation(
        "deliveries: signature over the body",
        "integrations/contract.py",
        '    return hmac.compare_digest(given.encode(), f"{prefix}{right}".encode())\n',
        "    return True\n",
        (f"{DELIVERIES}::TestTheDoor",),
    ),
    Mutation(
        "deliveries: token or password",
        "integrations/contract.py",
        "    return hmac.compare_digest(given.encode(), secret.encode())\n",
        "    return True\n",
        (f"{ALERTMANAGER}::test_a_delivery_is_proved_by_token_or_password",),
    ),
    Mutation(
        "deliveries: signature of GitHub",
        "integrations/connectors/github/connector.py",
        '        verify=partial(signed_with_hmac, header="x-hub-signature-256"),\n',
        "        verify=lambda request, secret: True,\n",
        ("tests/contract/test_connectors.py::TestGitHub",),
    ),
    Mutation(
        "deliveries: proof of Alertmanager",
        "integrations/connectors/alertmanager/connector.py",
        "    @webhook(verify=bears_token)\n",
        "    @webhook(verify=lambda request, secret: True)\n",
        (f"{ALERTMANAGER}::TestContract",),
    ),
    Mutation(
        "deliveries: the same comes in once",
        "integrations/services/deliveries.py",
        "        digest=hashlib.sha256(once).hexdigest(),\n",
        "        digest=hashlib.sha256(once + str(now).encode()).hexdigest(),\n",
        (f"{DELIVERIES}::TestOnce",),
    ),
    Mutation(
        "nonce of a sign-in",
        "integrations/openid.py",
        '        nonce={"essential": True, "value": nonce},\n',
        "",
        (f"{OPENID}::test_a_token_that_does_not_hold_is_refused",),
    ),
    Mutation(
        "audience of an ID token",
        "integrations/openid.py",
        '        aud={"essential": True, "value": client_id},\n',
        '        aud={"essential": True},\n',
        (f"{OPENID}::test_a_token_that_does_not_hold_is_refused",),
    ),
    Mutation(
        "signature of an ID token",
        "integrations/openid.py",
        '    "RS256", "RS384",',
        '    "none", "HS256", "RS256", "RS384",',
        (f"{OPENID}::test_only_a_key_that_the_provider_publishes_signs",),
    ),
    Mutation(
        "address that a provider does not vouch for",
        "access/services/identities.py",
        "    if email and len(alike) == 1 and",
        "    if len(alike) == 1 and",
        (f"{IDENTITIES}::TestWhichAccount",),
    ),
    Mutation(
        "address that only its owner vouches for",
        "access/services/identities.py",
        " and alike[0].is_email_verified",
        "",
        (f"{IDENTITIES}::TestWhichAccount",),
    ),
    Mutation(
        "group that was left at the provider",
        "access/services/identities.py",
        "            revoke(held)\n",
        "            pass\n",
        (f"{IDENTITIES}::TestGroups",),
    ),
    Mutation(
        "sign-in links work once",
        "access/services/signing_in.py",
        "    if not SignInLink.objects.filter(pk=link.pk, used_at=None).update(used_at=now):\n",
        "    if not SignInLink.objects.filter(pk=link.pk).update(used_at=now):\n",
        ("tests/access/test_sign_in.py::TestLinks",),
    ),
    Mutation(
        "administrator's word on who somebody is",
        "catalog/services/people.py",
        '    if can(user, "user.write") or people_by_email(user).filter(pk=entity.pk).exists():\n',
        "    if True:\n",
        ("tests/catalog/test_people.py::TestByWord",),
    ),
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_each_guard_is_where_it_is_taken_out(mutation: Mutation) -> None:
    assert (ROOT / mutation.file).read_text().count(mutation.before) == 1
    for test in mutation.noticed_by:
        path, colons, name = test.partition("::")
        text = (ROOT / path).read_text()
        assert not colons or f"class {name}" in text or f"\ndef {name}(" in text


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run tests in the copy, on a database of its own, after a change to one file."""
    if not os.environ.get("DATABASE_URL"):
        pytest.skip("needs DATABASE_URL, as bin/test sets it")
    copy = tmp_path_factory.mktemp("mutant") / "checkout"
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
    parts = urlsplit(os.environ["DATABASE_URL"])
    address = urlunsplit(parts._replace(path=f"{parts.path or '/portico'}_mutant"))
    environment = {**os.environ, "DATABASE_URL": address, "PYTHONDONTWRITEBYTECODE": "1"}
    # What this pytest has to tell is not for the one in the copy.
    environment = {name: value for name, value in environment.items() if not name.startswith("PYTEST_")}

    def go(*tests: str, mutation: Mutation | None = None) -> subprocess.CompletedProcess[str]:
        path = copy / mutation.file if mutation else None
        whole = path.read_text() if path else ""
        if mutation and path:
            path.write_text(whole.replace(mutation.before, mutation.after))
        try:
            return subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "pytest",
                    "-x",
                    "-m",
                    "not full",
                    "-p",
                    "no:cacheprovider",
                    "-p",
                    "no:xdist",
                    *tests,
                ],
                cwd=copy,
                env=environment,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
        finally:
            if path:
                path.write_text(whole)

    return go


@pytest.mark.full
def test_the_copy_is_sound(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """All these tests pass where nothing was taken out; else their failing would show nothing."""
    outcome = run(*sorted({test for mutation in MUTATIONS for test in mutation.noticed_by}))
    assert outcome.returncode == pytest.ExitCode.OK, outcome.stdout[-4_000:]


@pytest.mark.full
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_missing_guard_is_noticed(
    run: Callable[..., subprocess.CompletedProcess[str]], mutation: Mutation
) -> None:
    outcome = run(*mutation.noticed_by, mutation=mutation)
    # Failed tests, and not a file that cannot be read or a database that cannot be made.
    assert outcome.returncode == pytest.ExitCode.TESTS_FAILED, (
        outcome.stdout[-4_000:] + outcome.stderr[-2_000:]
    )
    assert "1 failed" in outcome.stdout, outcome.stdout[-4_000:]
