"""One file holds latents and where they come from: hand it on, take one in. What comes in is trusted in nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import IO

from django.conf import settings
from django.contrib.auth.models import User

from latents import foreign, store, tensorfile
from latents.errors import ImportRefused, ImportTooLarge, InvalidLatents
from latents.models import LatentRecord
from latents.provenance import InvalidProvenance, Parentage, Provenance
from latents.tensorfile import Header, InvalidTensorFile


def export_file(record: LatentRecord, target: IO[bytes]) -> None:
    """Write the portable file, which is the stored one as it is; verify it before."""
    with store.open_file(record) as file:
        while chunk := file.read(1 << 20):
            target.write(chunk)


def import_file(file: IO[bytes], owner: User, now: datetime | None = None) -> LatentRecord:
    """Store what a file of ours, ACE-Step's or ComfyUI's contains as the owner's own.

    Raises ImportTooLarge or ImportRefused.

    The file gets a header written here: nothing of a stranger's is kept that was not understood.
    """
    size_bytes = file.seek(0, 2)
    _check_size(size_bytes, owner)
    try:
        if latents := foreign.read(file, size_bytes):
            return store.save_raw({"latents": latents}, foreign.describe(), owner=owner, now=now)
        header = tensorfile.read_header(file, size_bytes)
        provenance = read_provenance(header)
        check_plausible(header, provenance)
        tensors = {name: place.read(file) for name, place in sorted(header.tensors.items())}
        provenance = replace(provenance, parent=_own_parent(provenance.parent, owner))
        return store.save_raw(tensors, provenance, owner=owner, now=now)
    except (InvalidTensorFile, InvalidProvenance, InvalidLatents) as error:
        raise ImportRefused(f"This file cannot be imported: {error}") from error


def _check_size(size_bytes: int, owner: User) -> None:
    if (limit := settings.REPRISE_MAX_UPLOAD_BYTES) is not None and size_bytes > limit:
        raise ImportTooLarge(f"This file has {size_bytes} bytes; at most {limit} can be imported")
    limit = settings.REPRISE_MAX_STORED_BYTES
    if limit is not None and LatentRecord.objects.visible_to(owner).stored_bytes() + size_bytes > limit:
        raise ImportTooLarge(f"With this file your latents would take more than the {limit} bytes that you may store")


def read_provenance(header: Header) -> Provenance:
    """Return what a header says of its latents. Raises InvalidProvenance."""
    if header.metadata.get("format") != store.FORMAT:
        raise InvalidProvenance("it was not written by Reprise")
    return Provenance.from_json(header.metadata.get("provenance", ""))


def check_plausible(header: Header, provenance: Provenance) -> None:
    """Check what can be said before any of the tensors is read.

    Raises InvalidTensorFile, InvalidProvenance or InvalidLatents.
    """
    names = set(header.tensors)
    if "latents" not in names:
        raise InvalidTensorFile("it contains no tensor 'latents'")
    if names - {"latents", "momentum"}:
        raise InvalidTensorFile("it contains more than 'latents' and 'momentum'")
    if "momentum" in names and provenance.checkpoint_step is None:
        raise InvalidTensorFile("only a checkpoint has momentum")
    for place in header.tensors.values():
        store.check_shape(place.shape)
    batch_size = header.tensors["latents"].shape[0]
    if provenance.seeds and len(provenance.seeds) != batch_size:  # of what was imported, none is known
        raise InvalidProvenance(f"it has {batch_size} items and {len(provenance.seeds)} seeds")
    if (provenance.checkpoint_step or 0) >= max(len(provenance.schedule["timesteps"]), 1):
        raise InvalidProvenance("its schedule ends before the checkpoint")


def _own_parent(parent: Parentage | None, owner: User) -> Parentage | None:
    """Keep the link only to a record of the importer's own that really is what the take was resumed from."""
    if parent is None or parent.id is None:
        return parent
    record = LatentRecord.objects.visible_to(owner).filter(pk=parent.id).first()
    digests = record.item_digests if record else []
    is_own = parent.digest in digests[parent.sample_index : parent.sample_index + 1]
    return parent if is_own else replace(parent, id=None)
