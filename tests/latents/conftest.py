"""Small stored takes, and people to own them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from django.contrib.auth.models import User

from latents import store
from latents.models import LatentRecord
from latents.store import Provenance

FRAMES, CHANNELS = 30, 4


def make_provenance(**changes: Any) -> Provenance:
    provenance: dict[str, Any] = {
        "model_variant": "sketch",
        "frame_rate": 20.0,
        "caption": "warm lofi, piano and drums",
        "seeds": [7, 8],
        "params": {"caption": "warm lofi, piano and drums", "bpm": 84, "duration": 1.5, "lyrics": ""},
        "schedule": {"steps": 2, "shift": 3.0, "timesteps": [1.0, 0.75], "requested": 1.0, "effective": 1.0},
        "runtime": {"device": "cpu", "dtype": "float32", "threads": 1, "compile": False},
    }
    return Provenance(**provenance | changes)


def random_latents(batch_size: int = 2, frames: int = FRAMES, channels: int = CHANNELS) -> torch.Tensor:
    return torch.randn(batch_size, frames, channels, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_user("alice")


@pytest.fixture
def bob(db: None) -> User:
    return User.objects.create_user("bob")


@pytest.fixture
def make_record(alice: User) -> Callable[..., LatentRecord]:
    """Return a function that stores a take of two items; fields of the row may be given."""

    def make(*, owner: User = alice, latents: torch.Tensor | None = None, **fields: Any) -> LatentRecord:
        record = store.save(random_latents() if latents is None else latents, make_provenance(), owner=owner)
        for name, value in fields.items():
            setattr(record, name, value)
        record.save()
        return record

    return make


@pytest.fixture
def record(make_record: Callable[..., LatentRecord]) -> LatentRecord:
    return make_record()
