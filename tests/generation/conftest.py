"""A studio with tiny models, two people, and takes to resume."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from django.contrib.auth.models import User
from pytest_django import Settings

from latents import store
from latents.models import LatentRecord
from latents.store import Provenance

CHANNELS = 8
FRAME_RATE = 25.0


@pytest.fixture
def tiny_models(settings: Settings, tiny_model: Callable[[str], Path]) -> None:
    """Configure a tiny base model as the default, a tiny turbo one, and one whose weights are not there."""
    settings.REPRISE_MODELS = {
        "tiny": f"{tiny_model('base')}?steps=4&shift=1&max_duration_s=60",
        "tiny-turbo": str(tiny_model("turbo")),
        "absent": "nobody/absent-turbo",
    }
    settings.REPRISE_DEVICE = "cpu"


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_user("alice")


@pytest.fixture
def bob(db: None) -> User:
    return User.objects.create_user("bob")


@pytest.fixture
def store_take(alice: User) -> Callable[..., LatentRecord]:
    """Return a function that stores a batch of two 2 s takes for alice; what the provenance says may be given."""

    def store_take(
        *,
        owner: User = alice,
        batch_size: int = 2,
        frames: int = 50,
        channels: int = CHANNELS,
        momentum: bool = False,
        **changes: Any,
    ) -> LatentRecord:
        provenance: dict[str, Any] = {
            "model_variant": "tiny",
            "frame_rate": FRAME_RATE,
            "caption": "warm lofi",
            "seeds": list(range(7, 7 + batch_size)),
            "params": {"caption": "warm lofi", "duration": 2.0},
            "schedule": {
                "steps": 4,
                "shift": 1.0,
                "timesteps": [1.0, 0.75, 0.5, 0.25],
                "requested": 1.0,
                "effective": 1.0,
            },
        }
        shape = (batch_size, frames, channels)
        latents = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        return store.save(
            latents,
            Provenance(**provenance | changes),
            owner=owner,
            momentum=torch.ones(shape) if momentum else None,
        )

    return store_take


@pytest.fixture
def take(store_take: Callable[..., LatentRecord]) -> LatentRecord:
    return store_take()


@pytest.fixture
def checkpoint(store_take: Callable[..., LatentRecord]) -> LatentRecord:
    """A guided run of 4 steps, stopped before its third: at level 0.5."""
    return store_take(checkpoint_step=2, momentum=True)
