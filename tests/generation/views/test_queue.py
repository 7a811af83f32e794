"""The queue page: what is in it, in which order, and what its buttons do."""

import re
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django.fixtures import DjangoAssertNumQueries

from generation.models import GenerationJob, Worker
from tests.generation.take_requests import take_request
from tests.generation.views.conftest import HTMX, JSON, text

Queue = Callable[..., GenerationJob]


def waiting(client: Client) -> list[tuple[str, int]]:
    found = client.get("/queue/", headers=JSON).json()["waiting"]
    return [(job["caption"], job["queue_position"]) for job in found]


@pytest.fixture
def others(bob: User) -> GenerationJob:
    """Bob's job, which waits before all that alice queues after it."""
    return GenerationJob.objects.submit(take_request(caption="a secret"), owner=bob, request_id="1")


def test_empty_queue_says_what_it_is_for(client: Client) -> None:
    assert "Nothing waits" in text(client.get("/queue/"))


def test_page_shows_what_runs_waits_and_failed(
    client: Client, running: GenerationJob, failed: GenerationJob, finished: GenerationJob, queued: GenerationJob
) -> None:
    page = text(client.get("/queue/"))
    assert "Step 2 of 4, about 20 s left" in page
    assert "Out of memory: ask for fewer takes at once." in page
    assert str(queued.pk) in page
    assert str(finished.pk) not in page


def test_place_is_that_in_the_whole_line_and_others_are_not_shown(
    client: Client, others: GenerationJob, queue: Queue
) -> None:
    Worker.objects.create(host="here", pid=1)
    queue(caption="first")
    queue(caption="second")
    assert waiting(client) == [("first", 2), ("second", 3)]
    assert "a secret" not in text(client.get("/queue/"))


@pytest.mark.parametrize(("action", "order"), [("front", ["b", "a", "c"]), ("back", ["a", "c", "b"])])
def test_job_is_moved_from_page_fragment_and_program(
    client: Client, queue: Queue, action: str, order: list[str]
) -> None:
    for headers in ({}, HTMX, JSON):
        for job in (queue(caption="a"), middle := queue(caption="b"), queue(caption="c")):
            assert job.status == "queued"
        answer = client.post(f"/queue/{middle.pk}/{action}", headers=headers)
        assert answer.status_code == (200 if headers else 303)
        assert [caption for caption, _ in waiting(client)] == order
        client.post("/queue/cancel-waiting")


def test_job_of_somebody_else_is_neither_moved_nor_overtaken(
    client: Client, others: GenerationJob, queue: Queue
) -> None:
    queue(caption="mine")
    last = queue(caption="mine too")
    assert client.post(f"/queue/{others.pk}/back").status_code == 404
    client.post(f"/queue/{last.pk}/front")
    claimed = [GenerationJob.objects.claim("", None) for _ in range(3)]
    assert [job.params["caption"] for job in claimed if job] == ["a secret", "mine too", "mine"]


def test_job_that_runs_meanwhile_is_refused_in_words(client: Client, running: GenerationJob) -> None:
    answer = client.post(f"/queue/{running.pk}/front", headers=HTMX)
    assert (answer.status_code, answer["HX-Reswap"]) == (409, "none")
    assert "Only a waiting job can be moved." in text(answer)


def test_cancel_all_waiting_leaves_the_running_one(
    client: Client, running: GenerationJob, queue: Queue, others: GenerationJob
) -> None:
    queue()
    queue()
    answer = client.post("/queue/cancel-waiting", headers=HTMX)
    assert "2 jobs cancelled" in text(answer)
    assert set(GenerationJob.objects.unfinished()) == {running, others}


def test_retry_puts_it_into_the_line_again(client: Client, failed: GenerationJob) -> None:
    client.post(f"/queue/{failed.pk}/retry")
    assert GenerationJob.objects.queued().get().retry_of == failed


def test_what_was_cleared_comes_back_with_one_click(client: Client, queue: Queue, finished: GenerationJob) -> None:
    queue()
    queue()
    client.post("/queue/cancel-waiting")
    page = text(client.post("/queue/clear", follow=True))
    assert "2 jobs cleared" in page
    assert "Nothing waits" in page
    assert client.get(f"/generation/jobs/{finished.pk}/").status_code == 200, "a take is never cleared"
    undo = re.search(r'formaction="(/queue/[^"]+/unclear)"', page)
    assert undo
    assert client.post(undo[1], headers=HTMX).status_code == 200
    assert len(client.get("/queue/", headers=JSON).json()["ended"]) == 2


def test_poll_is_answered_once_something_has_changed(client: Client, queue: Queue) -> None:
    first = queue()
    seen = client.get("/queue/").context["seen"]
    assert client.get("/queue/", {"seen": seen}, headers=HTMX).status_code == 204
    assert client.get("/queue/", {"seen": seen}).status_code == 200, "a page is never empty"
    first.request_cancel()
    assert client.get("/queue/", {"seen": seen}, headers=HTMX).status_code == 200


def test_page_needs_as_many_queries_for_ten_jobs_as_for_one(
    client: Client, queue: Queue, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(10):
        queue()
    with django_assert_max_num_queries(8):
        client.get("/queue/")


def test_long_queue_says_how_much_more_there_is(client: Client, queue: Queue) -> None:
    for _ in range(52):
        queue()
    assert "and 2 more behind them" in text(client.get("/queue/"))
