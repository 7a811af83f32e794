"""How many queries each page takes, whatever it shows: the numbers are pinned, so that none grows unnoticed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from pytest_django.fixtures import DjangoAssertNumQueries

from generation.models import GenerationJob
from latents.models import LatentRecord
from latents.store import Parentage
from tests.generation.views.conftest import JSON

LOOKS_FIRST = connection.vendor == "postgresql"  # how many matches a search has
# Every page asks for the session and the user.
LISTS = [
    ("/latents/", 5),  # the records, their samples, the variants to choose from
    ("/latents/?q=lofi", 5 + LOOKS_FIRST),
    ("/latents/?q=!!!", 3),  # nothing is looked for
    ("/latents/?variant=tiny&kind=take", 5),
    ("/latents/?kind=checkpoint", 4),  # nothing found, so no samples
    ("/latents/?pinned=on", 4),
    ("/latents/?expiring=on", 4),
    ("/latents/?before={record}", 6),  # the record that the page follows
    ("/latents/?q=lofi&before={record}", 6 + LOOKS_FIRST),
    ("/latents/{record}/", 8),  # its samples with their jobs, its ancestors and descendants by id and as rows
    ("/admin/latents/latentrecord/", 5),  # the totals, how many, the records
    ("/admin/latents/latentrecord/?q=lofi", 6 + LOOKS_FIRST),  # users of such a name
    ("/admin/latents/latentrecord/?state=deleted", 5),
]


@pytest.fixture
def client(alice: User) -> Client:
    alice.is_staff = alice.is_superuser = True
    alice.save()
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture
def record(finish: Callable[..., GenerationJob], store_take: Callable[..., LatentRecord]) -> LatentRecord:
    """A record with sound, in the middle of a line and of the library."""

    def follow(parent: LatentRecord) -> Parentage:
        return Parentage(id=parent.pk, sample_index=0, level=0.5, digest=parent.item_digests[0])

    first = store_take()
    job = finish(batch_size=2)
    assert job.latent
    LatentRecord.objects.filter(pk=job.latent.pk).update(parent=first, parent_sample_index=0, parent_level=0.5)
    for _ in range(5):
        store_take(parent=follow(job.latent))
    finish()
    return job.latent


@pytest.mark.parametrize(("path", "queries"), LISTS)
def test_page_takes_so_many_queries(
    client: Client, record: LatentRecord, path: str, queries: int, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(queries):
        assert client.get(path.format(record=record.pk)).status_code == 200


def test_list_as_json_takes_no_query_per_record(
    client: Client, record: LatentRecord, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(4):
        assert len(client.get("/latents/", headers=JSON).json()["latents"]) == 8
