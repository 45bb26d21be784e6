"""What is installed is pinned, and what goes wrong is said in a sentence."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import _setup
import pytest
from _console import Console, Refusal, explain, explain_os_error, run

ROOT = Path(__file__).resolve().parent.parent.parent
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.txt"))


def requirements(name: str) -> list[str]:
    """The logical lines of a requirements file."""
    text = re.sub(r"\\\n\s*", "", (ROOT / name).read_text())
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("name", LOCKS)
def test_each_requirement_is_pinned_by_version_and_hash(name: str) -> None:
    lines = requirements(name)
    assert lines
    for line in lines:
        assert re.match(r"[a-z0-9.-]+(\[.*\])?==[\w.]+ ", line), line
        assert "--hash=sha256:" in line, line


@pytest.mark.parametrize("name", LOCKS)
def test_what_is_asked_for_is_pinned(name: str) -> None:
    pinned = {re.split(r"[=\[]", line)[0] for line in requirements(name)}
    for line in (ROOT / name).with_suffix(".in").read_text().splitlines():
        if line and not line.startswith(("#", "-c")):
            wanted = re.split(r"[=\[<>]", line)[0].strip().lower()
            assert wanted in pinned, wanted


def test_the_files_agree_on_every_version() -> None:
    versions: dict[str, str] = {}
    for name in ("requirements.txt", "requirements-local.txt", "requirements-dev.txt"):
        for line in requirements(name):
            package, version = line.split(" ")[0].split("==")
            key = f"{package.split('[')[0]} {line.partition(';')[2].partition('--hash')[0].strip()}"
            assert versions.setdefault(key, version) == version, key


@pytest.mark.parametrize("name", [*LOCKS, "package-lock.json"])
def test_a_lock_file_names_no_registry(name: str) -> None:
    for line in (ROOT / name).read_text().splitlines():
        assert "resolved" not in line
        assert "index-url" not in line
        assert "://" not in line or "funding" in line or '"url"' in line, line


def test_each_file_for_the_browser_comes_from_a_package_with_its_integrity() -> None:
    lock = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    for source in json.loads((ROOT / "package.json").read_text())["served"].values():
        package = re.match(r"(@[^/]+/)?[^/]+", source)
        assert package
        assert lock[f"node_modules/{package[0]}"]["integrity"].startswith("sha512-")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("ERROR: Could not install: [Errno 28] No space left on device", "The disk is full."),
        ("npm error code ENOSPC", "The disk is full."),
        ("NewConnectionError('[Errno 111] Connection refused'): /simple/django/", "cannot be reached"),
        ("ERROR: No matching distribution found for django==5.2.19", "does not have what is pinned"),
        ("npm error code E404", "does not have what is pinned"),
        ("WARNING: 401 Error, Credentials not correct for http://pypi.example/", "lets nobody in"),
        ("OSError('Tunnel connection failed: 407 Proxy Authentication Required')", "lets nobody in"),
        ("npm error code E403", "lets nobody in"),
        ("npm error code ENOTFOUND", "cannot be reached"),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
            "not the one that is pinned",
        ),
        ("npm error code EINTEGRITY", "not the one that is pinned"),
        ("SSLError(SSLCertVerificationError(1, 'CERTIFICATE_VERIFY_FAILED'))", "certificate is not trusted"),
        ("PermissionError: [Errno 13] Permission denied: '/x'", "cannot be written"),
    ],
)
def test_a_known_failure_is_a_sentence(line: str, sentence: str) -> None:
    assert sentence in explain(["before", line, "after"])
    assert line in explain(["before", line, "after"])


def test_what_pip_met_first_tells_more_than_what_it_says_last() -> None:
    lines = ["Retrying after NewConnectionError('refused')", "ERROR: No matching distribution found for a==1"]
    assert "cannot be reached" in explain(lines)


def test_a_full_disk_is_named_while_pip_itself_is_put_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv = tmp_path / ".venv"
    for name, value in {"VENV": venv, "PYTHON": venv / "bin" / "python", "_STAMP": venv / "s"}.items():
        monkeypatch.setattr(_setup, name, value)
    # Modules stand before the standard library's: this one fails as ensurepip does on a full disk.
    fake = tmp_path / "modules"
    fake.mkdir()
    (fake / "ensurepip.py").write_text("raise OSError(28, 'No space left on device')\n")
    monkeypatch.setenv("PYTHONPATH", str(fake))
    with pytest.raises(Refusal, match="The disk is full"):
        _setup._make_environment(Console(sys.stdout))


def test_an_unknown_failure_shows_the_last_lines() -> None:
    assert explain(["something else"]) == ""
    with pytest.raises(Refusal, match=r"(?s)failed:.*something odd"):
        run([sys.executable, "-c", "print('something odd'); raise SystemExit(2)"], lambda _line: None)


def test_an_error_of_the_system_names_the_file() -> None:
    for number, words in (
        (28, "disk is full: /x"),
        (13, "/x cannot be used"),
        (2, "No such file or directory: /x"),
    ):
        assert words in explain_os_error(OSError(number, "No such file or directory", "/x"))


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a finished set-up, as its notes have it."""
    for name in (
        "requirements.txt",
        "requirements.in",
        "pyproject.toml",
        "package.json",
        "package-lock.json",
    ):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    venv = tmp_path / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.setattr(_setup, "ROOT", tmp_path)
    monkeypatch.setattr(_setup, "PYTHON", venv / "bin" / "python")
    monkeypatch.setattr(_setup, "VENDOR", tmp_path / "vendor")
    monkeypatch.setattr(_setup, "_STAMP", venv / "portico.json")
    monkeypatch.setattr(_setup, "_UNFINISHED", venv / "portico.unfinished")
    _setup._note(["requirements.txt", "checkout"])
    return tmp_path


