"""The home's keys, locks and notes."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest
from _console import Console, Refusal
from _home import Home, held

ROOT = Path(__file__).resolve().parent.parent.parent


def test_keys_are_made_once_and_only_their_owner_reads_them(home: Path) -> None:
    Home()
    keys = {name: (home / name).read_text() for name in ("secret-key", "encryption-keys")}
    Home()
    for name, key in keys.items():
        assert (home / name).read_text() == key
        assert (home / name).stat().st_mode & 0o777 == 0o600
    assert len(base64.urlsafe_b64decode(keys["encryption-keys"])) == 32
    assert len(keys["secret-key"]) > 50


def test_starts_at_the_same_time_agree_on_the_keys(home: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'bin')!r})\nfrom _home import Home\nHome()\n"
    code += f"print(open({str(home / 'encryption-keys')!r}).read())"
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(6)
    ]
    seen = {process.communicate()[0] for process in started}
    assert len(seen) == 1
    assert not list(home.glob(".*"))


def test_a_key_that_a_killed_start_left_half_written_is_in_nobodys_way(home: Path) -> None:
    for name in ("secret-key", "encryption-keys"):
        (home / f".{name}.{os.getpid()}").write_text("half")
    Home()
    assert len((home / "secret-key").read_text()) > 50
    assert not list(home.glob(".*"))


def test_a_home_that_is_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PORTICO_HOME", str(tmp_path / "file"))
    with pytest.raises(Refusal, match="is not a folder"):
        Home()


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_home_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o500)
    monkeypatch.setenv("PORTICO_HOME", str(tmp_path))
    with pytest.raises(Refusal, match="cannot be written"):
        Home()


def test_a_relative_home_starts_at_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORTICO_HOME", "data/here")
    assert Home().path == tmp_path / "data" / "here"
    assert os.environ["PORTICO_HOME"] == str(tmp_path / "data" / "here")


def test_a_lock_is_free_again_once_its_holder_is_killed(home: Path) -> None:
    lock = Home().lock("servers")
    code = f"""
import sys; sys.path.insert(0, {str(ROOT / "bin")!r})
from _home import Home
lock = Home().lock("servers")
print(lock.take())
lock.sign(pid=1, command="x")
print("", flush=True)
sys.stdin.read()
"""
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    assert holder.stdin
    assert holder.stdout.readline() == "True\n"
    holder.stdout.readline()
    assert not lock.take()
    assert not lock.is_free()
    assert lock.holder() == {"pid": 1, "command": "x"}
    holder.kill()
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    assert lock.is_free()
    assert lock.take()


def test_those_who_share_a_lock_do_not_wait_for_each_other(home: Path) -> None:
    first, second, alone = (Home().lock("users") for _ in range(3))
    assert first.take(shared=True)
    assert second.take(shared=True)
    assert not alone.take()
    first.free()
    assert not alone.wait(0.2)
    second.free()
    assert alone.take()


def test_notes_are_kept_beside_each_other(home: Path) -> None:
    Home().note(database="a")
    Home().note(redis="b")
    assert Home().read_note() == {"database": "a", "redis": "b"}
    assert (home / "servers.json").stat().st_mode & 0o777 == 0o600


def test_who_waits_for_a_lock_says_for_what(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    busy = Home().lock("prepare")
    assert busy.take()
    waiting = Home().lock("prepare")
    waiting.wait = lambda *_, **__: busy.free() or True  # type: ignore[method-assign,func-returns-value]
    with held(waiting, Console(sys.stdout), "somebody"):
        assert "Waiting for somebody." in capsys.readouterr().out
