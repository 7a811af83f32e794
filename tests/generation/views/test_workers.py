"""The page about workers."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from generation.models import GenerationJob, Worker
from tests.generation.views.conftest import JSON, text


@pytest.fixture
def staff(alice: User) -> None:
    alice.is_staff = True
    alice.save()


@pytest.mark.usefixtures("staff")
def test_page_shows_who_works_on_what(client: Client, running: GenerationJob) -> None:
    worker = Worker.objects.create(host="studio-a", pid=4242, device="cuda:0", state=Worker.State.BUSY)
    GenerationJob.objects.filter(pk=running.pk).update(worker=worker)
    page = text(client.get("/workers/"))
    for words in ("studio-a, 4242", "cuda:0", "busy", f"<code>{str(running.pk)[:8]}</code> denoise 2/4"):
        assert words in page
    assert client.get("/workers/", headers=JSON).json()["workers"][0]["jobs"] == [str(running.pk)]


@pytest.mark.usefixtures("staff")
def test_page_says_which_models_are_there(client: Client) -> None:
    page = text(client.get("/workers/"))
    assert "No worker is running" in page
    assert "manage.py fetch_model absent" in page


def test_page_is_for_staff(client: Client) -> None:
    response = client.get("/workers/", headers=JSON)
    assert (response.status_code, response.json()) == (403, {"error": "Only staff may see the workers."})
    assert "Only staff may see the workers." in text(client.get("/workers/"))
