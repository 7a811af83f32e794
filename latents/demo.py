"""Many records to try a studio with: people, lines of takes, captions and ages as they come about in months of use.

Everything says of itself what it is. The latents are small and random, no music; without files, a record's name of a
file begins with `rows-only/`, its checksums are zeros, and its page says what made it.
"""

from __future__ import annotations

import random
import struct
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from django.contrib.auth.models import User
from django.db.models.functions import Now

from latents import store
from latents.models import LatentRecord
from latents.provenance import MAX_SEED, Parentage, Provenance
from latents.tensorfile import RawTensor

AGE = timedelta(days=120)
TTL = timedelta(days=30)
# The first person's first takes are one line of this length, for there are people who never start afresh.
LONGEST_LINE = 200
# People take up what they have just heard.
RECENT = 8
BATCH_SIZE = 2000
FRAMES = 16
NO_DIGEST = "0" * 64

_VARIANTS = {"sketch": (24, 20.0), "acestep-v15-turbo": (64, 25.0), "acestep-v15-base": (64, 25.0)}
_VARIANT_WEIGHTS = (80, 15, 5)
_MOODS = "warm cold calm tense bright dark dusty dreamy gentle raw lazy urgent tender hollow glassy golden"
_STYLES = "lofi techno ambient jazz waltz bossa funk house folk soul drone dub swing trance blues tango"
_SOUNDS = "piano drums flute bass strings organ guitar choir brass harp vibraphone synth cello marimba oud bells"


@dataclass(frozen=True)
class _Idea:
    """One record to be, before it is decided whether it gets a file."""

    id: uuid.UUID
    owner: User
    created_at: datetime
    variant: str
    caption: str
    seed: int
    parent: _Idea | None
    level: float | None
    is_checkpoint: bool
    is_pinned: bool
    is_deleted: bool
    expires: bool

    def describe(self, device: str, parent: Parentage | None = None) -> Provenance:
        level = 1.0 if self.level is None else self.level
        return Provenance(
            model_variant=self.variant,
            frame_rate=_VARIANTS[self.variant][1],
            caption=self.caption,
            seeds=[self.seed],
            params={"caption": self.caption, "duration": 30.0, "bpm": 60 + self.seed % 120, "seed": self.seed},
            schedule={
                "steps": 8,
                "shift": 3.0,
                "timesteps": [t for t in (1.0, 0.9545, 0.9, 0.8333, 0.75, 0.6429, 0.5, 0.3) if t <= level] or [0.3],
                "requested": level,
                "effective": level,
            },
            runtime={"device": device},
            checkpoint_step=1 if self.is_checkpoint else None,
            parent=parent,
        )


def seed(count: int, owners: list[User], now: datetime) -> Iterator[LatentRecord]:
    """Store so many records with their files, and give each when it is there, the oldest first."""
    # What may still become a parent; a record gets its own id from the store, not the one of its idea.
    recent: dict[int, deque[tuple[uuid.UUID, LatentRecord]]] = {owner.pk: deque(maxlen=RECENT) for owner in owners}
    for idea in _ideas(count, owners, now):
        parentage = None
        if idea.parent and idea.level is not None:
            origin = dict(recent[idea.owner.pk])[idea.parent.id]
            parentage = Parentage(id=origin.pk, sample_index=0, level=idea.level, digest=origin.item_digests[0])
        record = store.save_raw(
            {"latents": _noise(_VARIANTS[idea.variant][0], idea.seed)},
            idea.describe("seed_demo: random numbers, no music", parentage),
            owner=idea.owner,
            ttl=TTL if idea.expires else None,
            now=idea.created_at,
        )
        LatentRecord.objects.filter(pk=record.pk).update(
            pinned=idea.is_pinned, deleted_at=Now() if idea.is_deleted else None
        )
        recent[idea.owner.pk].append((idea.id, record))
        yield record


def seed_rows(count: int, owners: list[User], now: datetime) -> Iterator[list[LatentRecord]]:
    """Insert so many records without files, and give them in batches, the oldest first."""
    ideas = _ideas(count, owners, now)
    while batch := [_row(idea, now) for idea in islice(ideas, BATCH_SIZE)]:
        yield LatentRecord.objects.bulk_create(batch)


