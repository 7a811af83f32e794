"""Latents as other programs store them: ACE-Step's `.npy` and ComfyUI's `.latent`, known by their content.

Neither says which model they are of. What they hold is taken for ACE-Step 1.5's, 64 channels at 25 frames per second,
because nothing else that these programs store has that shape; what has another is refused.

Sources: https://github.com/ace-step/ACE-Step-1.5/pull/1177 (float32 [T, C]); ComfyUI's SaveLatent and LoadLatent in
nodes.py, and EmptyAceStep1.5LatentAudio in comfy_extras/nodes_ace.py ([B, C, T]).
"""

from __future__ import annotations

import math
import re
from typing import IO

import numpy as np

from latents import tensorfile
from latents.provenance import Provenance
from latents.tensorfile import Header, InvalidTensorFile, RawTensor

CHANNELS, FRAME_RATE = 64, 25.0
# Without it, ComfyUI takes the numbers for those of an image model, scaled.
COMFY_MARK = "latent_format_version_0"

_NPY = b"\x93NUMPY"
_NPY_VERSIONS = (b"\x01\x00", b"\x02\x00", b"\x03\x00")
_MAX_NPY_HEADER_BYTES = 10_000
_NPY_HEADER = re.compile(
    rb"\{'descr': '([<>|=]?\w{1,4})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,10}, ?)*(?:\d{1,10})?)\),? *\} *\n?"
)
_PICKLE = "it is a pickle, which could run programs and is never read; import .npy, .latent or .safetensors"
_REFUSED = {
    b"PK\x03\x04": "it is a zip archive, such as .npz or .pt; import .npy, .latent or .safetensors",
    **{bytes([0x80, protocol]): _PICKLE for protocol in range(2, 6)},
}
_DTYPES = {"<f4": "float32", "<f2": "float16"}
_CELLS = {"float32": "<u4", "float16": "<u2", "bfloat16": "<u2"}  # to move numbers without a look at them


def read(file: IO[bytes], size_bytes: int) -> RawTensor | None:
    """Return the latents [B, T, C] of another program's file, or None where it is no such file.

    Raises InvalidTensorFile with the reason if it is one and cannot be right.
    """
    file.seek(0)
    start = file.read(9)
    for mark, reason in _REFUSED.items():
        # The length that a safetensors file begins with may look like anything; its header begins with a brace.
        if start.startswith(mark) and start[8:] != b"{":
            raise InvalidTensorFile(reason)
    if start.startswith(_NPY):
        file.seek(len(_NPY))
        return _read_npy(file, size_bytes)
    header = tensorfile.read_header(file, size_bytes, may_be_empty=COMFY_MARK)
    return _read_comfy(file, header) if "latent_tensor" in header.tensors else None


def describe() -> Provenance:
    """Say no more than is known: neither words nor seeds, and of the schedule that it was run to its end."""
    return Provenance(
        model_variant="unknown",
        frame_rate=FRAME_RATE,
        caption="",
        seeds=[],
        params={},
        schedule={"steps": 0, "shift": 1.0, "timesteps": [], "requested": 1.0, "effective": 1.0},
    )


def _read_npy(file: IO[bytes], size_bytes: int) -> RawTensor:
    """Read https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html without evaluating its header."""
    version = file.read(2)
    length = int.from_bytes(file.read(2 if version[:1] == b"\x01" else 4), "little")
    found = _NPY_HEADER.fullmatch(file.read(length)) if length <= _MAX_NPY_HEADER_BYTES else None
    if version not in _NPY_VERSIONS or not found:
        raise InvalidTensorFile("its .npy header cannot be read")
    code, is_fortran, sizes = (part.decode() for part in found.groups())
    if code not in _DTYPES or is_fortran == "True":
        raise InvalidTensorFile("a .npy file must hold float32 or float16 in C order")
    shape = tuple(int(size) for size in sizes.split(",") if size.strip())
    if len(shape) not in (2, 3) or shape[-1] != CHANNELS:
        raise InvalidTensorFile(f"it has the shape {_say(shape)}, expected [frames, {CHANNELS}]")
    left, needed = size_bytes - file.tell(), math.prod(shape) * int(code[2:])
    if left != needed:
        raise InvalidTensorFile(f"it has {left} bytes of numbers, its header says {needed}")
    return RawTensor(_DTYPES[code], (*[1][: 3 - len(shape)], *shape), memoryview(bytearray(file.read())))


def _read_comfy(file: IO[bytes], header: Header) -> RawTensor:
    place = header.tensors["latent_tensor"]
    if COMFY_MARK not in header.tensors or set(header.tensors) != {"latent_tensor", COMFY_MARK}:
        raise InvalidTensorFile("it is a .latent file of an image model")
    if len(place.shape) != 3 or place.shape[1] != CHANNELS:
        raise InvalidTensorFile(f"its latents are {_say(place.shape)}, expected [batch, {CHANNELS}, frames]")
    batch_size, channels, frames = place.shape
    raw = place.read(file)
    turned = np.frombuffer(raw.data, _CELLS[raw.dtype]).reshape(place.shape).transpose(0, 2, 1)
    return RawTensor(raw.dtype, (batch_size, frames, channels), memoryview(bytearray(turned.tobytes())))


def _say(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape[:8]))}]"
