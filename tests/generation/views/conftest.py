"""A studio with tiny models in server mode, alice logged in, and jobs in every state without a worker."""

import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.test import Client

from generation import audio
from generation.downloads import audio_name
from generation.models import GenerationJob, Sample
from latents.models import LatentRecord
from tests.generation.take_requests import take_request

SAMPLE_RATE = 48000
HTMX = {"HX-Request": "true"}
JSON = {"Accept": "application/json"}


def text(response: Any) -> str:
    """Return what was answered, its white space evened out."""
    return re.sub(r"\s+", " ", response.content.decode())


@pytest.fixture(autouse=True)
def studio(server_mode: None, tiny_models: None) -> None:
    """Every test here has one."""


@pytest.fixture
def client(alice: User) -> Client:
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture
def stranger(bob: User) -> Client:
    client = Client()
    client.force_login(bob)
    return client


@pytest.fixture
def queue(alice: User) -> Callable[..., GenerationJob]:
    """Return a function that queues a job for alice."""

    def queue(parent: LatentRecord | None = None, **changes: Any) -> GenerationJob:
        request = take_request(parent, **changes)
        return GenerationJob.objects.all().submit(request, owner=alice, request_id=str(uuid4()))

    return queue


@pytest.fixture
def queued(queue: Callable[..., GenerationJob]) -> GenerationJob:
    return queue()


@pytest.fixture
def running(queue: Callable[..., GenerationJob]) -> GenerationJob:
    job = claim(queue())
    job.report(phase="denoise", step=2, eta_seconds=20.0)
    job.refresh_from_db()
    return job


@pytest.fixture
def failed(queue: Callable[..., GenerationJob], take: LatentRecord) -> GenerationJob:
    """A job that stored its latents and could not decode them."""
    job = claim(queue())
    job.remember_latents(take, None)
    job.fail("Out of memory: ask for fewer takes at once.")
    job.refresh_from_db()
    return job


@pytest.fixture
def finish(
    queue: Callable[..., GenerationJob], store_take: Callable[..., LatentRecord]
) -> Callable[..., GenerationJob]:
    """Return a function that makes a finished job of one second, with as many samples as asked for."""

    def finish(batch_size: int = 1, parent: LatentRecord | None = None, **changes: Any) -> GenerationJob:
        job = claim(queue(parent, batch_size=batch_size, **changes))
        record = store_take(batch_size=batch_size, frames=25, params=job.params, caption=job.params["caption"])
        job.remember_latents(record, None)
        samples = [make_sample(job, record, index) for index in range(batch_size)]
        job.finish(samples, {"load": 1.0, "denoise": 2.0, "store": 0.0, "decode": 0.5})
        job.refresh_from_db()
        return job

    return finish


@pytest.fixture
def finished(finish: Callable[..., GenerationJob]) -> GenerationJob:
    return finish(batch_size=2)


@pytest.fixture
def sample(finished: GenerationJob) -> Sample:
    """The second of two samples."""
    return finished.samples.get(index=1)


def claim(job: GenerationJob) -> GenerationJob:
    claimed = GenerationJob.objects.filter(pk=job.pk).claim("", None)
    assert claimed
    return claimed


def make_sample(job: GenerationJob, record: LatentRecord, index: int) -> Sample:
    """Write a sound to the storage and return its row, not saved."""
    sound = np.random.default_rng(index).uniform(-0.5, 0.5, (SAMPLE_RATE, 2)).astype(np.float32)
    flac = audio.encode(sound, SAMPLE_RATE, "flac")
    sample = Sample(
        job=job,
        index=index,
        seed=job.params["seed"] + index,
        latent=record,
        latent_index=index,
        sha256=sha256(flac).hexdigest(),
        size_bytes=len(flac),
        sample_rate=SAMPLE_RATE,
        duration_s=1.0,
        loudness_lufs=-14.0,
        peaks=audio.peaks(sound),
    )
    sample.audio_file = storages["audio"].save(audio_name(sample, "flac"), ContentFile(flac))
    return sample
