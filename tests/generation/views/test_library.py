"""The library of latents and the page of one record."""

import re
from collections.abc import Callable
from datetime import timedelta
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import DjangoAssertNumQueries

from generation.models import GenerationJob, Sample
from generation.views import library
from latents.models import LatentRecord
from latents.portable import import_file
from latents.store import Parentage
from tests.generation.views.conftest import HTMX, JSON, text


def shown(client: Client, **query: str) -> list[str]:
    return [record["caption"] for record in client.get("/latents/", query, headers=JSON).json()["latents"]]


@pytest.fixture
def shelf(store_take: Callable[..., LatentRecord]) -> None:
    """Four records, the newest last; one of each kind that can be looked for."""
    store_take(caption="warm lofi piano")
    pinned = store_take(caption="cold techno", model_variant="tiny-turbo")
    pinned.pin()
    store_take(caption="calm piano sketch", checkpoint_step=2)
    expiring = store_take(caption="short lived")
    LatentRecord.objects.filter(pk=expiring.pk).update(expires_at=timezone.now() + timedelta(hours=1))


FILTERS = [
    # (query, captions that are shown, newest first)
    ({}, ["short lived", "calm piano sketch", "cold techno", "warm lofi piano"]),
    ({"q": "piano"}, ["calm piano sketch", "warm lofi piano"]),
    ({"q": "piano WARM"}, ["warm lofi piano"]),
    ({"variant": "tiny-turbo"}, ["cold techno"]),
    ({"kind": "checkpoint"}, ["calm piano sketch"]),
    ({"kind": "nonsense"}, ["short lived", "calm piano sketch", "cold techno", "warm lofi piano"]),
    ({"pinned": "on"}, ["cold techno"]),
    ({"expiring": "on"}, ["short lived"]),
    ({"q": "nothing like this"}, []),
]


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize(("query", "captions"), FILTERS)
def test_library_shows_what_was_looked_for(client: Client, query: dict[str, str], captions: list[str]) -> None:
    assert shown(client, **query) == captions
    page = text(client.get("/latents/", query))
    assert [caption for caption in FILTERS[0][1] if f"<strong>{caption}</strong>" in page] == captions


@pytest.mark.usefixtures("shelf")
def test_library_answers_htmx_with_the_records_alone(client: Client) -> None:
    fragment = text(client.get("/latents/", {"q": "techno"}, headers=HTMX))
    assert fragment.strip().startswith('<div id="records">')


def test_empty_library_says_how_to_fill_it(client: Client) -> None:
    assert "No latents yet" in text(client.get("/latents/"))
    assert "Nothing matches" in text(client.get("/latents/", {"q": "x"}))


def test_pages_stay_where_they_are_when_something_is_added(
    client: Client, store_take: Callable[..., LatentRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "PAGE_SIZE", 2)
    for number in range(3):
        store_take(caption=f"take {number}")
    first = text(client.get("/latents/", {"q": "take"}))
    following = re.search(r'href="(\?[^"]*before=[^"]+)"', first)
    assert following
    store_take(caption="take 3")
    second = text(client.get(f"/latents/{following[1]}".replace("&amp;", "&")))
    assert "<strong>take 0</strong>" in second
    assert "<strong>take 1</strong>" not in second
    assert "before=" not in second


def test_library_needs_few_queries(
    client: Client, finish: Callable[..., GenerationJob], django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(3):
        finish(batch_size=2)
    with django_assert_num_queries(5):  # session, user, records, their samples, the variants to choose from
        client.get("/latents/")


def test_record_says_in_words_what_it_is(client: Client, finished: GenerationJob) -> None:
    page = text(client.get(f"/latents/{finished.latent_id}/"))
    for words in ("warm lofi piano", "25 frames at 25 per second", "8 channels, float32", "7, 8", "4 steps, shift 1"):
        assert words in page
    assert f"/latents/{finished.latent_id}/heatmap.png" in page
    assert page.count("<audio controls") == 2


def test_record_leads_into_the_studio_with_its_parameters(client: Client, finished: GenerationJob) -> None:
    page = text(client.get(f"/latents/{finished.latent_id}/"))
    links = [link.replace("&amp;", "&") for link in re.findall(r'class="button primary" href="([^"]+)"', page)]
    assert len(links) == 2
    studio = text(client.get(links[1]))
    assert f'name="init_latent_id" value="{finished.latent_id}"' in studio
    assert 'name="resume_sample_index" value="1"' in studio
    assert "warm lofi piano" in studio


def test_record_shows_parents_and_children(client: Client, store_take: Callable[..., LatentRecord]) -> None:
    def resume(parent: LatentRecord, caption: str) -> LatentRecord:
        return store_take(
            caption=caption,
            parent=Parentage(id=parent.pk, sample_index=0, level=0.45, digest=parent.item_digests[0]),
        )

    grandparent = store_take(caption="the first")
    parent = resume(grandparent, "the second")
    child = resume(parent, "the third")
    page = text(client.get(f"/latents/{parent.pk}/"))
    assert re.search(rf'href="/latents/{grandparent.pk}/".*the first', page)
    assert "this one, resumed at 0.45" in page
    assert re.search(rf'href="/latents/{child.pk}/".*the third.*at 0\.45', page)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"deleted_at": timezone.now()}, "This latent is deleted."),
        ({"expires_at": timezone.now()}, "This latent has expired"),
        ({"damage": "item 0 differs"}, "This latent is damaged: item 0 differs"),
    ],
)
def test_record_that_cannot_be_resumed_says_why(
    client: Client, take: LatentRecord, change: dict[str, Any], words: str
) -> None:
    LatentRecord.objects.filter(pk=take.pk).update(**change)
    page = text(client.get(f"/latents/{take.pk}/"))
    assert words in page
    assert "Resume from" not in page


def test_checkpoint_says_that_it_has_no_sound(client: Client, checkpoint: LatentRecord) -> None:
    page = text(client.get(f"/latents/{checkpoint.pk}/"))
    assert "before step 3, at level 0.50" in page
    assert "A checkpoint is unfinished music" in page


def test_record_as_json_tells_everything(client: Client, take: LatentRecord) -> None:
    found = client.get(f"/latents/{take.pk}/", headers=JSON).json()
    assert (found["id"], found["state"], found["batch_size"], found["frames"]) == (str(take.pk), "live", 2, 50)
    assert found["schedule"]["steps"] == 4


def test_record_of_an_unknown_model_can_be_looked_at_and_taken_up(client: Client, alice: User) -> None:
    file = BytesIO()
    np.save(file, np.ones((50, 64), "<f4"))
    record = import_file(file, alice)
    page = text(client.get(f"/latents/{record.pk}/"))
    assert "unknown" in page
    (link,) = re.findall(r'class="button primary" href="([^"]+)"', page)
    assert "unknown" not in link
    assert client.get(link.replace("&amp;", "&")).status_code == 200
    assert "Untitled" in text(client.get("/latents/"))


def test_deleted_sample_is_not_played_on_the_shelf(client: Client, finished: GenerationJob) -> None:
    for sample in Sample.objects.filter(job=finished):
        sample.delete_softly()
    assert 'class="deck"' not in text(client.get("/latents/"))
