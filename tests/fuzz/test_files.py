"""Files that nobody should take in: refused in words, or stored as what they are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from latents.models import LatentRecord
from tests.fuzz import hostile
from tests.fuzz.conftest import MAX_UPLOAD_BYTES, World

FILES = hostile.hostile_files()
IMPORT = "/latents/import"


def upload(world: World, content: bytes, name: str = "take.safetensors", **more: Any) -> Any:
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    body = head.encode() + content + b"\r\n--b--\r\n"
    return world.ask("POST", IMPORT, body, content_type="multipart/form-data; boundary=b", **more)


def test_a_good_file_is_taken_in(world: World) -> None:
    before = LatentRecord.objects.count()
    assert upload(world, hostile.tensor_file()).status_code == 303
    assert LatentRecord.objects.count() == before + 1


def test_hostile_files_are_refused_in_words(world: World) -> None:
    for name, content in FILES.items():
        answer = upload(world, content, headers={"Accept": "application/json"})
        assert answer.status_code in (413, 422), name
        sentence = answer.json()["error"]
        assert 0 < len(sentence) < 500, name
        assert "\0" not in sentence, name


def test_large_files_are_refused(world: World) -> None:
    large = hostile.tensor_file((1, MAX_UPLOAD_BYTES // 96, 24))
    assert len(large) > MAX_UPLOAD_BYTES
    assert upload(world, large).status_code == 413
    assert upload(world, bytes(10 * MAX_UPLOAD_BYTES)).status_code == 413


def test_the_name_of_a_file_means_nothing(world: World) -> None:
    for name in ("../../etc/passwd", "/etc/passwd", "a\0b", "é" * 300, "CON", "..", "", "x.pkl", '"'):
        answer = upload(world, hostile.tensor_file(), name)
        assert answer.status_code in (303, 400, 422), name


@pytest.mark.parametrize(
    "examples", [pytest.param(100, id="some"), pytest.param(2_000, id="all", marks=pytest.mark.long)]
)
def test_damaged_files_are_refused_or_kept_as_they_are(world: World, examples: int) -> None:
    @hypothesis_settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(st.data())
    def send(data: st.DataObject) -> None:
        answer = upload(world, hostile.damaged(data.draw), headers={"Accept": "application/json"})
        assert answer.status_code in (200, 422)
        if answer.status_code == 200:
            record = answer.json()["url"]
            assert world.ask("GET", record).status_code == 200
            assert world.ask("GET", f"{record}download").status_code == 200

    send()


def test_a_parent_is_linked_only_among_ones_own(world: World) -> None:
    for owner in ("alice", "bob"):
        parent = LatentRecord.objects.filter(owner__username=owner)[0]
        parentage = {"id": str(parent.pk), "sample_index": 0, "level": 0.5, "digest": parent.item_digests[0]}
        answer = upload(world, hostile.tensor_file(parent=parentage), headers={"Accept": "application/json"})
        stored = LatentRecord.objects.get(pk=answer.json()["id"])
        assert stored.parent_id == (parent.pk if owner == "alice" else None)
