"""How static files are named and kept: by their content, compressed, for a browser to keep for good."""

from __future__ import annotations

import hashlib
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import ManifestFilesMixin
from django.core.management import call_command
from whitenoise.storage import CompressedManifestStaticFilesStorage


class Storage(CompressedManifestStaticFilesStorage):
    """A collected file's name carries a digest; before anything was collected, a file has its plain name."""

    # Source maps are not shipped, so only what a style sheet loads is followed.
    patterns = tuple(
        (extension, tuple(rule for rule in rules if "sourceMappingURL" not in str(rule)))
        for extension, rules in ManifestFilesMixin.patterns
    )

    def stored_name(self, name: str) -> str:
        if self.hashed_files or Path(name).suffix == "":
            return super().stored_name(name)
        if finders.find(name) is None:
            raise ValueError(f"No app has a static file {name!r}.")
        return name


def collect() -> int:
    """Collect the static files into `STATIC_ROOT`, unless none has changed since the last time.

    :returns: how many files were collected; 0 if all were as before.
    """
    sources = [
        (path, storage.path(path))
        for finder in finders.get_finders()
        for path, storage in finder.list(["CVS", ".*", "*~"])
    ]
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path, file in sorted(sources):
        state = Path(file).stat()
        digest.update(f"{path}\0{file}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    root = Path(settings.STATIC_ROOT)
    note = root / ".collected"
    if note.exists() and note.read_text(encoding="utf-8") == digest.hexdigest():
        return 0
    note.unlink(missing_ok=True)
    call_command("collectstatic", interactive=False, clear=True, verbosity=0)
    note.write_text(digest.hexdigest(), encoding="utf-8")
    return len(sources)
