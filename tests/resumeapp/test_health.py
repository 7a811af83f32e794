"""Health checks: open to all, right, and silent about details."""

from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, connection
from django.test import Client

from generation.models import Worker


def is_ready(client: Client) -> bool:
    response = client.get("/readyz")
    assert response.content == (b"ready\n" if response.status_code == 200 else b"not ready\n")
    return {200: True, 503: False}[response.status_code]


def test_healthz_answers_without_asking_the_database(server_mode: None, client: Client) -> None:
    response = client.get("/healthz")  # this test has no database
    assert (response.status_code, response.content) == (200, b"ok\n")


@pytest.mark.django_db
@pytest.mark.parametrize("url", ["/healthz", "/readyz"])
def test_health_is_open_to_visitors_and_makes_no_user(url: str, client: Client) -> None:
    assert client.get(url).status_code in (200, 503)
    assert not User.objects.exists()


@pytest.mark.django_db
def test_studio_is_ready_with_a_live_worker(client: Client) -> None:
    assert not is_ready(client)
    Worker.objects.create(host="here", pid=1)
    assert is_ready(client)


@pytest.mark.django_db
def test_studio_is_not_ready_while_the_database_is_away(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    Worker.objects.create(host="here", pid=1)

    def away() -> None:
        raise DatabaseError("password=secret is wrong")

    monkeypatch.setattr(connection, "cursor", away)
    assert not is_ready(client)


@pytest.mark.django_db
def test_studio_is_not_ready_when_a_storage_cannot_be_made(client: Client, tmp_path: Path) -> None:
    Worker.objects.create(host="here", pid=1)
    (tmp_path / "latents").write_text("a file where the folder should be")
    assert not is_ready(client)
