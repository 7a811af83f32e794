"""Keep tensors: file first, then row; read back one item or all, or say exactly what is wrong.

torch is imported inside the functions that make tensors: the web process stores uploads and checks files without it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import IO, TYPE_CHECKING

from django.contrib.auth.models import User
from django.core.files.base import ContentFile, File
from django.core.files.storage import Storage, storages
from django.db import transaction
from django.utils import timezone

from latents import heatmap, tensorfile
from latents.errors import InvalidLatents, LatentDamaged, LatentFileMissing, SampleIndexOutOfRange, StorageFailed
from latents.heatmap import Drawing
from latents.models import HeatMap, LatentRecord
from latents.provenance import MAX_BATCH_SIZE, InvalidProvenance, Parentage, Provenance
from latents.retention import default_expiry
from latents.tensorfile import Header, InvalidTensorFile, RawTensor

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Draft",
    "Parentage",
    "Provenance",
    "StoredItem",
    "check",
    "load",
    "load_item",
    "save",
    "save_raw",
    "verify",
    "write",
]

FORMAT = "reprise"  # what a file of ours says that it is
# Ten minutes at 100 frames/s. What is larger was not made by a music model of this kind.
MAX_FRAMES = 60_000
MAX_CHANNELS = 1024


@dataclass(frozen=True)
class StoredItem:
    """One item [T, C] of a stored batch, with the digest that its resumes draw their noise from."""

    latents: Tensor
    digest: str
    momentum: Tensor | None


@dataclass(frozen=True)
class Draft:
    """Latents whose file is durable and whose row nobody can see yet."""

    record: LatentRecord
    drawing: Drawing

    def insert(self) -> None:
        """Save the row; if that has been done already, as after a commit whose answer was lost, change nothing."""
        with transaction.atomic():
            if LatentRecord.objects.filter(pk=self.record.pk).exists():
                return
            self.record.save(force_insert=True)
            HeatMap.objects.create(record=self.record, thumbnail=self.drawing.thumbnail, picture=self.drawing.picture)

    def discard(self) -> None:
        """Remove the file, unless it has its row: from a commit whose answer was lost, so that it was tried again."""
        if not LatentRecord.objects.filter(pk=self.record.pk).exists():
            _storage().delete(self.record.file)


def save(
    latents: Tensor,
    provenance: Provenance,
    *,
    owner: User,
    momentum: Tensor | None = None,
    ttl: timedelta | None = None,
    now: datetime | None = None,
) -> LatentRecord:
    """Store latents [B, T, C] durably, file and row; raises what write() raises."""
    draft = write(latents, provenance, owner=owner, momentum=momentum, ttl=ttl, now=now)
    draft.insert()
    return draft.record


def save_raw(
    tensors: dict[str, RawTensor],
    provenance: Provenance,
    *,
    owner: User,
    ttl: timedelta | None = None,
    now: datetime | None = None,
) -> LatentRecord:
    """Do the work of `save` for bytes."""
    draft = _write(tensors, provenance, owner=owner, ttl=ttl, now=now)
    draft.insert()
    return draft.record


def write(
    latents: Tensor,
    provenance: Provenance,
    *,
    owner: User,
    momentum: Tensor | None = None,
    ttl: timedelta | None = None,
    now: datetime | None = None,
) -> Draft:
    """Store the file of latents [B, T, C] durably; `ttl` may shorten the studio's own.

    Raises InvalidLatents before anything is written, and StorageFailed, which leaves nothing.
    """
    tensors = {"latents": to_raw(latents)}
    if momentum is not None:
        tensors["momentum"] = to_raw(momentum)
    return _write(tensors, provenance, owner=owner, ttl=ttl, now=now)


def _write(
    tensors: dict[str, RawTensor],
    provenance: Provenance,
    *,
    owner: User,
    ttl: timedelta | None,
    now: datetime | None,
) -> Draft:
    check_tensors(tensors)
    now = now or timezone.now()
    record_id = uuid.uuid4()
    try:
        metadata = {"format": FORMAT, "provenance": provenance.to_json(record_id, now)}
    except InvalidProvenance as error:
        raise InvalidLatents(f"The latents' provenance cannot be stored: {error}") from error
    content = tensorfile.build(tensors, metadata)
    draft = describe(content, tensors, provenance)
    record = draft.record
    record.id, record.owner, record.created_at, record.expires_at = record_id, owner, now, default_expiry(now, ttl)
    record.file = _storage().save(f"{now:%Y-%m}/{record_id}.safetensors", ContentFile(content))
    return draft


def describe(content: bytes, tensors: dict[str, RawTensor], provenance: Provenance) -> Draft:
    """Return all that the content of a file says of its record; whose it is, when, and which file is left open."""
    drawing = heatmap.draw(tensors["latents"].to_numpy())
    record = _describe(tensors["latents"], provenance)
    record.size_bytes, record.sha256 = len(content), sha256(content).hexdigest()
    record.item_digests = [_digest([t.item(i) for t in tensors.values()]) for i in range(record.batch_size)]
    return Draft(record, drawing)


def load_item(record: LatentRecord, index: int) -> StoredItem:
    """Read and verify one item; on a local disk no other bytes are read than the header and its own.

    Raises SampleIndexOutOfRange, LatentFileMissing or LatentDamaged. Expiry is not looked at: a hold may defy it.
    """
    if not 0 <= index < record.batch_size:
        raise SampleIndexOutOfRange(index, record.batch_size)
    with _opened(record) as file:
        header = _checked_header(record, file)
        tensors = {name: place.item(index).read(file) for name, place in header.tensors.items()}
    digest = _digest([tensor.data for tensor in tensors.values()])
    if digest != record.item_digests[index]:
        raise _damaged(record, f"the checksum of item {index} differs")
    _check_finite(record, tensors)
    momentum = tensors.get("momentum")
    return StoredItem(_tensor(tensors["latents"])[0], digest, None if momentum is None else _tensor(momentum)[0])


def load(record: LatentRecord) -> Tensor:
    """Read and verify the whole batch [B, T, C]."""
    with _opened(record) as file:
        header = _checked_header(record, file)
        tensors = {name: place.read(file) for name, place in header.tensors.items()}
    for index, digest in enumerate(record.item_digests):
        if digest != _digest([tensor.item(index) for tensor in tensors.values()]):
            raise _damaged(record, f"the checksum of item {index} differs")
    _check_finite(record, tensors)
    return _tensor(tensors["latents"])


def check(record: LatentRecord) -> None:
    """Look for everything that can be seen without reading the tensor: existence, length, header, earlier findings."""
    with _opened(record) as file:
        _checked_header(record, file)
    if record.damage:
        raise LatentDamaged(record.pk, record.damage)


def verify(record: LatentRecord) -> None:
    """Read the whole file and compare its checksum; what was found is noted in the record."""
    digest = sha256()
    with _opened(record) as file:
        _checked_header(record, file)
        file.seek(0)
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != record.sha256:
        raise _damaged(record, "its checksum differs")
    record.note_damage("")


def open_file(record: LatentRecord) -> File[bytes]:
    """Open the stored file, which is the portable file as well. Raises LatentFileMissing."""
    if not record.file:  # pruned
        raise LatentFileMissing(record.pk)
    try:
        return _storage().open(record.file)
    except FileNotFoundError:
        raise LatentFileMissing(record.pk) from None


def check_shape(shape: tuple[int, ...]) -> None:
    """Refuse what cannot be latents [B, T, C]. Raises InvalidLatents."""
    limits = (MAX_BATCH_SIZE, MAX_FRAMES, MAX_CHANNELS)
    if len(shape) != 3 or not all(1 <= size <= limit for size, limit in zip(shape, limits, strict=True)):
        raise InvalidLatents(f"Latents must be [batch, frames, channels] of at most {list(limits)}, not {list(shape)}")


def to_raw(tensor: Tensor) -> RawTensor:
    """Return the tensor's bytes, without a copy where they lie in order on the CPU."""
    import torch

    tensor = tensor.detach().cpu().contiguous()
    data = tensor.flatten().view(torch.uint8).numpy().data
    return RawTensor(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), data)


