"""What can be wrong with a latent: for each the sentence that people read, and the status that HTTP answers with it."""

from __future__ import annotations

import errno
import os
from http import HTTPStatus
from uuid import UUID


class LatentError(Exception):
    """Something about one latent that its user can be told."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY


class LatentNotFound(LatentError):
    """Unknown, expired, deleted or someone else's: nobody learns which."""

    status = HTTPStatus.NOT_FOUND

    def __init__(self, latent_id: UUID | str) -> None:
        super().__init__(f"Latent '{latent_id}' not found or expired")


class LatentFileMissing(LatentError):
    """The record is there, its file is not."""

    status = HTTPStatus.NOT_FOUND

    def __init__(self, latent_id: UUID | str) -> None:
        super().__init__(f"Failed to load latent tensor '{latent_id}'")


class LatentDamaged(LatentError):
    """The file is there and is not what was stored."""

    def __init__(self, latent_id: UUID | str, damage: str) -> None:
        super().__init__(f"Latent '{latent_id}' is damaged: {damage}")
        self.damage = damage


class LatentHeld(LatentError):
    """A queued or running job still needs the record."""

    status = HTTPStatus.CONFLICT

    def __init__(self, latent_id: UUID | str) -> None:
        super().__init__(f"Latent '{latent_id}' is needed by a job; cancel the job or wait until it has finished")


class StorageFailed(LatentError):
    """The storage did not take a file, or did not give it back."""

    status = HTTPStatus.SERVICE_UNAVAILABLE

    def __init__(self, error: OSError) -> None:
        super().__init__(_REMEDIES.get(error.errno or 0) or f"The storage failed: {error.strerror or error}.")


_FULL = "The disk is full. Free some space, then try again."
_FORBIDDEN = "The studio may not use its own folder. Give it the right to, then try again."
_REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EROFS: "The disk can be read but not written. Make it writable, then try again.",
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EIO: f"The disk reports an error: {os.strerror(errno.EIO)}. It may be about to fail: look after it first.",
}


class SampleIndexOutOfRange(LatentError):
    def __init__(self, index: int, batch_size: int) -> None:
        items = "1 item" if batch_size == 1 else f"{batch_size} items"
        super().__init__(f"Sample index {index} out of range (latent has {items})")


class InvalidLatents(LatentError, ValueError):
    """A tensor that is refused before anything is stored."""


class ImportRefused(LatentError):
    """A file that is not imported, and why."""


class ImportTooLarge(ImportRefused):
    """A file that is larger than what may be imported, or than what its owner may still store."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
