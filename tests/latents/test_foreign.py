"""Latents of other programs: ACE-Step's arrays and ComfyUI's files come in, and nothing that cannot be right."""

from __future__ import annotations

import pickle
from contextlib import suppress
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from django.contrib.auth.models import User
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from safetensors.torch import save

from latents import store
from latents.errors import ImportRefused
from latents.models import HeatMap
from latents.portable import export_file, import_file

FRAMES = 20
RNG = np.random.default_rng(1)


def npy(array: Any) -> BytesIO:
    file = BytesIO()
    np.save(file, array, allow_pickle=True)
    return file


def comfy(latents: torch.Tensor, mark: bool = True, **others: torch.Tensor) -> BytesIO:
    tensors = {"latent_tensor": latents.contiguous()} | others
    if mark:
        tensors["latent_format_version_0"] = torch.tensor([])
    return BytesIO(save(tensors, {"prompt": "{}"}))


def numbers(*shape: int, dtype: str = "<f4") -> Any:
    return RNG.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize(("shape", "dtype"), [((FRAMES, 64), "<f4"), ((FRAMES, 64), "<f2"), ((3, FRAMES, 64), "<f4")])
def test_array_is_taken_as_it_is(alice: User, shape: tuple[int, ...], dtype: str) -> None:
    array = numbers(*shape, dtype=dtype)
    record = import_file(npy(array), alice)
    assert np.array_equal(store.load(record).numpy(), array.reshape(-1, FRAMES, 64))
    assert (record.frame_rate, record.duration_s) == (25.0, FRAMES / 25)
    assert HeatMap.objects.filter(record=record).exists()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_comfy_latents_are_turned(alice: User, dtype: torch.dtype) -> None:
    latents = torch.from_numpy(numbers(2, 64, FRAMES)).to(dtype)
    record = import_file(comfy(latents), alice)
    assert torch.equal(store.load(record), latents.transpose(1, 2))


def test_nothing_is_claimed_that_is_not_known(alice: User) -> None:
    record = import_file(npy(numbers(FRAMES, 64)), alice)
    assert (record.model_variant, record.caption, record.seeds, record.params) == ("unknown", "", [], {})
    assert record.schedule["steps"] == 0


def test_what_came_in_can_be_handed_on(alice: User, bob: User) -> None:
    record = import_file(npy(numbers(2, FRAMES, 64)), alice)
    file = BytesIO()
    export_file(record, file)
    assert torch.equal(store.load(import_file(file, bob)), store.load(record))


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was read",)


REFUSED = [
    (npy(numbers(64, FRAMES)), r"shape \[64, 20\], expected \[frames, 64\]"),
    (npy(numbers(FRAMES)), r"shape \[20\]"),
    (npy(numbers(0, 64)), r"not \[1, 0, 64\]"),
    (npy(numbers(FRAMES, 64, dtype="<f8")), "float32 or float16"),
    (npy(numbers(FRAMES, 64, dtype=">f4")), "float32 or float16"),
    (npy(np.asfortranarray(numbers(FRAMES, 64))), "C order"),
    (npy(np.array([Trap()], dtype=object)), "float32 or float16"),
    (npy(np.full((FRAMES, 64), np.nan, "<f4")), "contains NaN"),
    (npy(numbers(60_001, 64)), "at most"),
    (BytesIO(npy(numbers(FRAMES, 64)).getvalue()[:-1]), "5119 bytes of numbers"),
    (BytesIO(npy(numbers(FRAMES, 64)).getvalue() + b"x"), "5121 bytes of numbers"),
    (BytesIO(b"\x93NUMPY\x01\x00\x10\x00{'shape': (1," + b"(" * 20), "header cannot be read"),
    (BytesIO(b"\x93NUMPY\x09\x00"), "header cannot be read"),
    (
        BytesIO(b"\x93NUMPY\x01\x00\x00\x20{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"1" * 8000),
        "cannot be read",
    ),
    (BytesIO(pickle.dumps(Trap())), "is a pickle"),
    (BytesIO(b"PK\x03\x04" + b"\0" * 30), "zip archive"),
    (comfy(torch.ones(1, 64, FRAMES), mark=False), "of an image model"),
    (comfy(torch.ones(1, 8, 16, FRAMES)), r"\[1, 8, 16, 20\], expected \[batch, 64, frames\]"),
    (comfy(torch.ones(1, 4, 64, 64)), r"expected \[batch, 64, frames\]"),
    (comfy(torch.ones(1, FRAMES, 64)), r"expected \[batch, 64, frames\]"),
    (comfy(torch.ones(1, 64, FRAMES), more=torch.ones(1)), "of an image model"),
]


@pytest.mark.parametrize(("file", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_what_cannot_be_right_is_refused_with_the_reason(alice: User, file: BytesIO, reason: str) -> None:
    with pytest.raises(ImportRefused, match=f"^This file cannot be imported: .*{reason}"):
        import_file(file, alice)


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 200), change=st.binary(min_size=1, max_size=8))
def test_no_damage_to_an_array_is_more_than_a_refusal(alice: User, place: int, change: bytes) -> None:
    content = bytearray(npy(numbers(2, 64)).getvalue())
    content[place : place + len(change)] = change
    with suppress(ImportRefused):
        import_file(BytesIO(content), alice)
