"""One take from request to sound, on a tiny model."""

import io
import json
import math
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from django.contrib.auth.models import User
from django.core.files.storage import storages
from tinytag import TinyTag

from generation import takes
from generation.engine.decoding import DecodeOutOfMemory
from generation.engine.music_model import MusicModel
from generation.forms import GenerationForm
from generation.takes import InvalidParams, NotEnoughMemory, Take, TakeRequest, WeightsMissing, decode_take, make_take
from latents import store
from latents.errors import LatentDamaged, LatentNotFound
from latents.models import LatentRecord
from latents.portable import export_file, import_file

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("tiny_models")]


@pytest.fixture
def ask(alice: User) -> Callable[..., TakeRequest]:
    """Return a function that asks for 2 s of music with seed 7, and whatever else is given."""

    def ask(**fields: Any) -> TakeRequest:
        named = fields.get("init_latent_id")
        if isinstance(named, LatentRecord):
            fields["init_latent_id"] = str(named.pk)
        else:
            fields.setdefault("duration", 2)
        form = GenerationForm.from_json({"caption": "warm lofi", "seed": 7, **fields}, user=alice)
        assert form.is_valid(), form.sentences
        assert form.take_request
        return form.take_request

    return ask


@pytest.fixture
def make(alice: User, ask: Callable[..., TakeRequest]) -> Callable[..., Take]:
    def make(**fields: Any) -> Take:
        return make_take(ask(**fields), owner=alice)

    return make


def audio_bytes(name: str) -> bytes:
    with storages["audio"].open(name) as file:
        return file.read()


def audio_files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "audio").rglob("*") if path.is_file()]


def test_a_take_stores_its_latents_and_a_sample_for_each_item(make: Callable[..., Take]) -> None:
    take = make(batch_size=2)
    assert (take.record.batch_size, take.record.frames, take.record.seeds) == (2, 50, [7, 8])
    assert [(sample.index, sample.latent_index, sample.seed) for sample in take.samples] == [(0, 0, 7), (1, 1, 8)]
    for sample in take.samples:
        content = audio_bytes(sample.audio_file)
        sound, sample_rate = soundfile.read(io.BytesIO(content))
        assert sound.shape == (96_000, 2)
        assert (sample.sample_rate, sample.duration_s) == (sample_rate, 2.0) == (48_000, 2.0)
        assert (sample.size_bytes, sample.latent) == (len(content), take.record)
        assert 0.5 < max(sample.peaks) <= 1
        assert sample.loudness_lufs is not None


def test_the_flac_says_what_made_it(make: Callable[..., Take]) -> None:
    take = make(caption="warm lofi\nwith rain", bpm=90, keyscale="A minor")
    tags = TinyTag.get(file_obj=io.BytesIO(audio_bytes(take.samples[0].audio_file)))
    assert tags.title == "warm lofi"
    said = json.loads(str(tags.comment))
    assert said["latent_id"] == str(take.record.pk)
    assert said["seed"] == 7
    assert said["params"] == take.record.params


def test_the_record_says_how_it_came_about(make: Callable[..., Take], ask: Callable[..., TakeRequest]) -> None:
    parent = make().record
    request = ask(init_latent_id=parent, t_start=0.6, seed=9)
    record = make(init_latent_id=parent, t_start=0.6, seed=9).record
    assert (record.parent, record.parent_sample_index, record.parent_level) == (parent, 0, 0.6)
    assert record.parent_digest == parent.item_digests[0]
    assert record.params == request.to_params()
    assert record.schedule == {
        "steps": 4,
        "shift": 1.0,
        "timesteps": [0.6, 0.5, 0.25],
        "requested": 0.6,
        "effective": 0.6,
    }
    assert record.runtime["device"] == "cpu"
    assert record.runtime["dtype"] == "float32"
    assert record.runtime["threads"] == torch.get_num_threads()
    assert (record.model_variant, record.frame_rate, record.caption) == ("tiny", 25.0, "warm lofi")


def test_a_latent_that_is_ignored_is_no_parent_and_changes_no_bit(make: Callable[..., Take]) -> None:
    parent = make(seed=1).record
    plain, resumed = make(), make(init_latent_id=parent, t_start=1.0, duration=2)
    assert resumed.record.parent is None
    assert resumed.record.item_digests == plain.record.item_digests
    assert resumed.samples[0].peaks == plain.samples[0].peaks


