"""A folder whose files are complete and on the disk once they are named."""

from __future__ import annotations

import logging
import os
import uuid
from contextlib import suppress
from pathlib import Path

from django.core.files.base import File
from django.core.files.storage import FileSystemStorage

from latents.errors import StorageFailed

logger = logging.getLogger(__name__)

# Members of the group may read, write and remove; files made inside belong to the folder's group (the leading 2).
FOLDER_MODE = 0o2770
DRAFT_PREFIX = ".draft-"


class DurableFileSystemStorage(FileSystemStorage):
    """Write under a temporary name, fsync, rename, fsync the folder; never over a file that is there.

    Django's own storage writes under the final name and never calls fsync: a crash leaves half a file that looks whole.
    What the disk does not take is StorageFailed, with a sentence for the user; the log says which file it was.
    """

    def _save(self, name: str, content: File[bytes]) -> str:
        try:
            return self._save_durably(name, content)
        except FileExistsError:
            raise
        except OSError as error:
            logger.error("%s could not be written: %s", name, error)
            raise StorageFailed(error) from error

    def delete(self, name: str) -> None:
        try:
            super().delete(name)
        except OSError as error:
            raise StorageFailed(error) from error

    def _save_durably(self, name: str, content: File[bytes]) -> str:
        path = Path(self.path(name))
        self._make_folder(path.parent)
        draft = path.with_name(f"{DRAFT_PREFIX}{uuid.uuid4().hex}")
        try:
            self._write(draft, content)
            if path.exists():
                raise FileExistsError(f"{name} is there already")
            draft.rename(path)
        except BaseException:
            with suppress(OSError):  # a disk that does not write may not remove either; the audit will
                draft.unlink(missing_ok=True)
            raise
        _fsync(path.parent)
        return name.replace("\\", "/")

    def _write(self, path: Path, content: File[bytes]) -> None:
        with path.open("xb") as file:
            for chunk in content.chunks(1 << 20):
                file.write(chunk)
            if self.file_permissions_mode is not None:
                os.fchmod(file.fileno(), self.file_permissions_mode)
            file.flush()
            os.fsync(file.fileno())

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        folder.chmod(self.directory_permissions_mode or FOLDER_MODE)  # mkdir's own mode is cut by the umask
        _fsync(folder.parent)


def _fsync(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
