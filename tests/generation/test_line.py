"""The line of waiting jobs: people order their own, and nobody overtakes anybody."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.db.models.functions import Now

from generation import line
from generation.models import Conflict, GenerationJob, Worker
from latents.models import UNDO_WINDOW, LatentHold, LatentRecord
from tests.generation.take_requests import take_request

Status = GenerationJob.Status
Submit = Callable[..., GenerationJob]

pytestmark = pytest.mark.usefixtures("tiny_models")


@pytest.fixture
def submit(alice: User) -> Submit:
    """Return a function that queues a job for alice, or for somebody else."""
    numbers = count()

    def submit(owner: User = alice, parent: LatentRecord | None = None, **params: Any) -> GenerationJob:
        request = take_request(parent, **params)
        return GenerationJob.objects.submit(request, owner=owner, request_id=f"request {next(numbers)}")

    return submit


def claim_all(variant: str = "") -> list[GenerationJob]:
    """Return the waiting jobs in the order in which a worker takes them."""
    jobs = []
    while job := GenerationJob.objects.claim(variant, None):
        jobs.append(job)
    return jobs


class TestMove:
    def test_to_the_front_makes_it_the_next(self, submit: Submit) -> None:
        first, second, third = submit(), submit(), submit()
        line.move_to_front(third)
        assert claim_all() == [third, first, second]

    def test_to_the_back_makes_it_the_last(self, submit: Submit) -> None:
        first, second, third = submit(), submit(), submit()
        line.move_to_back(first)
        assert claim_all() == [second, third, first]

    def test_moves_nobody_else(self, submit: Submit, bob: User) -> None:
        a1, b1, a2, b2, a3 = submit(), submit(bob), submit(), submit(bob), submit()
        Worker.objects.create(host="here", pid=1)
        line.move_to_front(a3)
        assert (b1.queue_position, b2.queue_position, a3.queue_position) == (2, 4, 1)
        assert claim_all() == [a3, b1, a1, b2, a2]

    def test_turn_of_another_queue_passes_nobody_there(self, submit: Submit, bob: User) -> None:
        tiny, others, turbo = submit(), submit(bob, model_variant="tiny-turbo"), submit(model_variant="tiny-turbo")
        line.move_to_front(turbo)
        assert claim_all("tiny-turbo") == [others, turbo]
        assert claim_all() == [tiny]

    def test_running_job_of_somebody_else_keeps_its_turn_in_case_it_comes_back(self, submit: Submit, bob: User) -> None:
        tiny, others, turbo = submit(), submit(bob, model_variant="tiny-turbo"), submit(model_variant="tiny-turbo")
        running = GenerationJob.objects.claim("tiny-turbo", None)
        assert running == others
        line.move_to_front(turbo)
        running.release()
        assert claim_all() == [tiny, others, turbo]

    def test_goes_across_queues_where_nobody_else_has_anything_to_do(self, submit: Submit) -> None:
        tiny, turbo = submit(), submit(model_variant="tiny-turbo")
        line.move_to_front(turbo)
        assert claim_all() == [turbo, tiny]

    def test_keeps_the_order_of_jobs_that_came_in_the_same_moment(self, submit: Submit) -> None:
        jobs = [submit() for _ in range(5)]
        GenerationJob.objects.update(turn_at=jobs[0].turn_at)
        for job in jobs:
            line.move_to_front(job)
        assert claim_all() == jobs[::-1]

    def test_defeats_a_claim_that_has_read_the_old_order(self, submit: Submit) -> None:
        first, second = submit(), submit()
        line.move_to_front(second)
        assert not GenerationJob.objects.all()._claim(first.pk, first.fence, None)
        assert claim_all() == [second, first]

    def test_is_seen_by_those_who_poll(self, submit: Submit) -> None:
        first, second = submit(), submit()
        line.move_to_front(second)
        assert second.rev == 1
        assert GenerationJob.objects.get(pk=first.pk).rev == 1

    @pytest.mark.parametrize("move", [line.move_to_front, line.move_to_back])
    def test_is_refused_once_the_job_runs(self, submit: Submit, move: Callable[[GenerationJob], None]) -> None:
        job = submit()
        claim_all()
        with pytest.raises(Conflict, match="Only a waiting job can be moved"):
            move(job)

    def test_job_that_comes_back_from_its_worker_has_its_turn_again(self, submit: Submit) -> None:
        first, second, third = submit(), submit(), submit()
        running = GenerationJob.objects.claim("", None)
        assert running == first
        line.move_to_front(third)
        running.release()
        assert claim_all() == [first, third, second]


class TestPositions:
    def test_are_those_that_each_job_says(self, submit: Submit, bob: User) -> None:
        for n in range(6):
            submit(bob)
            submit(model_variant=("tiny", "tiny-turbo")[n % 2])
        for variant in ("tiny", ""):  # only dedicated workers, then also one for all
            Worker.objects.create(host="here", pid=1, variant=variant)
            own = list(line.waiting(User.objects.get(username="alice")))
            assert line.positions(own) == {job.pk: job.queue_position for job in own}

    def test_of_nothing_are_none(self, db: None) -> None:
        assert line.positions([]) == {}


class TestCancelWaiting:
    def test_leaves_what_runs_and_what_is_somebody_elses(
        self, submit: Submit, alice: User, bob: User, take: LatentRecord
    ) -> None:
        running, others = submit(), submit(bob)
        GenerationJob.objects.claim("", None)
        submit(parent=take)
        submit()
        assert line.cancel_waiting(alice) == 2
        assert GenerationJob.objects.unfinished().count() == 2
        assert GenerationJob.objects.get(pk=running.pk).cancel_requested is False
        assert GenerationJob.objects.get(pk=others.pk).status == Status.QUEUED
        assert not LatentHold.objects.exists()


class TestClear:
    def test_hides_what_ended_without_a_take_and_brings_it_back(self, submit: Submit, alice: User, bob: User) -> None:
        done, failed, cancelled, waiting = submit(), submit(), submit(), submit()
        other = submit(bob)
        for job in (cancelled, other):
            job.request_cancel()
        for job in (GenerationJob.objects.claim("", None), GenerationJob.objects.claim("", None)):
            assert job
            job.finish([], {}) if job == done else job.fail("no")
        assert set(line.clear_ended(alice)) == {failed.pk, cancelled.pk}
        assert set(GenerationJob.objects.visible_to(alice)) == {done, waiting}
        assert GenerationJob.objects.visible_to(bob).get() == other
        assert line.bring_back(GenerationJob.objects.get(pk=failed.pk)) == 2
        assert GenerationJob.objects.visible_to(alice).count() == 4

    def test_brings_back_only_what_went_with_it(self, submit: Submit, alice: User) -> None:
        early, late = submit(), submit()
        for job in (early, late):
            job.request_cancel()
        early.delete_softly()
        assert line.clear_ended(alice) == [late.pk]
        late.refresh_from_db()
        assert line.bring_back(late) == 1
        assert GenerationJob.objects.visible_to(alice).get() == late

    def test_is_final_after_ten_minutes(self, submit: Submit, alice: User) -> None:
        job = submit()
        job.request_cancel()
        line.clear_ended(alice)
        GenerationJob.objects.update(deleted_at=Now() - UNDO_WINDOW - timedelta(seconds=1))
        job.refresh_from_db()
        with pytest.raises(Conflict):
            line.bring_back(job)


@pytest.mark.long
def test_who_moves_jobs_while_they_are_taken_overtakes_nobody(
    transactional_db: None, submit: Submit, bob: User
) -> None:
    """Alice's and bob's jobs wait in turn; whatever alice does, none of bob's is taken later."""
    luck = random.Random(1)
    own = []
    for _ in range(12):
        own.append(submit())
        submit(bob)
    taken: list[GenerationJob] = []

    def work() -> None:
        taken.extend(claim_all())
        connections.close_all()

    worker = threading.Thread(target=work)
    worker.start()
    moves = 0
    while worker.is_alive():
        with suppress(Conflict):
            luck.choice([line.move_to_front, line.move_to_back])(luck.choice(own))
            moves += 1
    worker.join()
    assert len(taken) == 24
    when_taken = [index for index, job in enumerate(taken) if job.owner == bob]
    assert all(index <= 2 * number + 1 for number, index in enumerate(when_taken))
    assert moves
