"""Every URL for its owner, for somebody else, and for nobody: the whole of who may do what, in one table."""

import json
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from generation.models import GenerationJob, Preset, Sample
from latents.models import LatentRecord
from tests.generation.views.conftest import HTMX, JSON

MATRIX = [
    # (method, URL, owner, somebody else)
    ("get", "/", 200, 200),
    ("get", "/?restore={sample}", 200, 404),
    ("get", "/?restore={sample}&part=seed", 200, 404),
    ("get", "/?reuse={job}", 200, 404),
    ("get", "/?preset={preset}", 200, 404),
    ("get", "/?before={job}", 200, 404),
    ("post", "/", 303, 303),
    ("post", "/generation/generate", 422, 422),
    ("get", "/generation/plan", 200, 200),
    ("get", "/generation/plan?init_latent_id={latent}", 200, 404),
    ("get", "/generation/jobs/{job}/", 200, 404),
    ("post", "/generation/jobs/{job}/cancel", 409, 404),
    ("post", "/generation/jobs/{job}/retry", 409, 404),
    ("post", "/generation/jobs/{job}/retry-decode", 409, 404),
    ("post", "/generation/jobs/{job}/another", 303, 404),
    ("get", "/generation/samples/{sample}/audio", 200, 404),
    ("get", "/generation/samples/{sample}/audio?format=mp3&download=1", 200, 404),
    ("post", "/generation/samples/{sample}/undelete", 409, 404),
    ("post", "/generation/samples/{sample}/delete", 303, 404),
    ("post", "/generation/jobs/{job}/undelete", 409, 404),
    ("post", "/generation/jobs/{job}/delete", 303, 404),
    ("get", "/queue/", 200, 200),
    ("post", "/queue/cancel-waiting", 303, 303),
    ("post", "/queue/clear", 303, 303),
    ("post", "/queue/{job}/front", 409, 404),
    ("post", "/queue/{job}/back", 409, 404),
    ("post", "/queue/{job}/cancel", 409, 404),
    ("post", "/queue/{job}/retry", 409, 404),
    ("post", "/queue/{job}/unclear", 409, 404),
    ("get", "/compare/?b={sample}", 200, 404),
    ("get", "/compare/?a={sample}&b={sample}", 200, 404),
    ("get", "/latents/", 200, 200),
    ("get", "/latents/{latent}/", 200, 404),
    ("get", "/latents/{latent}/heatmap.png", 200, 404),
    ("get", "/latents/{latent}/download", 200, 404),
    ("post", "/latents/{latent}/pin", 303, 404),
    ("post", "/latents/{latent}/unpin", 303, 404),
    ("post", "/latents/{latent}/extend", 303, 404),
    ("post", "/latents/{latent}/delete", 303, 404),
    ("post", "/latents/{latent}/undelete", 303, 404),
    ("post", "/latents/import", 422, 422),
    ("get", "/?draft=1", 404, 404),
    ("post", "/draft/save", 303, 303),
    ("post", "/draft/discard", 303, 303),
    ("get", "/prompts/", 200, 200),
    ("get", "/presets/", 200, 200),
    ("post", "/presets/save", 422, 422),
    ("post", "/presets/{preset}/delete", 303, 404),
    ("get", "/workers/", 403, 403),
    ("get", "/account/", 200, 200),
    ("get", "/account/tokens/", 200, 200),
    ("post", "/account/tokens/{token}/revoke/", 404, 404),
    ("get", "/account/password/", 200, 200),
    ("post", "/account/logout/", 302, 302),
    ("get", "/account/login/", 302, 302),
    ("get", "/metrics", 403, 403),
    ("get", "/healthz", 200, 200),
    ("get", "/readyz", 503, 503),
]


@pytest.fixture
def objects(sample: Sample, alice: User) -> dict[str, UUID | int | None]:
    """Alice's own, by the names of the table."""
    preset = Preset.keep(alice, "Late", {"bpm": "82"})
    return {
        "sample": sample.pk,
        "job": sample.job_id,
        "latent": sample.latent_id,
        "preset": preset.pk,
        "token": 1,
    }


@pytest.mark.parametrize(("method", "path", "owner", "other"), MATRIX)
def test_url_answers_its_owner_and_nobody_else(
    client: Client, stranger: Client, objects: dict[str, Any], method: str, path: str, owner: int, other: int
) -> None:
    url = path.format(**objects)
    assert ask(stranger, method, url).status_code == other
    assert ask(client, method, url).status_code == owner


@pytest.mark.parametrize(("method", "path", "owner", "other"), MATRIX)
def test_url_asks_nobody_to_log_in(objects: dict[str, Any], method: str, path: str, owner: int, other: int) -> None:
    url = path.format(**objects)
    if urlsplit(url).path in ("/healthz", "/readyz", "/account/login/"):
        assert ask(Client(), method, url).status_code in (200, 503)
        return
    page = ask(Client(), method, url)
    assert page.status_code == 302
    assert page["Location"].startswith("/account/login/")
    assert ask(Client(), method, url, headers=JSON).status_code == 401
    assert "/account/login/" in ask(Client(), method, url, headers=HTMX)["HX-Redirect"]


def test_nothing_of_somebody_else_is_shown_or_changed(
    stranger: Client, objects: dict[str, Any], finished: GenerationJob
) -> None:
    for method, path, _, _ in MATRIX:
        answer = ask(stranger, method, path.format(**objects))
        said = b"" if answer.streaming else answer.content
        assert str(objects["sample"]).encode() not in said
        assert b"warm lofi piano" not in said
    assert Sample.objects.filter(deleted_at=None).count() == 2
    assert GenerationJob.objects.filter(deleted_at=None, pk=finished.pk).exists()
    assert LatentRecord.objects.filter(deleted_at=None, pinned=False).count() == 1
    assert Preset.objects.count() == 1


def test_latent_of_somebody_else_cannot_be_resumed(stranger: Client, take: LatentRecord) -> None:
    body = json.dumps({"caption": "x", "init_latent_id": str(take.pk), "t_start": 0.5})
    answer = stranger.post("/generation/generate", body, content_type="application/json")
    assert answer.status_code == 404
    assert answer.json()["error"] == f"Latent '{take.pk}' not found or expired"


def test_table_has_every_url() -> None:
    """Whoever adds a URL says here who may open it."""
    listed = {urlsplit(path).path for _, path, _, _ in MATRIX}
    for name, example in (("job", "job_id"), ("sample", "sample_id"), ("latent", "latent_id")):
        listed = {path.replace(f"{{{name}}}", f"<uuid:{example}>") for path in listed}
    listed = {path.replace("{preset}", "<int:preset_id>").replace("{token}", "<int:pk>") for path in listed}
    assert {path for path in all_paths(get_resolver().url_patterns, "/") if not path.startswith("/admin/")} == listed


def all_paths(patterns: list[URLPattern | URLResolver], prefix: str) -> set[str]:
    paths = set()
    for pattern in patterns:
        path = prefix + str(pattern.pattern)
        paths |= all_paths(pattern.url_patterns, path) if isinstance(pattern, URLResolver) else {path}
    return paths


def ask(client: Client, method: str, url: str, headers: dict[str, str] | None = None) -> Any:
    return getattr(client, method)(url, headers=headers or {})
