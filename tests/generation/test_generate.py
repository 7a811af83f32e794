"""The generate command: what it makes, prints, writes and refuses."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import soundfile
from django.contrib.auth.models import User
from django.core.files.storage import storages
from django.core.management import call_command
from django.core.management.base import CommandError
from pytest_django import Settings
from tinytag import TinyTag

from generation import downloads
from generation.engine.music_model import MusicModel
from generation.management.commands import generate
from generation.models import GenerationJob
from latents.errors import StorageFailed
from latents.models import LatentHold, LatentRecord

# The heartbeat of a running job writes from a thread of its own.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("tiny_models")]

MANAGE = Path(__file__).parents[2] / "manage.py"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that makes 2 s of music in an empty folder and returns what the command printed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> str:
        out = io.StringIO()
        words = [str(argument) for argument in arguments]
        if "--resume" not in words:
            words += ["--duration", "2"]
        call_command("generate", "warm lofi", *words, stdout=out)
        return out.getvalue()

    return run


def refusal(run: Callable[..., str], *arguments: object) -> str:
    with pytest.raises(CommandError) as refused:
        run(*arguments)
    assert refused.value.returncode == 1
    return str(refused.value)


def test_it_writes_a_file_and_says_what_it_did(run: Callable[..., str], tmp_path: Path) -> None:
    lines = run("--seed", 7, "--out", "take.flac").splitlines()
    latent = LatentRecord.objects.get()
    assert lines[:3] == [
        "take.flac: 2.0 s, seed 7",
        f"Latent {latent.pk}",
        "Started at level 1, 4 of 4 model calls",
    ]
    assert lines[3].startswith("Denoised in ")
    sound, sample_rate = soundfile.read(tmp_path / "take.flac")
    assert len(sound) / sample_rate == 2
    tags = TinyTag.get(tmp_path / "take.flac")
    said = json.loads(str(tags.comment))
    assert (tags.title, said["prompt"], said["seed"], said["latent_id"]) == (
        "warm lofi",
        "warm lofi",
        7,
        str(latent.pk),
    )
    assert [path.name for path in tmp_path.glob("*take*")] == ["take.flac"]


def test_json_says_all_of_it(run: Callable[..., str], tmp_path: Path) -> None:
    said = json.loads(
        run("--seed", 7, "--batch-size", 2, "--checkpoint-step", 2, "--out", tmp_path / "take.flac", "--json")
    )
    assert UUID(said.pop("latent_id")) == LatentRecord.objects.get(kind="take").pk
    assert UUID(said.pop("checkpoint_latent_id")) == LatentRecord.objects.get(kind="checkpoint").pk
    assert set(said.pop("timing")) == {"load", "denoise", "store", "decode"}
    assert said == {
        "samples": [
            {"path": str(tmp_path / "take-1.flac"), "index": 0, "seed": 7, "duration": 2.0},
            {"path": str(tmp_path / "take-2.flac"), "index": 1, "seed": 8, "duration": 2.0},
        ],
        "t_start": {"requested": 1.0, "effective": 1.0},
        "timesteps": [1.0, 0.75, 0.5, 0.25],
        "steps": 4,
        "shift": 1.0,
    }
    assert (tmp_path / "take-1.flac").stat().st_size > 0
    assert (tmp_path / "take-2.flac").stat().st_size > 0


def test_a_resume_says_where_it_started(run: Callable[..., str]) -> None:
    run("--model", "tiny-turbo", "--batch-size", 2)
    parent = LatentRecord.objects.get()
    printed = run("--model", "tiny-turbo", "--resume", parent.pk, "--sample-index", 1, "--t-start", 0.45, "--force")
    assert "Started at level 0.5 (0.45 was asked for), 2 of 8 model calls" in printed
    child = LatentRecord.objects.get(parent=parent)
    assert (child.parent_sample_index, child.parent_level) == (1, 0.5)


def test_a_checkpoint_is_named_and_can_be_continued(run: Callable[..., str]) -> None:
    printed = run("--seed", 3, "--checkpoint-step", 2)
    checkpoint = LatentRecord.objects.get(kind="checkpoint")
    assert f"Checkpoint {checkpoint.pk}" in printed
    printed = run("--seed", 3, "--resume", checkpoint.pk, "--force")
    assert "Started at level 0.5, 2 of 4 model calls" in printed
    takes = LatentRecord.objects.filter(kind="take")
    assert len({take.item_digests[0] for take in takes}) == 1


def test_the_take_appears_in_the_studio(run: Callable[..., str]) -> None:
    run("--bpm", 90)
    job = GenerationJob.objects.get()
    assert (job.status, job.owner.username, job.params["bpm"]) == ("succeeded", "local", 90)
    assert [sample.index for sample in job.samples.all()] == [0]
    assert not LatentHold.objects.exists()


def test_no_worker_takes_its_job(run: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    denoise = MusicModel.denoise
    claimed: list[GenerationJob | None] = []

    def claim_too(*args: Any, **kwargs: Any) -> Any:
        claimed.append(GenerationJob.objects.claim("", None))
        return denoise(*args, **kwargs)

    monkeypatch.setattr(MusicModel, "denoise", claim_too)
    run()
    assert claimed == [None]


@pytest.mark.parametrize("audio_format", ["wav", "mp3", "opus"])
def test_the_name_of_the_file_decides_its_format(run: Callable[..., str], tmp_path: Path, audio_format: str) -> None:
    run("--out", f"take.{audio_format}")
    assert soundfile.info(tmp_path / f"take.{audio_format}").duration == pytest.approx(2, abs=0.06)
    assert GenerationJob.objects.get().params["audio_format"] == audio_format


def test_a_format_without_a_file_name_names_the_file(run: Callable[..., str], tmp_path: Path) -> None:
    run("--format", "wav")
    assert soundfile.info(tmp_path / "take.wav").format == "WAV"


def test_files_are_overwritten_only_by_force(run: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "take-2.flac").write_text("mine")
    sentence = refusal(run, "--batch-size", 2)
    assert sentence == "'take-2.flac' is there already; --force overwrites it"
    assert (tmp_path / "take-2.flac").read_text() == "mine"
    assert not GenerationJob.objects.exists()
    run("--batch-size", 2, "--force")
    assert soundfile.info(tmp_path / "take-2.flac").duration == 2


def test_what_cannot_be_written_is_said_before_the_work(run: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "folder.flac").mkdir()
    assert refusal(run, "--out", "nowhere/take.flac") == "--out: there is no folder 'nowhere'"
    assert refusal(run, "--out", "folder.flac") == "--out: 'folder.flac' is a folder"
    assert refusal(run, "--out", "take.mp3", "--format", "wav") == "--out: must end in .wav, the format, not 'take.mp3'"
    for name in ("take", "take.aiff", ".flac", "."):
        assert refusal(run, "--out", name) == f"--out: must end in .flac, .wav, .mp3 or .opus, not '{name}'"
    too_long = "x" * 300
    assert (
        refusal(run, "--out", f"{too_long}.flac") == f"--out: '{too_long}.flac' cannot be written: File name too long"
    )
    assert (
        refusal(run, "--out", f"{too_long}/a.flac")
        == f"--out: '{too_long}/a.flac' cannot be written: File name too long"
    )
    assert not GenerationJob.objects.exists()


def test_the_longest_name_that_a_folder_takes_is_taken(run: Callable[..., str], tmp_path: Path) -> None:
    run("--out", "x" * 250 + ".flac")
    assert [len(path.name) for path in tmp_path.glob("x*")] == [255]


def test_a_name_that_is_no_text_is_written_and_said_as_far_as_it_is(run: Callable[..., str], tmp_path: Path) -> None:
    printed = run("--out", "caf\udce9.flac")  # how Python reads the Latin-1 of older systems
    assert printed.startswith("caf?.flac: 2.0 s")
    assert (tmp_path / "caf\udce9.flac").exists()


def test_every_option_reaches_the_request(run: Callable[..., str], bob: User) -> None:
    run(
        *("--user", "bob", "--lyrics", "la la", "--bpm", 90, "--keyscale", "a minor", "--timesignature", "3/4"),
        *("--steps", 3, "--shift", 2.5, "--guidance", 1.5, "--seed", 5, "--batch-size", 2, "--model", "tiny"),
        *("--checkpoint-step", 1, "--format", "wav"),
    )
    job = GenerationJob.objects.get()
    expected = {
        "lyrics": "la la",
        "bpm": 90,
        "keyscale": "A minor",
        "timesignature": "3",
        "inference_steps": 3,
        "shift": 2.5,
        "guidance_scale": 1.5,
        "seed": 5,
        "batch_size": 2,
        "model_variant": "tiny",
        "checkpoint_step": 1,
        "audio_format": "wav",
        "duration": 2.0,
    }
    assert job.params == job.params | expected
    assert job.owner == bob


def test_a_disk_that_is_full_leaves_no_half_file(
    run: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: Any, target: Any) -> None:
        target.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(generate.shutil, "copyfileobj", fail)
    sentence = refusal(run)
    assert sentence.startswith("'take.flac' could not be written: ")
    assert sentence.endswith("The take itself is kept in the studio.")
    assert not list(tmp_path.glob("*take.flac*")) + list(tmp_path.glob(".draft*"))
    assert GenerationJob.objects.get().status == "succeeded"


def test_a_store_that_is_full_is_said_too(run: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Other formats than FLAC are encoded when the file is written, and kept."""

    def fail(*args: object) -> None:
        raise StorageFailed(OSError(28, "No space left on device"))

    monkeypatch.setattr(downloads, "_keep", fail)
    assert refusal(run, "--format", "mp3") == (
        "'take.mp3' could not be written: The disk is full. Free some space, then try again. "
        "The take itself is kept in the studio."
    )


