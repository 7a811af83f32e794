"""Health checks for whoever keeps the studio running: open to all, and silent about details."""

import logging
import os
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from django.contrib.auth.decorators import login_not_required
from django.core.files.storage import FileSystemStorage, storages
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from generation.models import Worker

logger = logging.getLogger(__name__)


@login_not_required
@never_cache
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """Answer at all: the process is up."""
    return HttpResponse("ok\n", content_type="text/plain")


@login_not_required
@never_cache
@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Answer 200 if a job could be accepted, kept and worked on now; the log says what is amiss."""
    if all(map(_passes, (_database, _storages, _live_worker))):
        return HttpResponse("ready\n", content_type="text/plain")
    return HttpResponse("not ready\n", content_type="text/plain", status=HTTPStatus.SERVICE_UNAVAILABLE)


def _passes(check: Callable[[], None]) -> bool:
    try:
        check()
    except Exception:  # whatever a driver raises means the same here
        logger.warning("Not ready: %s", check.__name__.strip("_").replace("_", " "), exc_info=True)
        return False
    return True


def _database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _storages() -> None:
    for alias in ("latents", "audio"):
        storage = storages[alias]
        if isinstance(storage, FileSystemStorage):
            _require_writable(Path(storage.location))
        else:
            storage.exists("readyz")  # any answer will do


def _require_writable(folder: Path) -> None:
    """A folder that is not there yet is made with its first file, in the nearest one above it."""
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} is not writable")


def _live_worker() -> None:
    if not Worker.objects.live().exists():
        raise LookupError("no worker has sent a sign of life lately")
