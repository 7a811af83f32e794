"""Help with writing: words, tags, earlier prompts and seeds, all of it without JavaScript too."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from generation.models import GenerationJob, Sample
from latents.models import LatentRecord
from tests.generation.take_requests import take_request
from tests.generation.views.conftest import HTMX, JSON, text
from tests.generation.views.test_studio import field

BUTTONS = [
    # (what was typed, the button, field, what it contains then)
    ({}, ("add", "house"), "caption", "house"),
    ({"caption": "calm, "}, ("add", "house"), "caption", "calm, house"),
    ({"lyrics": "la la"}, ("tag", "[chorus]"), "lyrics", "la la [chorus]"),
    ({"caption": "calm"}, ("prompt", "loud rock"), "caption", "loud rock"),
    ({"seed": "5"}, ("draw_seed", "any"), "seed", ""),
]


@pytest.mark.parametrize(("typed", "button", "name", "value"), BUTTONS)
def test_button_puts_it_into_the_form_and_keeps_the_rest(
    client: Client, typed: dict[str, str], button: tuple[str, str], name: str, value: str
) -> None:
    answer = client.post("/", {"bpm": "82", **typed, button[0]: button[1]}, follow=True)
    page = text(answer)
    assert (field(page, name), field(page, "bpm")) == (value, "82")
    fragment = text(client.post("/", {"bpm": "82", **typed, button[0]: button[1]}, headers=HTMX))
    assert field(fragment, name) == value
    assert not GenerationJob.objects.exists()


def test_seed_is_drawn_once_and_stays(client: Client) -> None:
    url = client.post("/", {"caption": "x", "draw_seed": "new"})["Location"]
    seed = field(text(client.get(url)), "seed")
    assert 0 <= int(seed) < 2**32
    assert field(text(client.get(url)), "seed") == seed


def test_last_seed_is_that_of_ones_own_newest_job(
    client: Client, bob: User, queue: Callable[..., GenerationJob]
) -> None:
    queue(seed=40)
    queue(seed=41)
    GenerationJob.objects.submit(take_request(seed=99), owner=bob, request_id="1")
    assert field(text(client.post("/", {"draw_seed": "last"}, follow=True)), "seed") == "41"


def test_last_seed_without_a_job_is_none(client: Client) -> None:
    assert field(text(client.post("/", {"draw_seed": "last"}, follow=True)), "seed") == ""


def test_earlier_prompts_are_ones_own_newest_first_and_once(
    client: Client, stranger: Client, queue: Callable[..., GenerationJob]
) -> None:
    for caption in ("calm", "loud", "calm"):
        queue(caption=caption)
    assert client.get("/prompts/", headers=JSON).json() == {"prompts": ["calm", "loud"]}
    assert stranger.get("/prompts/", headers=JSON).json() == {"prompts": []}
    assert '<a href="/?caption=calm">' in text(client.get("/prompts/"))
    assert 'name="prompt" value="calm"' in text(client.get("/prompts/", headers=HTMX))


def test_words_are_those_that_the_chosen_model_knows(client: Client, settings: Settings) -> None:
    settings.REPRISE_MODELS |= {"sketch": "bundled"}
    page = text(client.get("/", {"model_variant": "sketch"}))
    assert "Words that sketch knows" in page
    for word in ("lofi", "synthwave", "walking bass", "no drums"):
        assert f'name="add" value="{word}"' in page
    assert 'name="add"' not in text(client.get("/", {"model_variant": "tiny"}))


@pytest.mark.parametrize(("lyrics", "said"), [("", ""), ("[verse]\none\n\ntwo", "2 lines"), ("one", "1 line")])
def test_lines_of_lyrics_are_counted_without_tags(client: Client, lyrics: str, said: str) -> None:
    assert f'for="id_lyrics">{said}</output>' in text(client.get("/", {"lyrics": lyrics}))


# Restoring a part


def test_prompt_alone_leaves_the_other_fields_as_typed(client: Client, sample: Sample) -> None:
    typed = {"restore": sample.pk, "part": "prompt", "caption": "typed", "bpm": "99", "seed": "3"}
    answer = client.get("/", typed, headers=HTMX)
    page = text(answer)
    assert [field(page, name) for name in ("caption", "bpm", "seed")] == ["warm lofi piano", "99", "3"]
    assert "Prompt restored from Sample 2" in page
    assert "bpm=99" in answer["HX-Push-Url"]
    assert "restore" not in answer["HX-Push-Url"]


def test_seed_alone_leaves_the_other_fields_as_typed(client: Client, sample: Sample) -> None:
    page = text(client.get("/", {"restore": sample.pk, "part": "seed", "caption": "typed"}))
    assert [field(page, name) for name in ("caption", "seed")] == ["typed", "8"]
    assert 'id="resume"' not in page


def test_all_but_the_seed_brings_the_latent_too(client: Client, sample: Sample) -> None:
    page = text(client.get("/", {"restore": sample.pk, "part": "without-seed"}))
    assert [field(page, name) for name in ("caption", "seed")] == ["warm lofi piano", ""]
    assert field(page, "init_latent_id") == str(sample.latent_id)
    assert "(with latent), without its seed" in page


def test_unknown_part_is_not_found(client: Client, sample: Sample) -> None:
    assert client.get("/", {"restore": sample.pk, "part": "bass"}).status_code == 404


# Another take


def test_another_take_has_the_next_seed_and_all_else_the_same(client: Client, finished: GenerationJob) -> None:
    answer = client.post(f"/generation/jobs/{finished.pk}/another", headers=JSON)
    again = GenerationJob.objects.get(pk=answer.json()["job_id"])
    assert again.params == finished.params | {"seed": 9}, "two takes have had the seeds 7 and 8"
    assert again.retry_of is None


def test_each_click_is_a_take_of_its_own(client: Client, finish: Callable[..., GenerationJob]) -> None:
    first = finish(seed=7)
    other = finish(seed=50, caption="something else")
    for _ in range(3):
        client.post(f"/generation/jobs/{first.pk}/another")
    child = GenerationJob.objects.get(params__seed=9)
    client.post(f"/generation/jobs/{child.pk}/another")
    seeds = GenerationJob.objects.exclude(pk=other.pk).order_by("created_at")
    assert [job.params["seed"] for job in seeds] == [7, 8, 9, 10, 11]


def test_another_take_of_a_resumed_one_is_resumed_from_the_same(
    client: Client, finish: Callable[..., GenerationJob], take: LatentRecord
) -> None:
    resumed = finish(parent=take, duration=2.0)
    client.post(f"/generation/jobs/{resumed.pk}/another")
    again = GenerationJob.objects.queued().get()
    assert (again.source_record, again.t_start_requested) == (take, 0.5)


def test_another_take_without_its_latent_is_refused_in_words(
    client: Client, finish: Callable[..., GenerationJob], take: LatentRecord
) -> None:
    resumed = finish(parent=take, duration=2.0)
    take.delete_softly()
    answer = client.post(f"/generation/jobs/{resumed.pk}/another", headers=JSON)
    assert (answer.status_code, answer.json()["error"]) == (404, f"Latent '{take.pk}' not found or expired")
