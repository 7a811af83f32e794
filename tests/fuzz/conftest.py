"""A studio with everything in it, and everybody who may ask: what the fuzz tests throw things at."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Iterator, Mapping
from datetime import timedelta
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.core.files.storage import storages
from django.db import connection, models
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from generation.models import GenerationJob, Preset, Sample, Worker
from generation.takes import TakeRequest
from latents import store
from latents.models import LatentRecord
from latents.portable import import_file
from resumeapp.headers import unreadable_part
from resumeapp.models import PersonalToken
from tests.fuzz import hostile
from tests.fuzz.surface import Page
from tests.generation.take_requests import take_request
from tests.generation.views.conftest import claim, make_sample

MAX_UPLOAD_BYTES = 200_000
SESSION = "reprise_session"
CONTROL_CODES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
FORGED = [
    str(uuid4()), "00000000-0000-0000-0000-000000000000", "not-an-id", "%00", "..%2F..", "0", "9" * 30, "9" * 5000,
    "-1", "1e3", "_5F", "a/b", "add",
]  # fmt: skip
# Rows about rows, and what a visit leaves behind.
UNCOUNTED = {"LogEntry", "Session", "ContentType", "Permission"}


class World:
    """The studio as those who ask see it, and the ids that there are."""

    def __init__(self, people: dict[str, User]) -> None:
        self.people = people
        self.clients = {name: Client(raise_request_exception=False) for name in [*people, "nobody"]}
        for name in people:
            self._log_in(name)
        self.ids = {name: own + FORGED for name, own in existing_ids().items()}

    def _log_in(self, who: str) -> None:
        self.clients[who].force_login(self.people[who])
        self._sessions = {name: session_of(client) for name, client in self.clients.items()}

    def url(self, page: Page, number: int = 0) -> str:
        """Return an address of the page. A parameter that is new to the URL conf needs its values in `ids`."""
        values = {name: self.ids[name][number % len(self.ids[name])] for name in page.parameters}
        return page.template.format(**values)

    def ask(
        self,
        method: str,
        url: str,
        body: bytes = b"",
        *,
        content_type: str = "",
        query: str = "",
        headers: Mapping[str, str] = {},
        who: str = "alice",
    ) -> Any:
        """Send one request, and hold the answer to all that is promised of every answer."""
        environ: dict[str, Any] = {"CONTENT_TYPE": content_type, "QUERY_STRING": query, **in_environ(headers)}
        if unreadable_part(environ):
            return None  # refused before Django; test_server.py sends such
        before = count_rows()
        answer: Any = self.clients[who].generic(method, url, body, **environ)
        content = b"".join(answer.streaming_content) if answer.streaming else answer.content
        if session_of(self.clients[who]) != self._sessions[who]:
            self._log_in(who)  # that was the way out
        told = f"{who}: {method} {url} {query[:200]} {body[:200]!r} {content_type} {headers}: {answer.status_code}"
        fault = "".join(traceback.format_exception(*answer.exc_info)) if getattr(answer, "exc_info", None) else ""
        assert answer.status_code < 500 or url == "/readyz", told + fault  # no worker runs here
        assert b"Traceback (most recent call last)" not in content, told
        if not is_change(method, answer.status_code):
            assert count_rows() == before, told
        if answer.get("Content-Type", "").startswith("text/html"):
            assert not unescaped(content.decode()), told
        return answer


def session_of(client: Client) -> str:
    return client.cookies[SESSION].value if SESSION in client.cookies else ""


def in_environ(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers under the names that WSGI gives them."""
    names = {name: name.upper().replace("-", "_") for name in headers}
    return {(key if key == "CONTENT_LENGTH" else f"HTTP_{key}"): headers[name] for name, key in names.items()}


def is_change(method: str, status: int) -> bool:
    return method not in ("GET", "HEAD", "OPTIONS", "TRACE") and status < 400


def count_rows() -> dict[str, int]:
    counted = [model for model in apps.get_models() if model._meta.managed and model.__name__ not in UNCOUNTED]
    counts = ", ".join(f"(SELECT count(*) FROM {model._meta.db_table})" for model in counted)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {counts}")
        return dict(zip([model.__name__ for model in counted], cursor.fetchone(), strict=True))


