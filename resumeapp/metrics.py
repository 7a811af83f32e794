"""What Prometheus reads: how much waits, how long things take, what is stored, what was refused.

Jobs are worked on by other processes on other machines, so what is said of them is counted in the database when it is
asked for; every web process says the same. Rows may be deleted, so these are numbers of the last hour and not counters,
which must never fall. Only refusals are counted in this process, since it is the one that refuses.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, cast

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import Aggregate, Case, Count, F, Min, Q, QuerySet, Sum, When
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from generation.models import GenerationJob, Sample, Worker
from generation.views.answers import states_refusals
from latents.models import LatentRecord

GetResponse = Callable[[HttpRequest], HttpResponseBase]

WINDOW = timedelta(hours=1)
QUANTILES = (0.5, 0.95, 0.99)

registry = CollectorRegistry()
_refusals = Counter(
    "reprise_refusals", "Requests answered with an error by this process", ["status", "view"], registry=registry
)


@require_safe
@never_cache
@states_refusals
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer in Prometheus' text format, to staff: it tells how much everybody works."""
    if not cast(User, request.user).is_staff:
        raise PermissionDenied("Only staff may see the metrics.")
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def count_refusals(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Be the middleware that counts what is refused, by status and by the view that refused it."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            # The name of the view and never the path: whoever guesses paths would make a series of each.
            view = request.resolver_match.view_name if request.resolver_match else ""
            _refusals.labels(response.status_code, view).inc()
        return response

    return middleware


class StudioCollector(Collector):
    """What the database knows."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        now = timezone.now()
        yield from _queue(now)
        yield from _workers()
        yield from _finished_jobs(now)
        yield from _store(now)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Promise nothing: the registry would otherwise ask the database when it is made."""
        return []


registry.register(StudioCollector())


def _queue(now: datetime) -> Iterator[GaugeMetricFamily]:
    queued, running = GenerationJob.objects.queued(), GenerationJob.objects.running()
    yield _by_variant("reprise_jobs_queued", "Jobs that wait for a worker", queued, Count("id"))
    yield _by_variant("reprise_jobs_running", "Jobs that a worker is on", running, Count("id"))
    oldest = _gauge("reprise_queue_age_seconds", "How long the oldest job has waited", "variant")
    for variant, since in _values(queued, Min("created_at")):
        oldest.add_metric([variant], max((now - since).total_seconds(), 0.0))
    yield oldest


def _workers() -> Iterator[GaugeMetricFamily]:
    workers = _gauge("reprise_workers", "Workers that have lately sent a sign of life", "variant", "state")
    for row in Worker.objects.live().order_by().values("variant", "state").annotate(workers=Count("id")):
        workers.add_metric([row["variant"], row["state"]], row["workers"])
    yield workers


def _finished_jobs(now: datetime) -> Iterator[GaugeMetricFamily]:
    jobs = GenerationJob.objects.filter(finished_at__gt=now - WINDOW)
    ended = _gauge("reprise_jobs_finished_last_hour", "Jobs that have ended", "variant", "status")
    for row in jobs.order_by().values("model_variant", "status").annotate(jobs=Count("id")):
        ended.add_metric([row["model_variant"], row["status"]], row["jobs"])
    yield ended
    succeeded = jobs.filter(status=GenerationJob.Status.SUCCEEDED)
    yield _by_variant(
        "reprise_model_calls_last_hour", "Model calls of jobs that succeeded", succeeded, Sum("model_calls")
    )
    yield _lease_expiries(now)
    yield _durations(succeeded)


def _lease_expiries(now: datetime) -> GaugeMetricFamily:
    """Count attempts that were taken from workers gone quiet, among jobs that have not ended or did so lately.

    A job that is put back in order gets its attempt back, so whatever is left of them was lost that way. The attempt
    that a job is in, or has ended in, does not count.
    """
    lost = F("attempts") - Case(When(status=GenerationJob.Status.QUEUED, then=0), default=1)
    lately = GenerationJob.objects.filter(Q(finished_at=None) | Q(finished_at__gt=now - WINDOW), attempts__gt=0)
    return _by_variant(
        "reprise_lease_expiries_last_hour", "Attempts lost with the worker that was on them", lately, Sum(lost)
    )


def _durations(succeeded: QuerySet[GenerationJob]) -> GaugeMetricFamily:
    seconds = _gauge(
        "reprise_job_seconds_last_hour", "From the start of the last attempt to the end", "variant", "quantile"
    )
    durations: dict[str, list[float]] = defaultdict(list)
    took = succeeded.annotate(took=F("finished_at") - F("started_at"))
    for variant, duration in took.values_list("model_variant", "took"):
        durations[variant].append(duration.total_seconds())
    for variant, values in durations.items():
        for quantile in QUANTILES:
            seconds.add_metric([variant, str(quantile)], _quantile(sorted(values), quantile))
    return seconds


def _store(now: datetime) -> Iterator[GaugeMetricFamily]:
    stored_bytes = _gauge("reprise_latents_bytes", "What stored latents take", "variant")
    records = _gauge("reprise_latents", "Stored latents", "variant")
    for total in LatentRecord.objects.totals_by_variant():
        stored_bytes.add_metric([total.model_variant], total.bytes)
        records.add_metric([total.model_variant], total.records)
    yield from (stored_bytes, records)
    sound = Sample.objects.filter(purged_at=None).aggregate(bytes=Sum("size_bytes"), samples=Count("id"))
    yield _total("reprise_sound_bytes", "What stored sound takes, without what is encoded on demand", sound["bytes"])
    yield _total("reprise_samples", "Samples whose sound is stored", sound["samples"])
    pruned = LatentRecord.objects.filter(purged_at__gt=now - WINDOW).aggregate(
        bytes=Sum("size_bytes"), records=Count("id")
    )
    yield _total("reprise_latents_pruned_last_hour", "Latents whose bytes were taken", pruned["records"])
    yield _total("reprise_latents_pruned_bytes_last_hour", "Bytes that were taken", pruned["bytes"])
    silenced = Sample.objects.filter(purged_at__gt=now - WINDOW).count()
    yield _total("reprise_samples_pruned_last_hour", "Samples whose sound was removed", silenced)


def _total(name: str, meaning: str, number: int | None) -> GaugeMetricFamily:
    gauge = _gauge(name, meaning)
    gauge.add_metric([], number or 0)
    return gauge


def _by_variant(name: str, meaning: str, jobs: QuerySet[GenerationJob], value: Aggregate) -> GaugeMetricFamily:
    gauge = _gauge(name, meaning, "variant")
    for variant, number in _values(jobs, value):
        gauge.add_metric([variant], number)
    return gauge


def _values(jobs: QuerySet[GenerationJob], value: Aggregate) -> Iterable[tuple[str, Any]]:
    """Return the value that each variant's jobs have together."""
    return jobs.order_by().values("model_variant").annotate(value=value).values_list("model_variant", "value")


def _gauge(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, meaning, labels=labels)


def _quantile(values: Sequence[float], quantile: float) -> float:
    """Return the smallest of the sorted values that this share of them does not exceed."""
    return values[math.ceil(quantile * len(values)) - 1]
