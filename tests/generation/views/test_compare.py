"""Which two samples are compared, and what is said about them."""

from collections.abc import Callable
from uuid import UUID

import pytest
from django.test import Client

from generation.models import GenerationJob, Sample
from latents.models import LatentRecord
from tests.generation.views.conftest import text

Finish = Callable[..., GenerationJob]


def compared(client: Client, **query: object) -> list[Sample]:
    """Return the samples of the page's two sides."""
    return [sample for _, _, sample in client.get("/compare/", query).context["sides"]]


@pytest.fixture
def parent(finish: Finish) -> Sample:
    """The second of two samples, which was resumed."""
    return finish(batch_size=2, caption="slow strings").samples.get(index=1)


@pytest.fixture
def child(finish: Finish, parent: Sample) -> Sample:
    sample = finish(caption="fast strings", seed=99).samples.get()
    LatentRecord.objects.filter(pk=sample.latent_id).update(parent=parent.latent_id, parent_sample_index=1)
    return sample


def test_sample_is_compared_with_what_it_was_resumed_from(client: Client, parent: Sample, child: Sample) -> None:
    assert compared(client, b=child.pk) == [parent, child]


def test_sample_from_noise_is_compared_with_another_of_its_job(client: Client, parent: Sample, child: Sample) -> None:
    assert compared(client, b=parent.pk) == [parent.job.samples.get(index=0), parent]


def test_sample_that_is_alone_in_its_job_is_compared_with_the_latest_other(client: Client, finish: Finish) -> None:
    older, newer, alone = (finish(caption=caption).samples.get() for caption in ("older", "newer", "alone"))
    assert compared(client, b=alone.pk) == [newer, alone]
    assert compared(client, a=older.pk, b=alone.pk) == [older, alone]


def test_first_sample_of_all_is_told_what_to_do(client: Client, finish: Finish) -> None:
    only = finish().samples.get()
    page = text(client.get("/compare/", {"b": only.pk}))
    assert "There is only one take yet" in page
    assert f"/?restore={only.pk}" in page


def test_only_what_differs_is_shown(client: Client, parent: Sample, child: Sample) -> None:
    differences = {label: (a, b) for label, a, b in client.get("/compare/", {"b": child.pk}).context["differences"]}
    assert differences["Describe the music"] == ("slow strings", "fast strings")
    assert differences["Seed"] == (str(parent.seed), "99")
    assert "Shift" not in differences


def test_siblings_differ_in_their_own_seeds(client: Client, parent: Sample) -> None:
    first = parent.job.samples.get(index=0)
    differences = client.get("/compare/", {"a": first.pk, "b": parent.pk}).context["differences"]
    assert differences == [("Seed", str(first.seed), str(parent.seed))]


@pytest.mark.parametrize("query", [{}, {"b": ""}, {"b": "no id"}, {"b": str(UUID(int=4))}])
def test_what_cannot_be_compared_is_not_found(client: Client, query: dict[str, str]) -> None:
    assert client.get("/compare/", query).status_code == 404


def test_sample_cannot_be_compared_with_what_is_gone(client: Client, parent: Sample, child: Sample) -> None:
    parent.delete_softly()
    assert client.get("/compare/", {"a": parent.pk, "b": child.pk}).status_code == 404
    assert compared(client, b=child.pk) != [parent, child]
