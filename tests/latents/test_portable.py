"""Portable files: what one studio exports another imports, and nothing else gets in."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable
from io import BytesIO, StringIO
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from hypothesis import HealthCheck, given, strategies
from hypothesis import settings as hypothesis_settings
from pytest_django import Settings

from latents import store, tensorfile
from latents.errors import ImportRefused, ImportTooLarge
from latents.models import HeatMap, LatentRecord
from latents.portable import export_file, import_file
from latents.provenance import Parentage
from latents.storage import DurableFileSystemStorage
from tests.latents.conftest import make_provenance, random_latents

MakeRecord = Callable[..., LatentRecord]


def exported(record: LatentRecord) -> BytesIO:
    file = BytesIO()
    export_file(record, file)
    return file


def repacked(record: LatentRecord, tensors: dict[str, torch.Tensor] | None = None, **provenance: Any) -> BytesIO:
    """Return the record's file with other tensors or another provenance."""
    file = exported(record)
    header = tensorfile.read_header(file, record.size_bytes)
    raw = {name: place.read(file) for name, place in header.tensors.items()}
    if tensors is not None:
        raw = {name: store.to_raw(tensor) for name, tensor in tensors.items()}
    document = json.loads(header.metadata["provenance"]) | provenance
    metadata = {"format": "reprise", "provenance": json.dumps(document)}
    return BytesIO(tensorfile.build(raw, metadata))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_exported_latents_can_be_imported_by_somebody_else(alice: User, bob: User, dtype: torch.dtype) -> None:
    record = store.save(random_latents().to(dtype), make_provenance(), owner=alice)
    copy = import_file(exported(record), bob)
    assert (copy.owner, copy.pk != record.pk) == (bob, True)
    assert torch.equal(store.load(copy), store.load(record))
    for field in ("model_variant", "caption", "seeds", "params", "schedule", "runtime", "item_digests", "dtype"):
        assert getattr(copy, field) == getattr(record, field)
    assert HeatMap.objects.filter(record=copy).exists()


def test_checkpoint_keeps_its_momentum_and_step(alice: User) -> None:
    latents = random_latents()
    record = store.save(latents, make_provenance(checkpoint_step=1), owner=alice, momentum=latents * 2)
    copy = import_file(exported(record), alice)
    assert (copy.kind, copy.checkpoint_step, copy.remaining_timesteps) == ("checkpoint", 1, [0.75])
    momentum = store.load_item(copy, 1).momentum
    assert momentum is not None
    assert torch.equal(momentum, latents[1] * 2)


def test_import_lives_as_long_as_what_is_made_here(record: LatentRecord, bob: User, settings: Settings) -> None:
    from datetime import timedelta

    settings.REPRISE_LATENT_TTL = timedelta(days=30)
    copy = import_file(exported(record), bob)
    assert copy.expires_at == copy.created_at + timedelta(days=30)
    assert not copy.pinned


def child_of(parent: LatentRecord, owner: User, **changes: Any) -> LatentRecord:
    parentage = {"id": parent.pk, "sample_index": 1, "level": 0.5, "digest": parent.item_digests[1]}
    return store.save(random_latents(), make_provenance(parent=Parentage(**parentage | changes)), owner=owner)


def test_parent_is_linked_among_ones_own(record: LatentRecord, alice: User) -> None:
    copy = import_file(exported(child_of(record, alice)), alice)
    assert (copy.parent_id, copy.parent_sample_index, copy.parent_level) == (record.pk, 1, 0.5)


def test_parent_of_somebody_else_is_not_linked(record: LatentRecord, alice: User, bob: User) -> None:
    copy = import_file(exported(child_of(record, alice)), bob)
    assert copy.parent_id is None
    assert copy.parent_digest == record.item_digests[1]


@pytest.mark.parametrize("changes", [{"digest": "0" * 64}, {"sample_index": 0}, {"sample_index": 9}])
def test_parent_that_is_another_one_is_not_linked(record: LatentRecord, alice: User, changes: dict[str, Any]) -> None:
    assert import_file(exported(child_of(record, alice, **changes)), alice).parent_id is None


