"""The admin over latents: it shows everybody's, and changes them by the methods that the pages use."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.files.storage import storages
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from latents import admin
from latents.models import LatentRecord

LIST = "/admin/latents/latentrecord/"
MakeRecord = Callable[..., LatentRecord]


@pytest.fixture(autouse=True)
def _server_mode(settings: Settings) -> None:
    """In local mode everybody is the administrator."""
    settings.REPRISE_MODE = "server"


def act(client: Client, action: str, *records: LatentRecord) -> str:
    chosen = {"action": action, "_selected_action": [record.pk for record in records]}
    return client.post(LIST, chosen, follow=True).content.decode()


def test_list_shows_what_is_known(admin_client: Client, record: LatentRecord) -> None:
    page = admin_client.get(LIST).content.decode()
    for shown in (
        record.caption,
        "sketch",
        "alice",
        "never",
        "Live",
        reverse("admin:latents_heatmap", args=[record.pk, "thumbnail"]),
    ):
        assert shown in page


def test_totals_by_variant_stand_at_the_top(admin_client: Client, make_record: MakeRecord) -> None:
    make_record(), make_record(), make_record(model_variant="acestep-v15-turbo")
    page = " ".join(admin_client.get(LIST).content.decode().split())
    assert '<th scope="row">sketch</th><td>2</td>' in page
    assert '<th scope="row">acestep-v15-turbo</th><td>1</td>' in page


def test_list_takes_few_queries_however_long_it_is(
    admin_client: Client, make_record: MakeRecord, django_assert_max_num_queries: Any
) -> None:
    for _ in range(10):
        make_record()
    with django_assert_max_num_queries(9):
        admin_client.get(LIST)


def test_record_page_is_for_reading(admin_client: Client, make_record: MakeRecord) -> None:
    parent = make_record()
    child = make_record(parent_id=parent.pk, parent_level=0.5)
    page = admin_client.get(f"{LIST}{parent.pk}/change/").content.decode()
    assert parent.sha256 in page
    assert f"{child.pk}</a>" in page
    assert 'name="_save"' not in page
    assert f"{parent.pk}</a>" in admin_client.get(f"{LIST}{child.pk}/change/").content.decode()


def test_nothing_is_added_or_destroyed_here(admin_client: Client, record: LatentRecord) -> None:
    assert admin_client.get(f"{LIST}add/").status_code == 403
    assert admin_client.post(f"{LIST}{record.pk}/delete/", {"post": "yes"}).status_code == 403
    assert "delete_selected" not in admin_client.get(LIST).content.decode()


@pytest.mark.parametrize("size", ["thumbnail", "picture"])
def test_heat_maps_are_served(admin_client: Client, record: LatentRecord, size: str) -> None:
    response = admin_client.get(reverse("admin:latents_heatmap", args=[record.pk, size]))
    assert response["Content-Type"] == "image/png"
    assert response.content == bytes(getattr(record.heat_map, size))


def test_heat_maps_need_the_right_to_view(client: Client, record: LatentRecord, bob: User) -> None:
    bob.is_staff = True
    bob.save()
    client.force_login(bob)
    url = reverse("admin:latents_heatmap", args=[record.pk, "picture"])
    assert client.get(url).status_code == 404
    bob.user_permissions.add(Permission.objects.get(codename="view_latentrecord"))
    assert client.get(url).status_code == 200
    assert 'value="pin"' not in client.get(LIST).content.decode()  # to look is not to change


FILTERS = [
    ({"state": "live"}, "live"),
    ({"state": "expired"}, "expired"),
    ({"state": "deleted"}, "deleted"),
    ({"state": "damaged"}, "damaged"),
    ({"variant": "turbo"}, "damaged"),
    ({"pinned__exact": "1"}, "live"),
    ({"q": "techno"}, "expired"),
    ({"q": "alice techno"}, "expired"),
    ({"q": "techno", "o": "5"}, "expired"),
    ({"q": "!!!"}, None),
    ({"q": "bob"}, None),
]


@pytest.mark.parametrize(("query", "expected"), FILTERS)
def test_filters_and_search_find(
    admin_client: Client, make_record: MakeRecord, query: dict[str, str], expected: str | None
) -> None:
    now = timezone.now()
    records = {
        "live": make_record(pinned=True),
        "expired": make_record(expires_at=now, caption="cold techno"),
        "deleted": make_record(deleted_at=now),
        "damaged": make_record(damage="its checksum differs", model_variant="turbo"),
    }
    result = list(admin_client.get(LIST, query).context["cl"].result_list)
    assert result == ([records[expected]] if expected else [])


def test_so_many_are_listed_and_no_more_are_counted(
    admin_client: Client, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "MAX_LISTED", 2)
    for _ in range(3):
        make_record()
    assert admin_client.get(LIST).context["cl"].result_count == 2


@pytest.mark.skipif(connection.vendor != "sqlite", reason="reads SQLite's query plans")
@pytest.mark.parametrize("query", [{}, {"q": "piano"}, {"q": "alice piano"}, {"state": "deleted"}])
def test_list_is_read_in_order(admin_client: Client, record: LatentRecord, query: dict[str, str]) -> None:
    changes = admin_client.get(LIST, query).context["cl"]
    assert "TEMP B-TREE" not in changes.queryset[:50].explain()


def test_totals_are_added_up_once_a_minute(
    admin_client: Client, record: LatentRecord, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(5):  # session, user, totals, how many, page
        admin_client.get(LIST)
    with django_assert_num_queries(4):
        admin_client.get(LIST)


def test_search_finds_an_id(admin_client: Client, make_record: MakeRecord) -> None:
    record = make_record()
    make_record()
    assert list(admin_client.get(LIST, {"q": str(record.pk)}).context["cl"].result_list) == [record]


def test_actions_call_the_rules(admin_client: Client, make_record: MakeRecord) -> None:
    records = [make_record(expires_at=timezone.now() + timedelta(hours=1)) for _ in range(2)]
    assert "2 latents pinned" in act(admin_client, "pin", *records)
    assert all(record.pinned for record in LatentRecord.objects.all())
    act(admin_client, "unpin", *records)
    act(admin_client, "extend", *records)
    for record in records:
        record.refresh_from_db()
        assert not record.pinned
        assert record.expires_at is not None
        assert record.expires_at > timezone.now() + timedelta(days=29)
    act(admin_client, "delete_softly", *records)
    assert LatentRecord.objects.deleted().count() == 2
    assert "2 latents brought back" in act(admin_client, "undelete", *records)
    assert not LatentRecord.objects.deleted().exists()


def test_actions_are_logged(admin_client: Client, record: LatentRecord) -> None:
    act(admin_client, "pin", record)
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.change_message) == (str(record.pk), "pinned")


def test_action_says_why_it_was_not_done_to_some(admin_client: Client, make_record: MakeRecord) -> None:
    held, free = make_record(), make_record()
    held.hold(uuid.uuid4())
    page = act(admin_client, "delete_softly", held, free)
    assert "needed by a job" in page
    assert "1 latent deleted" in page


def test_verify_says_what_is_damaged(admin_client: Client, make_record: MakeRecord) -> None:
    whole, damaged, pruned = make_record(), make_record(), make_record(purged_at=timezone.now(), file="")
    path = Path(storages["latents"].path(damaged.file))
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    page = act(admin_client, "verify_checksum", whole, damaged, pruned)
    assert "is damaged: its checksum differs" in page
    assert f"Failed to load latent tensor &#x27;{pruned.pk}&#x27;" in page
    assert "1 latent verified" in page
    damaged.refresh_from_db()
    assert damaged.state() == "damaged"
