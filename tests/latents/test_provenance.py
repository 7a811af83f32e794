"""Provenance: it survives the way through a file, and refuses what it was not made for."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from latents.provenance import InvalidProvenance, Parentage, Provenance
from tests.latents.conftest import make_provenance

NOW = datetime(2026, 6, 1, tzinfo=UTC)
PARENT = Parentage(id=uuid.uuid4(), sample_index=1, level=0.45, digest="0f" * 32)


def document(**changes: Any) -> str:
    written = json.loads(make_provenance(parent=PARENT).to_json(uuid.uuid4(), NOW))
    return json.dumps(written | changes)


@pytest.mark.parametrize("parent", [None, PARENT])
def test_provenance_comes_back_as_it_was(parent: Parentage | None) -> None:
    provenance = make_provenance(parent=parent, checkpoint_step=1, caption="Grüße, 音楽\n𝄞")
    assert Provenance.from_json(provenance.to_json(uuid.uuid4(), NOW)) == provenance


def test_largest_seeds_of_a_batch_are_kept() -> None:
    seeds = [2**63 - 1 + index for index in range(16)]
    assert Provenance.from_json(make_provenance(seeds=seeds).to_json(uuid.uuid4(), NOW)).seeds == seeds


REFUSED = [
    ("", "not JSON"),
    ("[" * 100_000, "not JSON"),
    ("[]", "must have exactly"),
    ("{}", "must have exactly"),
    (document(owner="alice"), "must have exactly"),
    (document(version=2), "'version' must be 1"),
    (document(version=True), "'version' must be 1"),
    (document(id="1"), "'id'"),
    (document(created_at="yesterday"), "'created_at'"),
    (document(created_at="2026-06-01T00:00:00"), "'created_at'"),
    (document(model_variant=""), "'model_variant'"),
    (document(model_variant="x" * 101), "'model_variant'"),
    (document(frame_rate=0), "'frame_rate'"),
    (document(frame_rate=True), "'frame_rate'"),
    (document(frame_rate=float("nan")), "'frame_rate'"),
    (document(frame_rate=10**400), "'frame_rate'"),  # larger than every float
    (document(caption="a\0b"), "'caption'"),
    (document(caption="a\x1b[2Jb"), "'caption'"),  # would be obeyed by the terminal that it is printed on
    (document(model_variant="a\nb"), "'model_variant'"),
    (document(caption="\ud800"), "'caption'"),
    (document(caption=["x"]), "'caption'"),
    (document(seeds=[-1]), "'seeds'"),
    (document(seeds=[1.5]), "'seeds'"),
    (document(seeds=[1] * 17), "'seeds'"),
    (document(params=[]), "'params'"),
    (document(params={"lyrics": "x" * 10_001}), "'params'"),
    (document(params={"a": {"nested": 1}}), "'params'"),
    (document(params={"a": [[1]]}), "'params'"),
    (document(params={"a": [1] * 201}), "'params'"),
    (document(params={"a": float("inf")}), "'params'"),
    (document(params={"a": -(10**400)}), "'params'"),
    (document(params={"a\0": 1}), "'params'"),
    (document(params={str(key): 1 for key in range(65)}), "'params'"),
    (document(schedule={}), "'schedule'"),
    (document(schedule={"steps": -1, "shift": 3, "timesteps": [], "requested": 1, "effective": 1}), "'schedule'"),
    (document(schedule={"steps": 1, "shift": 3, "timesteps": [2], "requested": 1, "effective": 1}), "'schedule'"),
    (document(checkpoint_step=0), "'checkpoint_step'"),
    (document(parent={}), "'parent'"),
    (document(parent={"id": "x", "sample_index": 0, "level": 0.5, "digest": "0" * 64}), "'parent'"),
    (document(parent={"id": None, "sample_index": 0, "level": 0.5, "digest": "G" * 64}), "'parent'"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_was_not_written_here_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidProvenance, match=message):
        Provenance.from_json(text)


def test_what_could_not_be_read_again_is_not_written() -> None:
    with pytest.raises(InvalidProvenance, match="'caption'"):
        make_provenance(caption="x" * 2001).to_json(uuid.uuid4(), NOW)
