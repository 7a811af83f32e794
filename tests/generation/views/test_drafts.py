"""A draft is kept while somebody writes, offered when they come back, and gone once it is sent."""

import json

from django.contrib.auth.models import User
from django.test import Client

from generation.models import Draft
from latents.models import LatentRecord
from tests.generation.views.conftest import HTMX, text
from tests.generation.views.test_studio import field

SAVE = "/draft/save"


def test_draft_is_offered_on_the_empty_form_and_continued(client: Client) -> None:
    client.post(SAVE, {"caption": "half a tho", "bpm": "1000"}, headers=HTMX)
    page = text(client.get("/"))
    assert "You were writing: <q>half a tho</q>" in page
    assert field(page, "caption") == ""
    page = text(client.get("/?draft=1"))
    assert (field(page, "caption"), field(page, "bpm")) == ("half a tho", "1000")
    assert "You were writing" not in page


def test_draft_is_nobody_elses(client: Client, stranger: Client) -> None:
    client.post(SAVE, {"caption": "mine"})
    stranger.post("/draft/discard")
    assert "mine" not in text(stranger.get("/"))
    assert stranger.get("/?draft=1").status_code == 404
    assert "mine" in text(client.get("/"))


def test_draft_never_resumes(client: Client, take: LatentRecord, alice: User) -> None:
    client.post(SAVE, {"caption": "x", "init_latent_id": str(take.pk), "t_start": "0.5", "request_id": "1"})
    assert Draft.objects.get(owner=alice).state == {"caption": "x"}


def test_empty_form_is_no_draft(client: Client) -> None:
    client.post(SAVE, {"caption": "x"})
    client.post(SAVE, {"bpm": "80"})
    assert not Draft.objects.exists()


def test_draft_is_gone_once_it_is_sent_or_discarded(client: Client) -> None:
    client.post(SAVE, {"caption": "sent"})
    client.post("/generation/generate", {"caption": "sent", "inference_steps": "2"})
    assert not Draft.objects.exists()
    client.post(SAVE, {"caption": "sent"})  # the last letters, saved a second after Generate was pressed
    assert "You were writing" not in text(client.get("/"))
    client.post(SAVE, {"caption": "discarded"})
    assert client.post("/draft/discard", headers=HTMX).content == b""
    assert not Draft.objects.exists()


def test_draft_holds_nothing_that_a_database_cannot(client: Client, alice: User) -> None:
    body = json.dumps({"caption": "a\x00b\ud800c" + "x" * 20_000})
    assert client.post(SAVE, body, content_type="application/json").status_code == 200
    assert Draft.objects.get(owner=alice).state["caption"] == ("abc" + "x" * 20_000)[:10_000]