def _storage() -> Storage:
    return storages["latents"]


def _tensor(raw: RawTensor) -> Tensor:
    import torch

    return torch.frombuffer(raw.data, dtype=getattr(torch, raw.dtype)).reshape(raw.shape)


def _digest(parts: list[memoryview]) -> str:
    digest = sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _describe(latents: RawTensor, provenance: Provenance) -> LatentRecord:
    """Return an unsaved record with everything that is known without the file."""
    batch_size, frames, channels = latents.shape
    record = LatentRecord(
        batch_size=batch_size,
        frames=frames,
        channels=channels,
        dtype=latents.dtype,
        model_variant=provenance.model_variant,
        frame_rate=provenance.frame_rate,
        caption=provenance.caption,
        seeds=provenance.seeds,
        params=provenance.params,
        schedule=provenance.schedule,
        runtime=provenance.runtime,
        checkpoint_step=provenance.checkpoint_step,
        kind=LatentRecord.Kind.TAKE if provenance.checkpoint_step is None else LatentRecord.Kind.CHECKPOINT,
    )
    if parent := provenance.parent:
        record.parent_id, record.parent_sample_index = parent.id, parent.sample_index
        record.parent_level, record.parent_digest = parent.level, parent.digest
    return record


def check_tensors(tensors: dict[str, RawTensor]) -> None:
    """Refuse what cannot be latents with their momentum. Raises InvalidLatents."""
    latents = tensors["latents"]
    check_shape(latents.shape)
    if latents.dtype not in tensorfile.DTYPES:
        raise InvalidLatents(f"Latents must be one of {', '.join(tensorfile.DTYPES)}, not {latents.dtype}")
    for name, tensor in tensors.items():
        if (tensor.dtype, tensor.shape) != (latents.dtype, latents.shape):
            raise InvalidLatents(
                f"{name} {_kind(tensor.dtype, tensor.shape)} must be like the latents, "
                f"{_kind(latents.dtype, latents.shape)}"
            )
        if not tensor.is_finite():
            raise InvalidLatents(f"{name} contains NaN or infinite values")