def test_a_copy_has_its_parent_s_bits(make: Callable[..., Take]) -> None:
    parent = make(batch_size=2).record
    copy = make(init_latent_id=parent, resume_sample_index=1, t_start=0).record
    assert copy.item_digests == [parent.item_digests[1]]
    assert (copy.parent, copy.parent_sample_index, copy.parent_level) == (parent, 1, 0.0)


def test_a_checkpoint_is_kept_and_its_continuation_is_the_uninterrupted_run(make: Callable[..., Take]) -> None:
    uninterrupted = make(checkpoint_step=2, guidance_scale=3)
    checkpoint = uninterrupted.checkpoint
    assert checkpoint is not None
    assert (checkpoint.kind, checkpoint.checkpoint_step, checkpoint.checkpoint_level) == ("checkpoint", 2, 0.5)
    assert store.load_item(checkpoint, 0).momentum is not None
    continued = make(init_latent_id=checkpoint, guidance_scale=3).record
    assert continued.item_digests == uninterrupted.record.item_digests
    assert (continued.parent, continued.parent_level) == (checkpoint, 0.5)


def test_every_item_of_a_batch_is_a_variation_of_the_item_that_was_named(make: Callable[..., Take]) -> None:
    parent = make(batch_size=2).record
    other, named = store.load(parent)
    record = make(init_latent_id=parent, resume_sample_index=1, t_start=0.1, batch_size=3).record
    variations = store.load(record)
    assert variations.shape == (3, 50, 8)
    assert len(set(record.item_digests)) == 3
    for variation in variations:
        assert 0 < float((variation - named).norm()) < float((variation - other).norm()) / 2


@pytest.mark.parametrize("frames", [56, 112])  # ceil((frames / 25) * 25) is one more
def test_a_resume_has_the_frames_of_its_parent(
    make: Callable[..., Take], store_take: Callable[..., LatentRecord], frames: int
) -> None:
    parent = store_take(frames=frames, params={})
    assert parent.frames != math.ceil(parent.duration_s * parent.frame_rate)
    for t_start in (0.0, 0.5):
        assert make(init_latent_id=parent, t_start=t_start).record.frames == frames


def test_a_latent_that_was_handed_on_is_resumed_with_the_same_bits(make: Callable[..., Take], alice: User) -> None:
    original = make(batch_size=2).record
    file = io.BytesIO()
    export_file(original, file)
    copy = import_file(file, alice)
    one, other = (make(init_latent_id=parent, resume_sample_index=1, t_start=0.5).record for parent in (original, copy))
    assert one.item_digests == other.item_digests
    assert one.params["init_latent_id"] != other.params["init_latent_id"]


def test_latents_are_stored_before_they_are_decoded(alice: User, ask: Callable[..., TakeRequest]) -> None:
    heard: list[Any] = []

    def on_stored(record: LatentRecord, checkpoint: LatentRecord | None) -> None:
        store.verify(record)
        assert checkpoint is not None
        store.verify(checkpoint)
        heard.append("stored")

    take = make_take(
        ask(checkpoint_step=1),
        owner=alice,
        on_phase=heard.append,
        on_step=lambda step, steps: heard.append((step, steps)),
        on_stored=on_stored,
        on_tile=lambda tile, tiles: heard.append("tile"),
    )
    steps = [(step, 4) for step in range(5)]
    assert heard == ["load", "denoise", *steps, "store", "stored", "decode", "tile"]
    assert list(take.timing) == ["load", "denoise", "store", "decode"]


@pytest.mark.parametrize("at", ["denoise", "store"])
def test_what_is_stopped_before_it_is_stored_leaves_nothing(
    at: str, alice: User, ask: Callable[..., TakeRequest], tmp_path: Path
) -> None:
    def stop(phase: str) -> None:
        if phase == at:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        make_take(ask(), owner=alice, on_phase=stop)
    assert not LatentRecord.objects.exists()
    assert not audio_files(tmp_path)


