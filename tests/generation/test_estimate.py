"""How long a run will take."""

from collections.abc import Callable
from uuid import uuid4

import pytest
from django.contrib.auth.models import User

from generation.estimate import estimate_seconds
from generation.models import GenerationJob
from latents.models import LatentRecord
from tests.generation.take_requests import take_request

pytestmark = pytest.mark.usefixtures("tiny_models")


@pytest.fixture
def ran(alice: User, take: LatentRecord) -> Callable[..., None]:
    """Return a function that notes a finished run of 4 model calls over 100 frames."""

    def ran(denoise: float, decode: float) -> None:
        job = GenerationJob.objects.all().start(take_request(), owner=alice, request_id=str(uuid4()))
        job.remember_latents(take, None)
        job.finish([], {"load": 60.0, "denoise": denoise, "store": 0.0, "decode": decode})

    return ran


@pytest.mark.django_db
def test_nothing_is_known_before_the_first_run() -> None:
    assert estimate_seconds("tiny", model_calls=4, frames=100) is None


def test_the_same_again_takes_as_long_without_loading_the_model(ran: Callable[..., None]) -> None:
    ran(denoise=8.0, decode=2.0)
    assert estimate_seconds("tiny", model_calls=4, frames=50, batch_size=2) == pytest.approx(10.0)


def test_fewer_calls_only_shorten_the_denoising(ran: Callable[..., None]) -> None:
    ran(denoise=8.0, decode=2.0)
    assert estimate_seconds("tiny", model_calls=1, frames=100) == pytest.approx(4.0)


def test_one_slow_run_does_not_count(ran: Callable[..., None]) -> None:
    for denoise in (8.0, 800.0, 8.0):
        ran(denoise=denoise, decode=2.0)
    assert estimate_seconds("tiny", model_calls=4, frames=100) == pytest.approx(10.0)


def test_other_models_do_not_count(ran: Callable[..., None]) -> None:
    ran(denoise=8.0, decode=2.0)
    assert estimate_seconds("tiny-turbo", model_calls=4, frames=100) is None