LATENTS = random_latents()
REFUSED_TENSORS: list[tuple[dict[str, torch.Tensor], str]] = [
    ({}, "no tensor 'latents'"),
    ({"momentum": LATENTS}, "no tensor 'latents'"),
    ({"latents": LATENTS, "weights": LATENTS}, "more than 'latents' and 'momentum'"),
    ({"latents": LATENTS, "momentum": LATENTS}, "only a checkpoint has momentum"),
    ({"latents": LATENTS[0]}, r"must be \[batch, frames, channels\]"),
    ({"latents": torch.zeros(17, 1, 1)}, "of at most"),
    ({"latents": torch.zeros(1, 60_001, 1)}, "of at most"),
    ({"latents": torch.zeros(1, 1, 1025)}, "of at most"),
    ({"latents": LATENTS[:1]}, "1 items and 2 seeds"),
    ({"latents": LATENTS * float("nan")}, "NaN or infinite"),
    ({"latents": (LATENTS * float("inf")).bfloat16()}, "NaN or infinite"),
]


@pytest.mark.parametrize(("tensors", "message"), REFUSED_TENSORS)
def test_tensors_that_cannot_be_latents_are_refused(
    record: LatentRecord, bob: User, tensors: dict[str, torch.Tensor], message: str
) -> None:
    with pytest.raises(ImportRefused, match=f"^This file cannot be imported: .*{message}"):
        import_file(repacked(record, tensors), bob)
    assert LatentRecord.objects.count() == 1


REFUSED_PROVENANCE: list[tuple[dict[str, Any], str]] = [
    ({"owner": "alice"}, "must have exactly"),
    ({"seeds": [1]}, "2 items and 1 seeds"),
    ({"checkpoint_step": 2}, "schedule ends before the checkpoint"),
    ({"frame_rate": -1}, "'frame_rate' must be a number from 0.1 to 1000"),
]


@pytest.mark.parametrize(("provenance", "message"), REFUSED_PROVENANCE)
def test_provenance_that_cannot_be_is_refused(
    record: LatentRecord, bob: User, provenance: dict[str, Any], message: str
) -> None:
    with pytest.raises(ImportRefused, match=message):
        import_file(repacked(record, **provenance), bob)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a safetensors file"),
        (b"PK\x03\x04" + b"x" * 100, "it is a zip archive"),
        (b"\x80\x04\x95" + b"x" * 100, "it is a pickle"),
        (tensorfile.build({"latents": store.to_raw(LATENTS)}, {}), "not written by Reprise"),
        (tensorfile.build({"latents": store.to_raw(LATENTS)}, {"format": "reprise"}), "not JSON"),
    ],
    ids=["empty", "zip", "pickle", "another program's", "without provenance"],
)
def test_other_files_are_refused(bob: User, content: bytes, message: str) -> None:
    with pytest.raises(ImportRefused, match=message):
        import_file(BytesIO(content), bob)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(data=strategies.data())
def test_changed_bytes_are_refused_or_harmless(record: LatentRecord, bob: User, data: strategies.DataObject) -> None:
    content = bytearray(exported(record).getvalue())
    for _ in range(data.draw(strategies.integers(1, 4))):
        content[data.draw(strategies.integers(0, len(content) - 1))] = data.draw(strategies.integers(0, 255))
    try:
        copy = import_file(BytesIO(content), bob)
    except ImportRefused:
        return
    store.verify(copy)
    assert copy.owner == bob


def test_file_larger_than_the_limit_is_not_read(record: LatentRecord, bob: User, settings: Settings) -> None:
    file = exported(record)
    settings.REPRISE_MAX_UPLOAD_BYTES = len(file.getvalue()) - 1
    with pytest.raises(ImportTooLarge, match="at most"):
        import_file(file, bob)