def test_a_failed_decode_keeps_the_latents_and_can_be_finished_later(
    alice: User, ask: Callable[..., TakeRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = ask(batch_size=2)
    whole = make_take(request, owner=alice)
    decode = MusicModel.decode
    calls: list[int] = []

    def fail_second(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise DecodeOutOfMemory("Not enough memory")
        return decode(*args, **kwargs)

    monkeypatch.setattr(MusicModel, "decode", fail_second)
    stored: list[LatentRecord] = []
    files = audio_files(tmp_path)
    with pytest.raises(DecodeOutOfMemory):
        make_take(request, owner=alice, on_stored=lambda record, _: stored.append(record))
    assert audio_files(tmp_path) == files

    phases: list[str] = []
    take = decode_take(request, stored[0], on_phase=phases.append)
    assert phases == ["load", "decode"]
    assert take.record == stored[0]
    assert [sample.peaks for sample in take.samples] == [sample.peaks for sample in whole.samples]


def test_a_parent_that_rotted_in_the_queue_is_refused_by_the_worker(
    alice: User, ask: Callable[..., TakeRequest], take: LatentRecord
) -> None:
    request = ask(init_latent_id=take, t_start=0.5)
    path = Path(storages["latents"].path(take.file))
    content = bytearray(path.read_bytes())
    content[-100] ^= 1  # in the second item
    path.write_bytes(content)
    make_take(request, owner=alice)
    with pytest.raises(LatentDamaged, match="is damaged: the checksum of item 1 differs"):
        make_take(ask(init_latent_id=take, t_start=0.5, resume_sample_index=1), owner=alice)


def test_a_take_may_live_shorter_than_others(make: Callable[..., Take]) -> None:
    assert make().record.expires_at is None
    take = make(latent_ttl="12h", checkpoint_step=1)
    for record in (take.record, take.checkpoint):
        assert record is not None
        assert record.expires_at is not None
        assert record.expires_at - record.created_at == timedelta(hours=12)


def test_a_model_whose_weights_are_gone_is_said(
    alice: User, ask: Callable[..., TakeRequest], settings: Any, tmp_path: Path
) -> None:
    request = ask()
    settings.REPRISE_MODELS = {"tiny": str(tmp_path / "gone")}
    with pytest.raises(WeightsMissing, match=r"Fetch them with: manage\.py fetch_model tiny"):
        make_take(request, owner=alice)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_run_that_does_not_fit_says_what_to_ask_for(
    error: Exception, alice: User, ask: Callable[..., TakeRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(MusicModel, "denoise", fail)
    with pytest.raises(NotEnoughMemory) as refused:
        make_take(ask(batch_size=16), owner=alice)
    assert str(refused.value) == "Not enough memory for 16 takes of 2 s. Ask for fewer or shorter ones."


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"colour": "blue"}, "not those of this version"),
        ({"seed": None}, "'seed' cannot be None"),
        ({"caption": 5}, "'caption' cannot be 5"),
        ({"duration": "20"}, "'duration' cannot be '20'"),
    ],
)
def test_parameters_that_describe_no_take_are_refused(
    ask: Callable[..., TakeRequest], change: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidParams, match=sentence):
        TakeRequest.from_params(ask().to_params() | change, None)


def test_parameters_without_their_parent_are_refused(
    ask: Callable[..., TakeRequest], take: LatentRecord, store_take: Callable[..., LatentRecord]
) -> None:
    params = ask(init_latent_id=take, t_start=0.5).to_params()
    for parent in (None, store_take()):
        with pytest.raises(LatentNotFound):
            TakeRequest.from_params(params, parent)


@pytest.mark.parametrize("rest", [[0.5, 0.5], [0.4, 0.5], [1.0, 0.5], [0.9999999, 0.5], [0.5, 0.0], [0.5, 0.0000001]])
def test_a_checkpoint_whose_schedule_does_not_fall_is_refused(
    store_take: Callable[..., LatentRecord], rest: list[float]
) -> None:
    schedule = {"steps": 3, "shift": 1.0, "timesteps": [1.0, *rest], "requested": 1.0, "effective": 1.0}
    record = store_take(checkpoint_step=1, schedule=schedule)
    for steps in (3, 4):  # the stored levels, and a schedule of their own from there
        with pytest.raises(takes.PlanError, match="is damaged: its schedule does not fall"):
            takes.plan_take(takes.get_variant("tiny"), steps=steps, shift=1.0, t_start=None, source=record)