def test_each_refusal_is_one_plain_sentence(
    run: Callable[..., str], store_take: Callable[..., LatentRecord], settings: Settings, bob: User
) -> None:
    unknown = "00000000-0000-4000-8000-000000000000"
    take, checkpoint = store_take(), store_take(checkpoint_step=2)
    turbo, missing = store_take(model_variant="tiny-turbo"), store_take()
    storages["latents"].delete(missing.file)
    damaged = store_take()
    path = Path(storages["latents"].path(damaged.file))
    path.write_bytes(path.read_bytes()[:-1])
    foreign = store_take(owner=bob)
    table: list[tuple[list[object], str]] = [
        (["--resume", unknown], f"Latent '{unknown}' not found or expired"),
        (["--resume", foreign.pk, "--t-start", 0.5], f"Latent '{foreign.pk}' not found or expired"),
        (["--resume", missing.pk, "--t-start", 0.5], f"Failed to load latent tensor '{missing.pk}'"),
        (
            ["--resume", damaged.pk],
            f"Latent '{damaged.pk}' is damaged: it has {damaged.size_bytes - 1} bytes, expected {damaged.size_bytes}",
        ),
        (
            ["--resume", turbo.pk, "--t-start", 0.5],
            "Latent model mismatch: generated with 'tiny-turbo', current model is 'tiny'",
        ),
        (["--resume", take.pk, "--sample-index", 3], "Sample index 3 out of range (latent has 2 items)"),
        (["--t-start", 0.5], "Denoise below 1.0 needs a latent to resume from"),
        (["--sample-index", 0], "Denoise below 1.0 needs a latent to resume from"),
        (
            ["--resume", checkpoint.pk, "--t-start", 0.7],
            "Denoise cannot be 0.700 here: a checkpoint starts at 0.500",
        ),
        (["--resume", checkpoint.pk, "--batch-size", 2], "--batch-size: Must be 1 here: every copy would be the same."),
        (
            ["--resume", take.pk, "--t-start", 0.5, "--duration", 3],
            "--duration: Must be 2, the length of what is resumed, while Denoise is below 1.0.",
        ),
        (["--checkpoint-step", 4], "Checkpoint step must be 1 to 3 here, not 4"),
        (["--seed", -1], "--seed: Must be between 0 and 9223372036854775807."),
        (["--steps", "many"], "--steps: Enter a whole number."),
        (["--t-start", "nan"], "--t-start: Enter a number."),
        (["--bpm", 5], "--bpm: Must be between 30 and 300."),
        (["--keyscale", "H"], "--keyscale: Must be a key such as A minor or F# major."),
        (["--model", "nobody"], "--model: Must be one of tiny, tiny-turbo, absent."),
        (
            ["--model", "absent"],
            "The weights of 'absent' are not here. Fetch them with: manage.py fetch_model absent",
        ),
        (["--format", "aiff"], "--format: Must be one of flac, wav, mp3, opus."),
        (["--user", "nobody"], "No active user 'nobody'"),
        (["--user", "no text: \udcff"], "No active user 'no text: \udcff'"),  # how Python reads such bytes
    ]
    for arguments, sentence in table:
        assert refusal(run, *arguments, *(["--user", "alice"] if "--user" not in arguments else [])) == sentence
    assert not GenerationJob.objects.exists()


