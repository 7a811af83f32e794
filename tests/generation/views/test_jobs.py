"""One job as page, card and JSON, and what its owner may do to it."""

from collections.abc import Callable
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import DjangoAssertNumQueries

from generation.models import GenerationJob, Worker
from latents.models import UNDO_WINDOW
from tests.generation.views.conftest import HTMX, JSON, claim, text


def url(job: GenerationJob, action: str = "") -> str:
    return f"/generation/jobs/{job.pk}/{action}"


def test_job_as_json_tells_everything(client: Client, finished: GenerationJob) -> None:
    found = client.get(url(finished), headers=JSON).json()
    first, second = finished.samples.all()
    assert found == {
        "id": str(finished.pk),
        "url": url(finished),
        "rev": finished.rev,
        "status": "succeeded",
        "phase": finished.phase,
        "step": 4,
        "steps": 4,
        "eta_seconds": None,
        "queue_position": None,
        "error": "",
        "samples": [
            {
                "id": str(sample.pk),
                "index": sample.index,
                "seed": 7 + sample.index,
                "duration": 1.0,
                "audio_url": f"/generation/samples/{sample.pk}/audio",
                "latent_id": str(finished.latent_id),
            }
            for sample in (first, second)
        ],
        "latent_id": str(finished.latent_id),
        "checkpoint_latent_id": None,
    }


def test_waiting_job_says_its_place_in_the_line(client: Client, queue: Callable[..., GenerationJob]) -> None:
    Worker.objects.create(host="here", pid=1)
    first, second = queue(), queue()
    assert client.get(url(second), headers=JSON).json()["queue_position"] == 2
    assert "Next in line" in text(client.get(url(first), headers=HTMX))
    assert "Number 2 in line" in text(client.get(url(second), headers=HTMX))


def test_waiting_job_says_that_nobody_works(client: Client, queued: GenerationJob) -> None:
    assert "but no worker is running" in text(client.get(url(queued), headers=HTMX))


def test_running_card_says_step_and_time_left(client: Client, running: GenerationJob) -> None:
    card = text(client.get(url(running), headers=HTMX))
    assert "Step 2 of 4" in card
    assert "about 20 s left" in card
    assert '<progress aria-label="Generation progress" max="4" value="2">' in card
    assert 'hx-trigger="every 1s"' in card


def test_failed_card_says_why_and_what_helps(client: Client, failed: GenerationJob) -> None:
    card = text(client.get(url(failed), headers=HTMX))
    assert "Out of memory: ask for fewer takes at once." in card
    assert "Retry decode" in card
    assert "hx-trigger" not in card


@pytest.mark.parametrize("headers", [HTMX, JSON])
def test_poll_that_has_seen_all_gets_nothing(client: Client, running: GenerationJob, headers: dict[str, str]) -> None:
    seen = client.get(url(running), {"rev": running.rev}, headers=headers)
    assert (seen.status_code, seen.content) == (204, b"")
    assert client.get(url(running), {"rev": running.rev - 1}, headers=headers).status_code == 200


def test_poll_hears_that_the_line_has_moved(client: Client, queue: Callable[..., GenerationJob]) -> None:
    Worker.objects.create(host="here", pid=1)
    first, second = queue(), queue()
    poll = {"rev": second.rev, "position": 2}
    assert client.get(url(second), poll, headers=HTMX).status_code == 204
    first.request_cancel()
    assert "Next in line" in text(client.get(url(second), poll, headers=HTMX))


def test_page_is_never_answered_with_nothing(client: Client, running: GenerationJob) -> None:
    assert client.get(url(running), {"rev": running.rev}).status_code == 200