def test_import_stops_where_the_owners_space_ends(record: LatentRecord, bob: User, settings: Settings) -> None:
    file = exported(record)
    settings.REPRISE_MAX_STORED_BYTES = 2 * record.size_bytes + 50
    import_file(file, bob)
    import_file(file, bob)
    with pytest.raises(ImportTooLarge, match="more than the"):
        import_file(file, bob)


def run(*arguments: str | Path) -> str:
    out = StringIO()
    call_command(*map(str, arguments), stdout=out)
    return out.getvalue()


def test_commands_hand_a_latent_on(record: LatentRecord, bob: User, tmp_path: Path) -> None:
    file = tmp_path / "take.safetensors"
    assert run("export_latent", record.pk, file).startswith(f"Wrote {file} (")
    new_id = run("import_latent", file, "--user", "bob").strip()
    copy = LatentRecord.objects.get(pk=new_id)
    assert copy.owner == bob
    assert torch.equal(store.load(copy), random_latents())


def test_imports_belong_to_the_local_user_in_local_mode(record: LatentRecord, tmp_path: Path) -> None:
    run("export_latent", record.pk, tmp_path / "take.safetensors")
    copy = LatentRecord.objects.get(pk=run("import_latent", tmp_path / "take.safetensors").strip())
    assert copy.owner.username == "local"


def test_commands_say_in_one_sentence_why_not(record: LatentRecord, tmp_path: Path, settings: Settings) -> None:
    file = tmp_path / "take.safetensors"
    unknown = uuid.uuid4()
    with pytest.raises(CommandError, match=f"^Latent '{unknown}' not found or expired$"):
        run("export_latent", unknown, file)
    with pytest.raises(CommandError, match=r"^Latent 'nonsense' not found or expired$"):
        run("export_latent", "nonsense", file)
    assert not file.exists()
    with pytest.raises(CommandError, match="cannot be imported: No such file"):
        run("import_latent", file)
    file.write_bytes(b"mine")
    with pytest.raises(CommandError, match="cannot be written: File exists"):
        run("export_latent", record.pk, file)
    assert file.read_bytes() == b"mine"
    with pytest.raises(CommandError, match=r"^This file cannot be imported: it is not a safetensors file"):
        run("import_latent", file)
    with pytest.raises(CommandError, match=r"^No active user 'nobody'$"):
        run("import_latent", file, "--user", "nobody")
    pipe, other_end = os.pipe()
    os.close(other_end)
    with pytest.raises(CommandError, match=r"cannot be imported: .*not seekable"):
        run("import_latent", f"/dev/fd/{pipe}")
    os.close(pipe)
    settings.REPRISE_MODE = "server"
    with pytest.raises(CommandError, match=r"^Say whose it is: --user NAME$"):
        run("import_latent", file)


def test_disk_that_is_full_leaves_no_half_export(
    record: LatentRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(record: LatentRecord, target: IO[bytes]) -> None:
        target.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("latents.management.commands.export_latent.export_file", fill)
    with pytest.raises(CommandError, match=r"take\.safetensors cannot be written: No space left on device$"):
        run("export_latent", record.pk, tmp_path / "take.safetensors")
    assert not list(tmp_path.glob("take*"))


def test_disk_that_is_full_stops_an_import(
    record: LatentRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*args: object) -> None:
        raise OSError(28, "No space left on device")

    run("export_latent", record.pk, tmp_path / "take.safetensors")
    monkeypatch.setattr(DurableFileSystemStorage, "_write", fill)
    with pytest.raises(CommandError, match=r"^The disk is full"):
        run("import_latent", tmp_path / "take.safetensors")


def test_damaged_latent_is_not_exported(record: LatentRecord, tmp_path: Path) -> None:
    from django.core.files.storage import storages

    path = Path(storages["latents"].path(record.file))
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(CommandError, match="is damaged: its checksum differs"):
        run("export_latent", record.pk, tmp_path / "take.safetensors")
    assert not (tmp_path / "take.safetensors").exists()
