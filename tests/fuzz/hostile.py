"""What nobody in their right mind would send: values, bodies, headers, files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from latents import tensorfile
from latents.tensorfile import RawTensor

# Whatever of this comes out of a page as a tag or an attribute was not escaped.
MARK = "x-evil"
SCRIPTS = [
    f"<{MARK}>alert(1)</{MARK}>",
    f'"><{MARK} onload=alert(1)>',
    f"' {MARK}='1",
    f'" {MARK}="1',
    f"</script></title></textarea><{MARK}>",
    f"javascript:{MARK}()",
    f"{{{{ 7|add:7 }}}}{{% debug %}}<!-- <{MARK}",
]
# Words that mean something to a search index.
QUERIES = [
    '"',
    '""',
    "'",
    "*",
    "^a",
    "a*",
    "a:b",
    "caption:a",
    "NOT",
    "a AND",
    "OR OR",
    "NEAR(a b)",
    "(",
    "-a",
    "\\",
    "a" + " b" * 2000,
    "_%",
]
# What the admin's lists are filtered by, and what a database may refuse to compare with.
LOOKUPS = [
    "variant", "kind", "before", "state", "status__exact", "model_variant", "owner__id__exact", "created_at__gte",
    "pinned__exact", "id", "p", "o",
]  # fmt: skip
INCOMPARABLE = ["\0", "9" * 5000, "é" * 9000, "\ud800"]
NUMBERS = [
    0, 1, -1, 2, 16, 17, 0.5, -0.0, 1e-300, 1e308, 1e400, -1e400, math.nan, 2**31, 2**53, 2**63 - 1, 2**63, 2**64,
    -(2**63) - 1, 10**30, 10**400,
]  # fmt: skip
TEXTS = [
    "", " ", "\0", "a\0b", "\x07", "\x1b[31m", "\x7f\x85", "\ufeff", "\u202e", "\ud800", "é" * 300, "𝕏" * 3000,
    "a" * 100_000, "\n\r\n", "nan", "NaN", "inf", "-Infinity", "1e999", "0x10", "1_000", "١٢", "²", "٠.٥", "1,5",
    "true", "null", "[]", "{}", "9" * 400, "9" * 5000, "%00", "%", "../../../etc/passwd", "C:\\con",
    "file:///etc/passwd", "' OR 1=1 --", "00000000-0000-0000-0000-000000000000",
    "{12345678-1234-5678-1234-567812345678}", "urn:uuid:" + "1" * 32, "g" * 36, "sketch",
    "0", "1", "0.5", "3", "4/4", "C major", "30d", "1e2", "flac", "http://[", "//evil.example",
]  # fmt: skip
JSON_VALUES: list[Any] = [None, True, False, [], {}, [[[]]], {"a": {"b": [1]}}, ["1"], {"$ne": 1}, [None] * 1000]
VALUES: list[Any] = [*SCRIPTS, *TEXTS, *NUMBERS, *JSON_VALUES]

HEADERS: list[dict[str, str]] = [
    {},
    {"Accept": "application/json"},
    {"HX-Request": "true"},
    {"HX-Request": "true", "HX-Current-URL": "http://["},
    {"HX-Request": "true", "HX-Current-URL": "http://testserver/?q=<x-evil>"},
    {"HX-Request": "true", "HX-Current-URL": "%0d%0aSet-Cookie:a", "HX-Current-URL-URI-AutoEncoded": "true"},
    {"HX-Request": "true", "HX-Current-URL": "http://testserver/%0d%0aa", "HX-Current-URL-URI-AutoEncoded": "true"},
    {"HX-Request": "true", "HX-History-Restore-Request": "true", "HX-Target": '"><x-evil>'},
    {"Accept": "text/html;q=nan, */*;q=1e999, application/json;q="},
    {"Accept": "text/html; q*=nonsense''%41"},
    {"Accept": ";;;,,,/=/"},
    {"Accept": "application/json" + ";a=b" * 2000},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer \udcff"},
    {"Authorization": "Basic %%%"},
    {"Cookie": 'reprise_session="\\000\\377abcdefgh"; reprise_csrf=\\; messages=.'},
    {"Cookie": "reprise_session=" + "a" * 8000},
    {"Range": "bytes=0-0"},
    {"Range": "bytes=-0"},
    {"Range": f"bytes={'9' * 5000}-"},
    {"Range": "bytes=5-1, 2-3", "If-Range": '"'},
    {"If-None-Match": "*"},
    {"If-None-Match": '"' * 999},
    {"If-Modified-Since": "Thu, 99 Foo 99999 99:99:99 GMT"},
    {"Referer": "http://[", "Origin": "null"},
    {"X-HTTP-Method-Override": "DELETE", "X-Original-URL": "/admin/"},
    {"Content-Length": "nonsense"},
    {"Content-Length": "-1"},
    {"Content-Length": str(10**30)},
    {"Content-Encoding": "gzip", "Transfer-Encoding": "chunked"},
    {"Accept-Language": "xx" * 500, "User-Agent": "\x01"},
    {"Host": "testserver:99999999"},
]
CONTENT_TYPES = [
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=b",
    "multipart/form-data",
    "multipart/form-data; boundary=" + "b" * 300,
    "multipart/form-data; boundary=\u00e9",
    "multipart/form-data; boundary*=nonsense''b",
    "multipart/form-data; boundary=b; charset=hex",
    "application/x-www-form-urlencoded; charset=utf-16",
    "application/json; charset=rot13",
    "text/plain; charset=hex",
    "text/html; charset=undefined",
    "application/xml",
    "application/octet-stream",
    "text/plain; x*=nonsense''%41",
    "",
    "\x00/;=,",
]
_PART = b'--b\r\nContent-Disposition: form-data; name="caption"%s\r\n\r\nx\r\n--b--\r\n'
BODIES: list[bytes] = [
    b"",
    b"\0" * 100,
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"1e999",
    b'{"caption": NaN}',
    b'{"caption": "a", "caption": "b"}',
    b'{"caption": "\\ud800"}',
    b'{"caption": 1' + b"0" * 5000 + b"}",
    b"[" * 100_000,
    b'{"a":' * 20_000,
    b'{"caption": "\xff"}',
    b"\xef\xbb\xbf{}",
    '{"caption": "x"}'.encode("utf-16"),
    b"a=1&" * 2000,  # more fields than Django reads
    b"&=&&==%&%zz=%ff",
    b"caption=%ff%fe%00",
    b"a" * 3_000_000,
    _PART % b"",
    _PART % b'; filename="../../x"',
    _PART % b"; filename*=nonsense''x",
    _PART % b"\r\nContent-Transfer-Encoding: base64",
    _PART % b"\r\nContent-Type: text/plain; charset=hex",
    _PART % (b"\r\nX: " + b"y" * 100_000),
    b"--b\r\n" * 2000,
    b"--b",
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="\0"\r\n\r\nx\r\n--b--',
]

plain = st.one_of(st.text(max_size=40), st.integers(), st.floats(), st.booleans(), st.none())
nested = st.recursive(
    plain, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4))
)
values = st.one_of(st.sampled_from(VALUES), nested)


def as_text(value: Any) -> str:
    """Write any value as a form would carry it; half a surrogate pair cannot be sent that way."""
    text = value if isinstance(value, str) else repr(value) if not _is_huge(value) else "9" * 400
    return text.encode(errors="replace").decode()


def _is_huge(value: Any) -> bool:
    return isinstance(value, int) and abs(value) > 10**300


def as_json(fields: Any) -> bytes:
    return json.dumps(fields).encode()


# Files


def provenance(**changes: Any) -> dict[str, Any]:
    """Return the description of a take of one item, as JSON would hold it."""
    described: dict[str, Any] = {
        "version": 1,
        "id": str(UUID(int=1)),
        "created_at": "2026-01-01T00:00:00+00:00",
        "model_variant": "sketch",
        "frame_rate": 20.0,
        "caption": "warm lofi",
        "seeds": [7],
        "params": {"caption": "warm lofi", "duration": 1.0},
        "schedule": {"steps": 2, "shift": 3.0, "timesteps": [1.0, 0.75], "requested": 1.0, "effective": 1.0},
        "runtime": {"device": "cpu"},
        "checkpoint_step": None,
        "parent": None,
    }
    return described | changes


def tensor_file(
    shape: tuple[int, ...] = (1, 20, 24),
    data: bytes | None = None,
    *,
    name: str = "latents",
    dtype: str = "float32",
    **changes: Any,
) -> bytes:
    """Return a file that would be imported, unless something in it is changed."""
    content = bytes(math.prod(shape) * (4 if dtype == "float32" else 2)) if data is None else data
    tensor = RawTensor(dtype, shape, memoryview(content))
    return tensorfile.build({name: tensor}, {"format": "reprise", "provenance": json.dumps(provenance(**changes))})


def with_header(header: bytes, data: bytes = b"", *, length: int | None = None) -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


def _header(entries: Any, data: bytes = b"") -> bytes:
    return with_header(json.dumps(entries).encode(), data)


def _entry(shape: Any = (1, 2, 3), offsets: Any = (0, 24), dtype: Any = "F32", **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets} | more


_METADATA = {"format": "reprise", "provenance": json.dumps(provenance())}
_NAN = b"\0\0\xc0\x7f"


def hostile_files() -> dict[str, bytes]:
    """Return files of which none may be stored, by what is wrong with them."""
    return {
        "empty": b"",
        "seven bytes": b"\x02" * 7,
        "length only": (2).to_bytes(8, "little"),
        "header longer than the file": with_header(b"{}", length=10**6),
        "header of 2^64 bytes": with_header(b"{}", length=2**64 - 1),
        "header over the limit": with_header(b"{}" + b" " * (1 << 20)),
        "header of no bytes": with_header(b""),
        "header of brackets": with_header(b"[" * 900_000),
        "header of nested objects": with_header(b'{"a":' * 150_000),
        "header with a number of a million digits": with_header(b'{"a":' + b"9" * 900_000 + b"}"),
        "header with 50,000 tensors": _header(
            {f"t{n}": _entry([1], [4 * n, 4 * n + 4]) for n in range(15_000)}, bytes(60_000)
        ),
        "header not UTF-8": with_header(b'{"\xff": 1}'),
        "header with NaN": with_header(b'{"latents": NaN}'),
        "header twice the same": with_header(b'{"latents": {}, "latents": {}}'),
        "header is a list": with_header(b"[]"),
        "header is null": with_header(b"null"),
        "pickle": b"\x80\x04\x95" + b"cos\nsystem\n(S'touch x'\ntR." * 4,
        "zip": b"PK\x03\x04" + bytes(60),
        "metadata nested": _header({"__metadata__": {"format": {"a": 1}}}),
        "metadata a list": _header({"__metadata__": []}),
        "no metadata": _header({"latents": _entry()}, bytes(24)),
        "overlapping offsets": _header(
            {"__metadata__": _METADATA, "latents": _entry(), "momentum": _entry(offsets=[8, 32])}, bytes(32)
        ),
        "same bytes twice": _header({"__metadata__": _METADATA, "latents": _entry(), "momentum": _entry()}, bytes(24)),
        "offsets backwards": _header({"__metadata__": _METADATA, "latents": _entry(offsets=[24, 0])}, bytes(24)),
        "offsets negative": _header({"__metadata__": _METADATA, "latents": _entry(offsets=[-24, 0])}, bytes(24)),
        "offsets beyond the end": _header({"__metadata__": _METADATA, "latents": _entry(offsets=[24, 48])}, bytes(24)),
        "offsets not numbers": _header({"__metadata__": _METADATA, "latents": _entry(offsets=["0", True])}, bytes(24)),
        "a hole": _header({"__metadata__": _METADATA, "latents": _entry(offsets=[4, 28])}, bytes(28)),
        "bytes behind": tensor_file() + b"\0",
        "bytes missing": tensor_file()[:-1],
        "shape of 2^93": _header({"__metadata__": _METADATA, "latents": _entry([2**31, 2**31, 2**31])}, bytes(24)),
        "shape of zeros": _header({"__metadata__": _METADATA, "latents": _entry([0, 0, 0], [0, 0])}),
        "shape negative": _header({"__metadata__": _METADATA, "latents": _entry([-1, -2, 3])}, bytes(24)),
        "shape of floats": _header({"__metadata__": _METADATA, "latents": _entry([1.0, 2.0, 3.0])}, bytes(24)),
        "shape of booleans": _header({"__metadata__": _METADATA, "latents": _entry([True, 2, 3])}, bytes(24)),
        "shape of a thousand": _header({"__metadata__": _METADATA, "latents": _entry([1] * 1000, [0, 4])}, bytes(4)),
        "shape nested": _header({"__metadata__": _METADATA, "latents": _entry([[1], [2], [3]])}, bytes(24)),
        "shape of two": tensor_file((20, 24)),
        "shape of four": tensor_file((1, 1, 20, 24)),
        "shape of 17 items": tensor_file((17, 2, 3), seeds=[1] * 17),
        "shape too wide": tensor_file((1, 1, 2000)),
        "dtype unknown": _header({"__metadata__": _METADATA, "latents": _entry(dtype="F4096")}, bytes(24)),
        "dtype a list": _header({"__metadata__": _METADATA, "latents": _entry(dtype=["F32"])}, bytes(24)),
        "dtype of whole numbers": _header({"__metadata__": _METADATA, "latents": _entry(dtype="I32")}, bytes(24)),
        "more than is asked of a tensor": _header({"__metadata__": _METADATA, "latents": _entry(code="x")}, bytes(24)),
        "NaN": tensor_file(data=_NAN * 480),
        "infinity": tensor_file(data=bytes(4 * 479) + b"\0\0\x80\x7f"),
        "NaN in half precision": tensor_file(data=b"\0\x7e" * 480, dtype="float16"),
        "NaN in bfloat16": tensor_file(data=b"\xc0\x7f" * 480, dtype="bfloat16"),
        "named like a path": tensor_file(name="../../latents"),
        "named by nobody": tensor_file(name=""),
        "named with NUL": tensor_file(name="latents\0"),
        "of another program": _header({"__metadata__": {"format": "pt"}, "latents": _entry()}, bytes(24)),
        **{f"provenance {name}": _with_provenance(text) for name, text in _PROVENANCES.items()},
        **{f"provenance with {name}": tensor_file(**change) for name, change in _CHANGES.items()},
    }


def _with_provenance(text: str) -> bytes:
    return _header({"__metadata__": {"format": "reprise", "provenance": text}, "latents": _entry()}, bytes(24))


_PROVENANCES = {
    "missing": "",
    "not JSON": "caption=x",
    "a list": "[]",
    "NaN": "NaN",
    "brackets": "[" * 100_000,
    "half": json.dumps(provenance())[:50],
    "null": "null",
}
_CHANGES: dict[str, dict[str, Any]] = {
    "an owner": {"owner": 1},
    "NaN as frame rate": {"frame_rate": math.nan},
    "frame rate 0": {"frame_rate": 0},
    "a frame rate of text": {"frame_rate": "20"},
    "a caption of 100,000": {"caption": "a" * 100_000},
    "a caption with NUL": {"caption": "a\0"},
    "a caption of half a pair": {"caption": "\ud800"},
    "a caption of a list": {"caption": ["a"]},
    "a seed of text": {"seeds": ["7"]},
    "a seed beyond": {"seeds": [2**80]},
    "a nested parameter": {"params": {"a": {"b": {}}}},
    "a parameter of infinity": {"params": {"a": math.inf}},
    "a thousand parameters": {"params": {f"p{n}": n for n in range(1000)}},
    "a schedule without steps": {"schedule": {}},
    "a schedule of text": {"schedule": "1, 0.5"},
    "NaN as timestep": {
        "schedule": {"steps": 2, "shift": 3.0, "timesteps": [math.nan], "requested": 1.0, "effective": 1.0}
    },
    "a checkpoint beyond its schedule": {"checkpoint_step": 2},
    "a checkpoint of true": {"checkpoint_step": True},
    "a parent of text": {"parent": "x"},
    "a parent like a path": {"parent": {"id": "../x", "sample_index": 0, "level": 0.5, "digest": "0" * 64}},
    "an id of text": {"id": "x"},
    "a time of nowhere": {"created_at": "2026-01-01T00:00:00"},
    "another version": {"version": 2},
    "a version of true": {"version": [1]},
    "a variant of nothing": {"model_variant": ""},
}


def damaged(draw: Callable[[Any], Any]) -> bytes:
    """Return a file that was good, with some of its bytes changed, left out or put in."""
    content = bytearray(tensor_file((1, 4, 3)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(content)))
        end = place + draw(st.integers(0, 8))
        content[place:end] = draw(st.binary(max_size=8))
    return bytes(content)