def test_server_mode_wants_to_know_whose_take_it_is(run: Callable[..., str], bob: User, settings: Settings) -> None:
    settings.REPRISE_MODE = "server"
    assert refusal(run) == "Say whose it is: --user NAME"
    run("--user", "bob")
    assert GenerationJob.objects.get().owner == bob


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_the_job_and_say_so(
    sent: signal.Signals, run: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        signal.raise_signal(sent)

    monkeypatch.setattr(MusicModel, "denoise", interrupt)
    with pytest.raises(CommandError, match=r"^Stopped\.$") as stopped:
        run()
    assert stopped.value.returncode == 130
    assert GenerationJob.objects.get().status == "cancelled"
    assert not list(tmp_path.glob("*.flac"))


def test_a_job_that_is_cancelled_in_the_studio_stops_the_command(
    run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    denoise = MusicModel.denoise

    def cancel_first(*args: Any, **kwargs: Any) -> Any:
        GenerationJob.objects.get().request_cancel()
        time.sleep(1.5)  # the heartbeat looks twice a second
        return denoise(*args, **kwargs)

    monkeypatch.setattr(MusicModel, "denoise", cancel_first)
    assert refusal(run) == "The job was cancelled in the studio."


def test_a_failed_job_gives_its_reason(run: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    from generation.engine.decoding import DecodeOutOfMemory

    def fail(*args: object, **kwargs: object) -> None:
        raise DecodeOutOfMemory("Not enough memory to decode. The latents are kept.")

    monkeypatch.setattr(MusicModel, "decode", fail)
    assert refusal(run) == "Not enough memory to decode. The latents are kept."
    job = GenerationJob.objects.get()
    assert job.status == "failed"
    assert job.latent is not None


# As a stranger runs it: the bundled model, a process for each command, and a data folder with nothing in it


def run_process(data: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name != "REPRISE_MODELS"}
    environment |= {"REPRISE_DATA": str(data), "OMP_NUM_THREADS": "1"} | variables
    command = [sys.executable, str(MANAGE), "generate", "warm lofi, piano", *arguments]
    return subprocess.run(command, env=environment, cwd=data, capture_output=True, text=True, timeout=900)


def test_a_fresh_copy_makes_a_take_and_takes_it_up_again(tmp_path: Path) -> None:
    first = run_process(tmp_path, "--duration", "5", "--seed", "7", "--json")
    assert first.returncode == 0, first.stderr
    latent_id = json.loads(first.stdout)["latent_id"]
    second = run_process(tmp_path, "--resume", latent_id, "--t-start", "0.5", "--out", "b.flac")
    assert second.returncode == 0, second.stderr
    assert "Started at level 0.5, " in second.stdout
    one, two = (soundfile.read(tmp_path / name)[0] for name in ("take.flac", "b.flac"))
    assert one.shape == two.shape == (5 * 48_000, 2)
    assert (one != two).any()


def test_a_refusal_is_all_that_is_printed(tmp_path: Path) -> None:
    refused = run_process(tmp_path, "--t-start", "0.5")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "CommandError: Denoise below 1.0 needs a latent to resume from\n"


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("REPRISE_MODE", "both", "ImproperlyConfigured: REPRISE_MODE must be one of local, server, not 'both'"),
        ("REPRISE_MODELS", "a=bundled?steps=no", "ImproperlyConfigured: REPRISE_MODELS: 'a' may set steps, "),
        ("REPRISE_DATA", "/dev/null/x", "ImproperlyConfigured: REPRISE_DATA cannot be the folder /dev/null/x: "),
        ("DATABASE_URL", "sqlite:////dev/null/x", "CommandError: The database cannot be reached: unable to open"),
    ],
)
def test_a_setting_that_cannot_be_is_said_in_one_line(variable: str, value: str, sentence: str, tmp_path: Path) -> None:
    refused = run_process(tmp_path, **{variable: value})
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith(sentence), refused.stderr
    assert len(refused.stderr.splitlines()) == 1
