"""The format: what safetensors writes is read, what nobody should write is refused."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from latents import tensorfile
from latents.tensorfile import MAX_HEADER_BYTES, InvalidTensorFile, RawTensor


def file_of(header: Any, data: bytes = b"") -> BytesIO:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return BytesIO(len(text).to_bytes(8, "little") + text + data)


def entry(start: int = 0, end: int = 8, shape: Any = (1, 1, 2), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_file_written_by_safetensors_is_read() -> None:
    latents = torch.arange(24.0).reshape(2, 3, 4)
    file = BytesIO(safetensors.torch.save({"latents": latents, "momentum": latents * 2}, {"a": "b"}))
    header = tensorfile.read_header(file, len(file.getvalue()))
    assert header.metadata == {"a": "b"}
    assert header.tensors["latents"].shape == (2, 3, 4)
    item = header.tensors["momentum"].item(1).read(file)
    assert np.array_equal(item.to_numpy(), latents.numpy()[1:] * 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_safetensors_reads_what_is_written(dtype: torch.dtype) -> None:
    latents = torch.randn(2, 3, 5).to(dtype)
    raw = RawTensor(str(dtype).removeprefix("torch."), (2, 3, 5), latents.flatten().view(torch.uint8).numpy().data)
    tensors = safetensors.torch.load(tensorfile.build({"latents": raw}, {"schrift": "größer"}))
    assert torch.equal(tensors["latents"], latents)
    assert np.array_equal(raw.to_numpy(), latents.float().numpy())


@pytest.mark.parametrize(("dtype", "bits"), [("float32", "<u4"), ("float16", "<u2"), ("bfloat16", "<u2")])
def test_finite_is_said_as_torch_says_it(dtype: str, bits: str) -> None:
    patterns = np.unique(np.concatenate([np.arange(0, 2**16, 7), [0x7F80, 0xFF80, 0x7F81, 0x7C00, 0xFC00, 0x7BFF]]))
    for pattern in patterns:
        value = np.array([pattern << 16 if bits == "<u4" else pattern], bits)
        raw = RawTensor(dtype, (1,), value.view(np.uint8).data)
        tensor = torch.frombuffer(bytearray(value.tobytes()), dtype=getattr(torch, dtype))
        assert raw.is_finite() == bool(tensor.isfinite().all())


HOSTILE = [
    (BytesIO(b""), "not a safetensors file"),
    (BytesIO(b"\x01"), "not a safetensors file"),
    (BytesIO((2**63).to_bytes(8, "little") + b"{}"), "not a safetensors file"),
    (file_of(b" " * (MAX_HEADER_BYTES + 1)), "header is larger than"),
    (file_of(b"{ "), "not JSON"),
    (file_of(b"\xff\xfe{}"), "not JSON"),
    (file_of(b"[" * 100_000), "not JSON"),
    (file_of(b'{"a":' + b"9" * 5000 + b"}"), "not JSON"),
    (file_of([1]), "not a JSON object"),
    (file_of(b'{"a":{},"a":{}}'), "names something twice"),
    (file_of({"__metadata__": {"a": 1}}), "metadata are not text"),
    (file_of({"__metadata__": []}), "metadata are not text"),
    (file_of({"latents": 1}), "not described"),
    (file_of({"latents": {"dtype": "F32"}}), "not described"),
    (file_of({"latents": entry() | {"extra": 1}}), "not described"),
    (file_of({"latents": entry(dtype="I64")}), "tensor 'latents' has another dtype than F32, F16, BF16"),
    (file_of({"latents": entry(dtype=["F32"])}), "another dtype"),
    (file_of({"latents": entry(shape=[0, 1, 1])}), "no possible shape"),
    (file_of({"latents": entry(shape=[-1, -1, 2])}), "no possible shape"),
    (file_of({"latents": entry(shape=[1.0, 1, 2])}), "no possible shape"),
    (file_of({"latents": entry(shape=[True, 1, 2])}), "no possible shape"),
    (file_of({"latents": entry(shape=[2**40, 2**40])}), "no possible shape"),
    (file_of({"latents": entry(shape=[1] * 9)}), "no possible shape"),
    (file_of({"latents": entry(shape=[2**31] * 8)}), "not what its shape needs"),
    (file_of({"latents": entry(shape=[1, 1, 3])}, b"x" * 8), "not what its shape needs"),
    (file_of({"latents": entry() | {"data_offsets": [0]}}), "no possible place"),
    (file_of({"latents": entry(8, 0)}), "not what its shape needs"),
    (file_of({"latents": entry(-8, 0)}), "no possible place"),
    (file_of({"latents": entry(8, 16)}, b"x" * 16), "overlap or leave holes"),
    (file_of({"latents": entry(), "momentum": entry()}, b"x" * 8), "overlap or leave holes"),
    (file_of({"latents": entry(), "momentum": entry(16, 24)}, b"x" * 24), "overlap or leave holes"),
    (file_of({"latents": entry()}, b"x" * 7), "its header says"),
    (file_of({"latents": entry()}, b"x" * 9), "its header says"),
]


@pytest.mark.parametrize(
    "header", [{"\x1b[2J" * 1000: 1}, {"\x1b[2J" * 1000: entry(dtype="\x1b[2J" * 1000)}], ids=["name", "dtype"]
)
def test_refusal_repeats_little_of_what_it_found(header: dict[str, Any]) -> None:
    file = file_of(header)
    with pytest.raises(InvalidTensorFile) as refused:
        tensorfile.read_header(file, len(file.getvalue()))
    assert len(str(refused.value)) < 250
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(("file", "message"), HOSTILE)
def test_hostile_file_is_refused(file: BytesIO, message: str) -> None:
    with pytest.raises(InvalidTensorFile, match=message):
        tensorfile.read_header(file, len(file.getvalue()))
