"""Static files, collected when they have changed: compressing them takes seconds that no start should cost."""

import hashlib
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command


def collect_changed_assets() -> bool:
    """Bring STATIC_ROOT up to date, and return whether there was anything to do."""
    root = Path(settings.STATIC_ROOT)
    stamp = root.with_name(f"{root.name}.sha256")  # beside the folder, as everything in it is served
    fingerprint = _fingerprint()
    if stamp.exists() and stamp.read_text() == fingerprint:
        return False
    call_command("collectstatic", interactive=False, clear=root.exists(), verbosity=0)
    stamp.write_text(fingerprint)
    return True


def _fingerprint() -> str:
    """Return a digest of the name, size and time of every static file."""
    digest = hashlib.sha256()
    for finder in get_finders():
        for name, storage in sorted(finder.list([]), key=lambda found: found[0]):
            stat = Path(storage.path(name)).stat()
            digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