def test_poll_needs_one_query_beside_those_of_the_login(
    client: Client, running: GenerationJob, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(3):  # session, user, job
        client.get(url(running), {"rev": running.rev}, headers=HTMX)


def test_poll_for_a_vanished_job_ends(client: Client) -> None:
    response = client.get(f"/generation/jobs/{uuid4()}/", {"rev": 1}, headers=HTMX)
    assert response.status_code == 404
    assert "This job no longer exists." in text(response)
    assert "hx-trigger" not in text(response)


def test_finished_card_is_announced_once_it_was_polled(client: Client, finished: GenerationJob) -> None:
    assert 'hx-swap-oob="innerHTML:#announcer"' in text(client.get(url(finished), {"rev": 1}, headers=HTMX))
    assert "hx-swap-oob" not in text(client.get(url(finished)))


def test_page_without_javascript_reloads_itself_while_it_has_to(
    client: Client, running: GenerationJob, finished: GenerationJob
) -> None:
    refresh = '<noscript><meta http-equiv="refresh" content="3"></noscript>'
    assert refresh in text(client.get(url(running)))
    assert refresh not in text(client.get(url(finished)))


ACTIONS = [
    # (action, state it is done in, status afterwards of the job or of the new one)
    ("cancel", "queued", "cancelled"),
    ("retry", "failed", "queued"),
    ("retry-decode", "failed", "queued"),
]


@pytest.mark.parametrize(("action", "state", "status"), ACTIONS)
def test_action_answers_page_fragment_and_program(
    client: Client, request: pytest.FixtureRequest, action: str, state: str, status: str
) -> None:
    job: GenerationJob = request.getfixturevalue(state)
    answers = [client.post(url(job, action), headers=headers) for headers in ({}, HTMX, JSON)]
    assert answers[0].status_code == 303
    if action == "cancel":  # the second and third come too late
        assert [answer.status_code for answer in answers[1:]] == [409, 409]
    else:  # a double click is one job
        assert [answer.status_code for answer in answers[1:]] == [200, 200]
        assert answers[2].json()["url"] == answers[0]["Location"]
    changed = GenerationJob.objects.get(pk=answers[0]["Location"].split("/")[3])
    assert changed.status == status


def test_action_that_comes_too_late_is_refused_in_words(client: Client, finished: GenerationJob) -> None:
    program = client.post(url(finished, "cancel"), headers=JSON)
    assert (program.status_code, program.json()) == (409, {"error": "This job has already succeeded."})
    fragment = client.post(url(finished, "retry"), headers=HTMX)
    assert (fragment.status_code, fragment["HX-Reswap"]) == (409, "none")
    assert "Only a failed or cancelled job can be retried." in text(fragment)
    assert "Only a failed or cancelled job can be retried." in text(client.post(url(finished, "retry")))


def test_cancelling_a_running_job_says_that_it_stops(client: Client, running: GenerationJob) -> None:
    assert "Stopping…" in text(client.post(url(running, "cancel"), headers=HTMX))


def test_deleted_job_can_be_brought_back(client: Client, finished: GenerationJob) -> None:
    answer = client.post(url(finished, "delete"), headers=HTMX)
    assert f'hx-post="{url(finished, "undelete")}"' in text(answer)
    assert "Job deleted" in text(answer)
    assert client.get(url(finished)).status_code == 404
    assert "Job deleted:" in text(client.get("/"))  # a reload does not take the undo away
    assert f'id="job-{finished.pk}"' in text(client.post(url(finished, "undelete"), headers=HTMX))
    assert client.get(url(finished)).status_code == 200


def test_job_deleted_long_ago_is_gone(client: Client, finished: GenerationJob) -> None:
    GenerationJob.objects.filter(pk=finished.pk).update(deleted_at=timezone.now() - UNDO_WINDOW)
    assert str(finished.pk) not in text(client.get("/"))
    assert client.post(url(finished, "undelete")).status_code == 404


def test_job_that_runs_cannot_be_deleted(client: Client, running: GenerationJob) -> None:
    assert client.post(url(running, "delete"), headers=JSON).status_code == 409


def test_without_javascript_a_deletion_can_be_undone_too(client: Client, finished: GenerationJob) -> None:
    page = text(client.post(url(finished, "delete"), follow=True))
    assert "Job deleted" in page
    assert f'action="{url(finished, "undelete")}"' in page


def test_resumed_card_leads_to_what_it_was_resumed_from(
    client: Client, finish: Callable[..., GenerationJob], finished: GenerationJob
) -> None:
    assert finished.latent
    child = finish(parent=finished.latent)
    card = text(client.get(url(child), headers=HTMX))
    assert f'from <a href="/latents/{finished.latent_id}/">' in card
    assert "at 0.50" in card
    assert "2 of 4 steps" in card


def test_samples_of_one_job_take_one_query(
    client: Client,
    finish: Callable[..., GenerationJob],
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    job = finish(batch_size=4)
    with django_assert_num_queries(5):  # session, user, job, job again with samples
        client.get(url(job), headers=HTMX)


def test_claimed_job_is_no_longer_in_the_line(client: Client, queued: GenerationJob) -> None:
    claim(queued)
    assert client.get(url(queued), headers=JSON).json()["queue_position"] is None