def _row(idea: _Idea, now: datetime) -> LatentRecord:
    provenance = idea.describe("nothing: a row of seed_demo --rows-only")
    channels, frame_rate = _VARIANTS[idea.variant]
    expires_at = idea.created_at + TTL if idea.expires else None
    purged_at = _purge_time(idea, expires_at, now)
    parent: dict[str, Any] = {}
    if idea.parent:
        parent = {"parent_id": idea.parent.id, "parent_sample_index": 0, "parent_digest": NO_DIGEST}
    return LatentRecord(
        id=idea.id,
        owner=idea.owner,
        model_variant=idea.variant,
        kind=LatentRecord.Kind.CHECKPOINT if idea.is_checkpoint else LatentRecord.Kind.TAKE,
        checkpoint_step=provenance.checkpoint_step,
        batch_size=1,
        frames=int(30 * frame_rate),
        channels=channels,
        frame_rate=frame_rate,
        dtype="float32",
        caption=idea.caption,
        seeds=provenance.seeds,
        params=provenance.params,
        schedule=provenance.schedule,
        runtime=provenance.runtime,
        parent_level=idea.level,
        file="" if purged_at else f"rows-only/{idea.id}.safetensors",
        size_bytes=int(30 * frame_rate) * channels * 4,
        sha256=NO_DIGEST,
        item_digests=[NO_DIGEST],
        created_at=idea.created_at,
        expires_at=expires_at,
        pinned=idea.is_pinned,
        deleted_at=idea.created_at if idea.is_deleted else None,
        purged_at=purged_at,
        **parent,
    )


def _purge_time(idea: _Idea, expires_at: datetime | None, now: datetime) -> datetime | None:
    """Let the last prune have been a day ago."""
    ends = [idea.created_at] if idea.is_deleted else []
    if expires_at and not idea.is_pinned:
        ends.append(expires_at)
    end = min(ends, default=now)
    return end if end < now - timedelta(days=1) else None


def _ideas(count: int, owners: list[User], now: datetime) -> Iterator[_Idea]:
    """Think of records, the oldest first; the first owner makes half of them."""
    rng = random.Random(count)  # noqa: S311 - nothing here is secret
    weights = [max(len(owners) - 1, 1), *[1] * (len(owners) - 1)]
    recent: dict[int, deque[_Idea]] = {owner.pk: deque(maxlen=RECENT) for owner in owners}
    line = 0  # of the first owner's first takes
    for number in range(count):
        owner = rng.choices(owners, weights)[0]
        parent = None
        if owner == owners[0] and line < LONGEST_LINE:
            line += 1
            parent = recent[owner.pk][-1] if recent[owner.pk] else None
        elif recent[owner.pk] and rng.random() < 0.6:
            parent = rng.choice(recent[owner.pk])
        idea = _think(rng, number, owner, now - AGE * (1 - number / count), parent)
        recent[owner.pk].append(idea)
        yield idea


def _think(rng: random.Random, number: int, owner: User, created_at: datetime, parent: _Idea | None) -> _Idea:
    if parent:
        # Its ancestors are not kept in memory with it.
        parent = _Idea(**{**vars(parent), "parent": None})

    def choose(words: str) -> str:
        return rng.choice(words.split())

    sounds = " and ".join(rng.sample(_SOUNDS.split(), 2))
    caption = f"{choose(_MOODS)} {choose(_STYLES)}, {choose(_MOODS)} {sounds}, idea {number}"
    return _Idea(
        id=uuid.UUID(int=rng.getrandbits(128) ^ uuid.uuid4().int, version=4),
        owner=owner,
        created_at=created_at,
        variant=parent.variant if parent else rng.choices(list(_VARIANTS), _VARIANT_WEIGHTS)[0],
        caption=caption,
        seed=rng.randrange(MAX_SEED),
        parent=parent,
        level=rng.choice([0.3, 0.5, 0.6429, 0.75, 0.9]) if parent else None,
        is_checkpoint=rng.random() < 0.03 and parent is None,
        is_pinned=rng.random() < 0.02,
        is_deleted=rng.random() < 0.02,
        expires=rng.random() < 0.7,
    )


def _noise(channels: int, seed: int) -> RawTensor:
    rng = random.Random(seed)  # noqa: S311
    values = [rng.gauss(0.0, 1.0) for _ in range(FRAMES * channels)]
    return RawTensor("float32", (1, FRAMES, channels), memoryview(bytearray(struct.pack(f"<{len(values)}f", *values))))
