"""The store: what is saved comes back with the same bits, or with the reason why not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors
import torch
from django.contrib.auth.models import User
from django.core.files.storage import InMemoryStorage, storages

from latents import store
from latents.errors import InvalidLatents, LatentDamaged, LatentFileMissing, SampleIndexOutOfRange
from latents.models import LatentRecord
from latents.provenance import Parentage
from tests.latents.conftest import make_provenance, random_latents

MakeRecord = Callable[..., LatentRecord]


def path_of(record: LatentRecord) -> Path:
    return Path(storages["latents"].path(record.file))


def bytes_read() -> int:
    """Count the bytes that this process has asked the kernel for since its start."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_latents_come_back_with_the_same_bits(alice: User, dtype: torch.dtype) -> None:
    latents = random_latents().to(dtype)
    record = store.save(latents, make_provenance(), owner=alice)
    assert torch.equal(store.load(record), latents)
    assert torch.equal(store.load_item(record, 1).latents, latents[1])
    assert record.dtype == str(dtype).removeprefix("torch.")


def test_latents_that_are_a_view_are_stored_as_they_look(alice: User) -> None:
    latents = random_latents(frames=4, channels=30).transpose(1, 2)
    assert torch.equal(store.load(store.save(latents, make_provenance(), owner=alice)), latents)


def test_row_says_what_was_stored(alice: User) -> None:
    parentage = Parentage(id=None, sample_index=1, level=0.5, digest="0" * 64)
    record = store.save(random_latents(), make_provenance(parent=parentage), owner=alice)
    record = LatentRecord.objects.get(pk=record.pk)
    assert (record.batch_size, record.frames, record.channels, record.dtype) == (2, 30, 4, "float32")
    assert (record.model_variant, record.kind, record.seeds) == ("sketch", "take", [7, 8])
    assert (record.parent_id, record.parent_sample_index, record.parent_level) == (None, 1, 0.5)
    assert record.size_bytes == path_of(record).stat().st_size
    assert record.sha256 == hashlib.sha256(path_of(record).read_bytes()).hexdigest()


def test_digest_of_an_item_is_that_of_its_numbers(alice: User) -> None:
    latents = random_latents()
    record = store.save(latents, make_provenance(), owner=alice)
    assert record.item_digests == [hashlib.sha256(item.numpy().tobytes()).hexdigest() for item in latents]
    assert store.load_item(record, 1).digest == record.item_digests[1]


def test_file_is_a_safetensors_file_that_explains_itself(record: LatentRecord) -> None:
    with safetensors.safe_open(path_of(record), framework="pt") as file:
        assert torch.equal(file.get_tensor("latents"), random_latents())
        provenance = json.loads(file.metadata()["provenance"])
    assert provenance["id"] == str(record.pk)
    assert provenance["seeds"] == [7, 8]
    assert provenance["params"]["bpm"] == 84


def test_momentum_is_kept_beside_a_checkpoint(alice: User) -> None:
    latents, momentum = random_latents(), random_latents() * 2
    record = store.save(latents, make_provenance(checkpoint_step=1), owner=alice, momentum=momentum)
    item = store.load_item(record, 1)
    assert item.momentum is not None
    assert torch.equal(item.latents, latents[1])
    assert torch.equal(item.momentum, momentum[1])
    assert record.kind == "checkpoint"
    assert record.checkpoint_level == 0.75


def test_one_item_is_read_without_the_others(alice: User) -> None:
    latents = random_latents(batch_size=16, frames=2000, channels=16)
    record = store.save(latents, make_provenance(), owner=alice)
    item_bytes = 2000 * 16 * 4
    before = bytes_read()
    item = store.load_item(record, 9)
    read = bytes_read() - before
    assert torch.equal(item.latents, latents[9])
    assert read < item_bytes + 20_000  # the header, and what the buffer reads ahead


def test_item_can_be_changed_by_its_reader(record: LatentRecord) -> None:
    store.load_item(record, 0).latents.zero_()
    assert torch.equal(store.load_item(record, 0).latents, random_latents()[0])


@pytest.mark.parametrize("index", [-1, 2, 3])
def test_sample_index_out_of_range_is_refused(record: LatentRecord, index: int) -> None:
    with pytest.raises(SampleIndexOutOfRange, match=rf"^Sample index {index} out of range \(latent has 2 items\)$"):
        store.load_item(record, index)


def test_missing_file_is_not_found(record: LatentRecord) -> None:
    path_of(record).unlink()
    for read in (store.check, store.verify, store.load, lambda record: store.load_item(record, 0)):
        with pytest.raises(LatentFileMissing, match=f"^Failed to load latent tensor '{record.pk}'$"):
            read(record)