def _check_finite(record: LatentRecord, tensors: dict[str, RawTensor]) -> None:
    for name, tensor in tensors.items():
        if not tensor.is_finite():
            raise _damaged(record, f"its {name} contain NaN or infinite values")


@contextmanager
def _opened(record: LatentRecord) -> Iterator[IO[bytes]]:
    try:
        with open_file(record) as file:
            yield file
    except FileNotFoundError:  # some storages look only when the first byte is read
        raise LatentFileMissing(record.pk) from None
    except OSError as error:
        raise StorageFailed(error) from error
    except InvalidTensorFile as error:
        raise _damaged(record, str(error)) from error


def _checked_header(record: LatentRecord, file: IO[bytes]) -> Header:
    """Read the header and compare it with the row."""
    size_bytes = file.seek(0, 2)
    if size_bytes != record.size_bytes:
        raise _damaged(record, f"it has {size_bytes} bytes, expected {record.size_bytes}")
    header = tensorfile.read_header(file, size_bytes)
    if not {"latents"} <= set(header.tensors) <= {"latents", "momentum"}:
        raise _damaged(record, "it does not contain what was stored")
    expected = _kind(record.dtype, (record.batch_size, record.frames, record.channels))
    for name, place in header.tensors.items():
        if (found := _kind(place.dtype, place.shape)) != expected:
            raise _damaged(record, f"its {name} are {found}, expected {expected}")
    return header


def _kind(dtype: str, shape: tuple[int, ...]) -> str:
    """Write a tensor's type and shape: float32 [2, 500, 64]."""
    return f"{dtype} {list(shape)}"


def _damaged(record: LatentRecord, damage: str) -> LatentDamaged:
    """Note the damage, so that the next request hears of it before it is queued."""
    record.note_damage(damage)
    return LatentDamaged(record.pk, damage)