CA = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS")


@pytest.mark.parametrize(
    ("given", "pip_conf", "pip", "node"),
    [
        ({}, "", None, None),
        ({"SSL_CERT_FILE": "/ca"}, "", "/ca", "/ca"),
        ({"SSL_CERT_FILE": "/ca"}, "[global]\ncert = /own\n", None, "/ca"),
        ({"SSL_CERT_FILE": "/ca", "PIP_CERT": "/pip"}, "", "/pip", "/pip"),
        ({"REQUESTS_CA_BUNDLE": "/bundle", "NODE_EXTRA_CA_CERTS": "/node"}, "", None, "/node"),
    ],
)
def test_the_machines_certificate_authorities_are_passed_on(
    checkout: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, str],
    pip_conf: str,
    pip: str | None,
    node: str | None,
) -> None:
    (checkout / "pip.conf").write_text(pip_conf)
    config = str(checkout / "pip.conf") if pip_conf else os.devnull  # which leaves out the machine's too
    for name in CA:
        monkeypatch.delenv(name, raising=False)
    for name, value in {**given, "PIP_CONFIG_FILE": config}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(_setup, "PYTHON", Path(sys.executable))
    assert _setup._environment().get("PIP_CERT") == pip
    assert _setup._npm_environment(checkout).get("NODE_EXTRA_CA_CERTS") == node


def test_nothing_is_done_when_nothing_changed(checkout: Path) -> None:
    assert _setup._missing(["requirements.txt"]) == []


def test_only_what_changed_is_installed(checkout: Path) -> None:
    with (checkout / "requirements.txt").open("a") as file:
        file.write("# changed\n")
    assert _setup._missing(["requirements.txt"]) == ["requirements.txt"]


def test_a_checkout_that_was_moved_is_installed_again(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = checkout / "moved"
    moved.mkdir()
    for name in ("requirements.txt", "requirements.in", "pyproject.toml"):
        (moved / name).write_bytes((checkout / name).read_bytes())
    monkeypatch.setattr(_setup, "ROOT", moved)
    assert _setup._missing(["requirements.txt"]) == ["checkout"]


@pytest.mark.parametrize("name", ["portico.unfinished", "bin/python"])
def test_a_set_up_that_was_cut_off_or_lost_its_python_begins_anew(checkout: Path, name: str) -> None:
    path = checkout / ".venv" / name
    if path.is_symlink():
        path.unlink()
        path.symlink_to("/nowhere/python")
    else:
        path.touch()
    assert _setup._missing(["requirements.txt"]) == ["requirements.txt", "checkout"]


def test_a_lost_file_of_the_browser_is_noticed(checkout: Path) -> None:
    served = _setup._served()
    vendor = checkout / "vendor"
    vendor.mkdir()
    for name in served:
        (vendor / name).write_text("x")
    assert not _setup._is_vendored()
    (vendor / ".lock-digest").write_text(_setup._lock_digest())
    assert _setup._is_vendored()
    (vendor / next(iter(served))).unlink()
    assert not _setup._is_vendored()


def test_a_step_says_what_it_does_and_that_it_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    with Console(sys.stdout).step("Packages") as progress:
        progress("one of two")
    assert re.fullmatch(r"  Packages \.\.\.\n  Packages: done in 0\.\d s\n", capsys.readouterr().out)