def flip_last_byte(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def other_shape(content: bytes) -> bytes:
    return content.replace(b'"shape":[2,30,4]', b'"shape":[2,4,30]')


def other_dtype(content: bytes) -> bytes:
    return content.replace(b'"dtype":"F32","shape":[2,30,4]', b'"dtype":"F16","shape":[4,30,4]')


def test_momentum_of_another_shape_is_seen_before_any_work(alice: User) -> None:
    latents = random_latents()
    record = store.save(latents, make_provenance(checkpoint_step=1), owner=alice, momentum=latents * 2)
    path = path_of(record)
    before, after = path.read_bytes().split(b'"momentum"')
    path.write_bytes(b'"momentum"'.join([before, other_shape(after)]))
    for read in (store.check, store.verify, store.load, lambda record: store.load_item(record, 0)):
        with pytest.raises(LatentDamaged, match=r"expected float32 \[2, 30, 4\]"):
            read(record)


VISIBLE_DAMAGE = [
    (lambda content: content[:-1], "bytes, expected"),
    (lambda content: content + b"\0", "bytes, expected"),
    (lambda content: b"", "it has 0 bytes"),
    (lambda content: b"x" * len(content), "not a safetensors file"),
    (lambda content: content[:8] + b"x" + content[9:], "header is not JSON"),
    (other_shape, r"expected float32 \[2, 30, 4\]"),
    (other_dtype, r"its latents are float16 \[4, 30, 4\], expected float32"),
]


@pytest.mark.parametrize(("damage", "message"), VISIBLE_DAMAGE)
def test_damage_is_seen_before_any_work(record: LatentRecord, damage: Callable[[bytes], bytes], message: str) -> None:
    path = path_of(record)
    content = path.read_bytes()
    path.write_bytes(damage(content))
    for read in (store.check, store.verify, store.load, lambda record: store.load_item(record, 0)):
        with pytest.raises(LatentDamaged, match=f"^Latent '{record.pk}' is damaged: .*{message}"):
            read(record)


def test_changed_bits_are_seen_by_whoever_reads_them(record: LatentRecord) -> None:
    path = path_of(record)
    path.write_bytes(flip_last_byte(path.read_bytes()))
    store.check(record)
    assert store.load_item(record, 0).latents.shape == (30, 4)
    for read in (store.verify, store.load, lambda record: store.load_item(record, 1)):
        with pytest.raises(LatentDamaged, match="checksum"):
            read(record)


def test_damage_is_remembered_until_the_file_is_whole_again(record: LatentRecord) -> None:
    path = path_of(record)
    whole = path.read_bytes()
    path.write_bytes(flip_last_byte(whole))
    with pytest.raises(LatentDamaged):
        store.load_item(record, 1)
    record.refresh_from_db()
    assert record.state() == LatentRecord.State.DAMAGED
    with pytest.raises(LatentDamaged, match="the checksum of item 1 differs"):
        store.check(record)
    path.write_bytes(whole)
    store.verify(record)
    record.refresh_from_db()
    assert record.state() == LatentRecord.State.LIVE


def test_values_that_are_not_finite_are_refused_when_read(record: LatentRecord) -> None:
    path = path_of(record)
    content = bytearray(path.read_bytes())
    content[-4:] = b"\x00\x00\xc0\x7f"
    path.write_bytes(content)
    item = bytes(content[-30 * 4 * 4 :])
    record.item_digests[1] = hashlib.sha256(item).hexdigest()  # as if it had been stored so
    with pytest.raises(LatentDamaged, match="NaN or infinite"):
        store.load_item(record, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_never_stored(alice: User, dtype: torch.dtype, value: float) -> None:
    latents = random_latents().to(dtype)
    latents[1, 2, 3] = value
    with pytest.raises(InvalidLatents, match="NaN or infinite"):
        store.save(latents, make_provenance(), owner=alice)
    assert not LatentRecord.objects.exists()
    assert not Path(storages["latents"].location).exists()


@pytest.mark.parametrize(
    "latents",
    [torch.zeros(30, 4), torch.zeros(17, 3, 4), torch.zeros(2, 0, 4), torch.zeros(2, 30, 4, dtype=torch.int32)],
    ids=["no batch", "batch too large", "nothing", "whole numbers"],
)
def test_tensor_that_cannot_be_latents_is_refused(alice: User, latents: torch.Tensor) -> None:
    with pytest.raises(InvalidLatents):
        store.save(latents, make_provenance(), owner=alice)


@pytest.mark.parametrize("momentum", [random_latents(frames=29), random_latents().half()], ids=["shape", "type"])
def test_momentum_that_is_not_like_its_latents_is_refused(alice: User, momentum: torch.Tensor) -> None:
    with pytest.raises(InvalidLatents, match=r"momentum .* must be like the latents, float32 \[2, 30, 4\]"):
        store.save(random_latents(), make_provenance(checkpoint_step=1), owner=alice, momentum=momentum)


def test_row_that_cannot_be_written_leaves_a_file_for_the_audit(alice: User) -> None:
    alice.pk = None
    with pytest.raises(ValueError, match="unsaved"):
        store.save(random_latents(), make_provenance(), owner=alice)
    assert not LatentRecord.objects.exists()
    assert len(list(Path(storages["latents"].location).rglob("*.safetensors"))) == 1


def test_any_storage_will_do(alice: User, settings: object) -> None:
    backends = storages.backends | {"latents": {"BACKEND": "django.core.files.storage.InMemoryStorage"}}
    settings.STORAGES = backends  # type: ignore[attr-defined]
    record = store.save(random_latents(), make_provenance(), owner=alice)
    assert isinstance(storages["latents"], InMemoryStorage)
    store.check(record)
    store.verify(record)
    assert torch.equal(store.load_item(record, 1).latents, random_latents()[1])
    storages["latents"].delete(record.file)
    with pytest.raises(LatentFileMissing):
        store.check(record)