def unescaped(page: str) -> list[str]:
    """Return each tag and attribute of a page that one of the hostile scripts has become."""
    if hostile.MARK not in page:
        return []
    found: list[str] = []

    class Finder(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            names = [tag, *(name for name, _ in attributes)]
            links = [value for name, value in attributes if name in ("href", "src", "action", "formaction")]
            if hostile.MARK in names or any((value or "").startswith("javascript:") for value in links):
                found.append(self.get_starttag_text() or "")

    Finder().feed(page)
    return found


@pytest.fixture
def world(db: None, server_mode: None, settings: Settings) -> Iterator[World]:
    """Give everybody one of everything in every state; afterwards look at what is stored."""
    settings.REPRISE_MAX_UPLOAD_BYTES = MAX_UPLOAD_BYTES
    people = {name: User.objects.create_user(name) for name in ("alice", "bob")}
    for user in people.values():
        furnish(user)
    logging.disable(logging.WARNING)  # every refusal is a line
    yield World(people | {"root": User.objects.create_superuser("root")})
    logging.disable(logging.NOTSET)
    assert_all_that_is_stored_is_sound()


def furnish(owner: User) -> None:
    """Make jobs and latents in every state, a preset and a token."""
    record = import_take(owner)
    import_take(owner, checkpoint_step=1)
    import_take(owner).delete_softly()
    import_take(owner).note_damage("its checksum differs")
    expired = import_take(owner)
    LatentRecord.objects.filter(pk=expired.pk).update(expires_at=timezone.now() - timedelta(days=1))
    finished, running, failed = (claim(queue(owner)) for _ in range(3))
    finished.remember_latents(record, None)
    finished.finish([make_sample(finished, record, 0)], {"denoise": 1.0})
    running.report(phase="denoise", step=1, eta_seconds=1.0)
    failed.fail("It was not to be.")
    queue(owner)
    Preset.keep(owner, "Late", {"bpm": "82"})
    PersonalToken.objects.issue(owner, "script")


def import_take(owner: User, **provenance: Any) -> LatentRecord:
    return import_file(BytesIO(hostile.tensor_file(**provenance)), owner)


def queue(owner: User, **params: Any) -> GenerationJob:
    request = take_request(model_variant="sketch", **params)
    return GenerationJob.objects.all().submit(request, owner=owner, request_id=str(uuid4()))


def existing_ids(owner: User | None = None) -> dict[str, list[str]]:
    """Return what leads somewhere for every parameter of the URL conf; an owner's own only, if one is given."""
    who = {} if owner is None else {"owner": owner}
    jobs = GenerationJob.objects.filter(**who)
    samples = Sample.objects.filter(job__in=jobs)
    records = LatentRecord.objects.filter(**who)
    presets = Preset.objects.filter(**who)
    tokens = PersonalToken.objects.filter(**({} if owner is None else {"user": owner}))
    ids = {
        "job_id": keys(jobs),
        "sample_id": keys(samples),
        "latent_id": keys(records),
        "preset_id": keys(presets),
        "pk": keys(tokens),
        "id": keys(User.objects.all()),
        "content_type_id": ["1", "2"],
        "app_label": ["resumeapp", "generation", "latents", "auth"],
        "size": ["thumbnail", "picture"],
        "url": ["login"],
    }
    rows = (jobs, samples, records, presets, tokens, User.objects.all(), Worker.objects.all())
    return ids | {"object_id": [key for some in rows for key in keys(some)[-1:]]}


def keys(rows: models.QuerySet[Any]) -> list[str]:
    return [str(pk) for pk in rows.order_by("pk").values_list("pk", flat=True)]


def assert_all_that_is_stored_is_sound() -> None:
    """Every file has its row and is as it says, every job could be asked for again, and no text has control codes."""
    records = LatentRecord.objects.stored()
    assert files_of("latents") == set(records.values_list("file", flat=True))
    for record in records:
        store.verify(record)
    # What was encoded on demand lies beside the sound that was stored, under its name.
    assert {Path(name).stem for name in files_of("audio")} == {
        str(pk) for pk in Sample.objects.values_list("pk", flat=True)
    }
    for job in GenerationJob.objects.all():
        TakeRequest.from_params(job.params, job.source_record)
        assert not CONTROL_CODES.search("".join(map(str, job.params.values()))), job.params
    for preset in Preset.objects.all():
        assert not CONTROL_CODES.search(preset.name + "".join(preset.params.values())), preset.params
    for record in records:
        assert not CONTROL_CODES.search(record.caption + record.model_variant)


def files_of(alias: str) -> set[str]:
    folder = Path(storages[alias].path(""))
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
