"""Make music from the command line: the request, its checks and its job are the studio's, the work is done here."""

import json
import logging
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError, connection
from django.db.migrations.executor import MigrationExecutor
from tqdm import tqdm

from generation import tasks
from generation.audio import MEDIA_TYPES, AudioFormat
from generation.downloads import open_audio
from generation.forms import GenerationForm
from generation.models import GenerationJob, QueueFull, Sample
from generation.takes import TakeRequest
from generation.worker import Attempt
from latents.errors import LatentError, StorageFailed
from resumeapp.accounts import UnknownUser, find_user, is_local_mode

# Options that are fields of the form; the form says what they may be, so the parser takes any text.
FIELD_OPTIONS = {
    "duration": ("--duration", "seconds of music"),
    "seed": ("--seed", "the same seed gives the same music (default: random)"),
    "batch_size": ("--batch-size", "how many takes to make at once"),
    "lyrics": ("--lyrics", "words to sing"),
    "bpm": ("--bpm", "beats per minute"),
    "keyscale": ("--keyscale", 'such as "A minor"'),
    "timesignature": ("--timesignature", "such as 4/4"),
    "inference_steps": ("--steps", "model calls of a whole run"),
    "shift": ("--shift", "above 1, more of the steps go into the overall shape"),
    "guidance_scale": ("--guidance", "how closely to follow the description"),
    "model_variant": ("--model", "one of the models in REPRISE_MODELS"),
    "checkpoint_step": ("--checkpoint-step", "also keep the unfinished music before this model call"),
    "init_latent_id": ("--resume", "id of the latent to resume from"),
    "resume_sample_index": ("--sample-index", "which item of that latent, from 0"),
    "t_start": ("--t-start", "level to resume at: 1 makes everything new, 0 changes nothing"),
    "audio_format": ("--format", "flac, wav, mp3 or opus (default: what --out ends in)"),
}
PHASES = {
    "load": "Loading the model",
    "denoise": "Denoising",
    "store": "Storing the latents",
    "decode": "Decoding",
}
INTERRUPTED = 130


class Command(BaseCommand):
    help = "Makes music from a description and writes it to files; it appears in the studio as well."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("caption", help='what the music should be: "warm lofi, piano and drums"')
        for field, (option, help_text) in FIELD_OPTIONS.items():
            parser.add_argument(option, dest=field, metavar=option.strip("-").upper(), help=help_text)
        parser.add_argument("--out", type=Path, help="file to write (default: take.FORMAT); a batch is numbered")
        parser.add_argument("--force", action="store_true", help="overwrite files that are there")
        parser.add_argument("--user", help="whose take it is (default in local mode: the local user)")
        parser.add_argument("--json", action="store_true", dest="as_json", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        _prepare_database()
        try:
            owner = find_user(options["user"])
        except UnknownUser as error:
            raise CommandError(str(error)) from None
        out: Path | None = options["out"]
        form = _fill_form(options, out, owner)
        request = form.take_request
        assert request is not None
        paths = _name_files(out, request)
        _check_files(paths, is_forced=options["force"])
        job = self._run(form, request, owner, is_quiet=options["verbosity"] == 0)
        samples = list(job.samples.all())
        for sample, path in zip(samples, paths, strict=True):
            _write(sample, path, cast(AudioFormat, request.audio_format))
        report = _describe(job, request, samples, paths)
        self.stdout.write(json.dumps(report) if options["as_json"] else _in_words(report, job))

    def _run(self, form: GenerationForm, request: TakeRequest, owner: User, *, is_quiet: bool) -> GenerationJob:
        """Make the take as the studio's worker would, and return its job once it has succeeded."""
        try:
            job = GenerationJob.objects.start(request, owner=owner, request_id=str(form.cleaned_data["request_id"]))
        except (LatentError, QueueFull) as refusal:
            raise CommandError(str(refusal)) from None
        # Without a terminal there is nobody to watch a bar: None leaves that to tqdm.
        with (
            _quiet_log(),
            _stopped_by_sigterm(),
            tqdm(total=job.model_calls, unit="call", leave=False, disable=is_quiet or None) as bar,
        ):
            try:
                tasks.do(job, ShownAttempt(job, bar))
            except KeyboardInterrupt:
                job.end_cancelled()
                raise CommandError("Stopped.", returncode=INTERRUPTED) from None
        job.refresh_from_db()
        if job.status == GenerationJob.Status.CANCELLED:
            raise CommandError("The job was cancelled in the studio.")
        if job.status != GenerationJob.Status.SUCCEEDED:
            raise CommandError(job.error or "A worker has taken the job over, as this process was quiet for too long.")
        return job


class ShownAttempt(Attempt):
    """An attempt that moves a progress bar."""

    def __init__(self, job: GenerationJob, bar: "tqdm[Any]") -> None:
        super().__init__(job)
        self.bar = bar

    def on_phase(self, phase: str) -> None:
        self.bar.set_description(PHASES[phase])
        super().on_phase(phase)

    def on_step(self, step: int, steps: int) -> None:
        self.bar.update(step - self.bar.n)
        super().on_step(step, steps)


@contextmanager
def _quiet_log() -> Iterator[None]:
    """Leave out what a worker logs of each job: the bar and the report say it."""
    logger = logging.getLogger("generation")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the job as Ctrl-C does; else a worker would find it running without anybody, and make it anew."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _prepare_database() -> None:
    """Make the very first command of a fresh copy work; a shared database is its administrator's to change."""
    try:
        executor = MigrationExecutor(connection)
    except OperationalError as error:
        raise CommandError(f"The database cannot be reached: {str(error).splitlines()[0]}") from error
    if not executor.migration_plan(executor.loader.graph.leaf_nodes()):
        return
    if not is_local_mode():
        raise CommandError("The database is not up to date. Run: manage.py migrate")
    call_command("migrate", verbosity=0, interactive=False)


def _fill_form(options: dict[str, Any], out: Path | None, owner: User) -> GenerationForm:
    """Return the valid form of these options, or say in one sentence what is wrong with them."""
    fields = {name: options[name] for name in ("caption", *FIELD_OPTIONS) if options[name] is not None}
    if out and "audio_format" not in fields:
        fields["audio_format"] = _format_of(out)
    form = GenerationForm.from_json(fields, user=owner)
    if not form.is_valid():
        raise CommandError(
            " ".join(f"{_option(field)}: {message}" if field else message for field, message in form.refusals())
        )
    return form


def _format_of(out: Path) -> str:
    """Return the format that the name of a file asks for."""
    suffix = out.suffix[1:].lower()
    if suffix not in MEDIA_TYPES:
        *others, last = (f".{name}" for name in MEDIA_TYPES)
        raise CommandError(f"--out: must end in {', '.join(others)} or {last}, not '{out}'")
    return suffix


def _option(field: str) -> str:
    return FIELD_OPTIONS[field][0] if field in FIELD_OPTIONS else field


def _name_files(out: Path | None, request: TakeRequest) -> list[Path]:
    """Return take.flac, or take-1.flac and so on for a batch."""
    out = out or Path(f"take.{request.audio_format}")
    if out.suffix.lower() != f".{request.audio_format}":
        raise CommandError(f"--out: must end in .{request.audio_format}, the format, not '{out}'")
    if request.batch_size == 1:
        return [out]
    return [out.with_stem(f"{out.stem}-{number}") for number in range(1, request.batch_size + 1)]


def _check_files(paths: list[Path], *, is_forced: bool) -> None:
    """Find out before the work what would go wrong after it."""
    for path in paths:
        try:
            _check_file(path, is_forced=is_forced)
        except OSError as error:
            raise CommandError(f"--out: '{path}' cannot be written: {error.strerror}") from error


def _check_file(path: Path, *, is_forced: bool) -> None:
    if not path.parent.is_dir():
        raise CommandError(f"--out: there is no folder '{path.parent}'")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise CommandError(f"--out: the folder '{path.parent}' cannot be written to")
    if path.is_dir():
        raise CommandError(f"--out: '{path}' is a folder")
    if path.exists() and not is_forced:
        raise CommandError(f"'{path}' is there already; --force overwrites it")


def _write(sample: Sample, path: Path, audio_format: AudioFormat) -> None:
    """Put a sample's file in its place at once, whole."""
    draft = path.with_name(f".draft-{os.getpid()}")  # short, where the name itself may be as long as names can be
    try:
        with open_audio(sample, audio_format) as sound, draft.open("wb") as file:
            shutil.copyfileobj(sound, file)
        draft.replace(path)
    except (OSError, StorageFailed) as error:
        reason = str(error).rstrip(".")
        raise CommandError(
            f"'{path}' could not be written: {reason}. The take itself is kept in the studio."
        ) from error
    finally:
        draft.unlink(missing_ok=True)


def _describe(job: GenerationJob, request: TakeRequest, samples: list[Sample], paths: list[Path]) -> dict[str, Any]:
    return {
        "latent_id": str(job.latent_id),
        "checkpoint_latent_id": job.checkpoint_latent_id and str(job.checkpoint_latent_id),
        "samples": [
            {"path": str(path), "index": sample.index, "seed": sample.seed, "duration": sample.duration_s}
            for sample, path in zip(samples, paths, strict=True)
        ],
        "t_start": {"requested": request.plan.requested, "effective": request.plan.effective},
        "timesteps": list(request.plan.timesteps),
        "steps": request.plan.steps,
        "shift": request.plan.shift,
        "timing": job.timing,
    }


def _in_words(report: dict[str, Any], job: GenerationJob) -> str:
    files = [f"{_as_text(item['path'])}: {item['duration']:.1f} s, seed {item['seed']}" for item in report["samples"]]
    checkpoint = report["checkpoint_latent_id"]
    return "\n".join(
        [
            *files,
            f"Latent {report['latent_id']}",
            *([f"Checkpoint {checkpoint}"] if checkpoint else []),
            f"Started at level {_level(report['t_start'])}, {job.model_calls} of {job.steps} model calls",
            f"Denoised in {job.timing['denoise']:.1f} s, decoded in {job.timing['decode']:.1f} s",
        ]
    )


def _as_text(path: str) -> str:
    """Replace bytes of a file's name that are no text: a terminal may refuse to print them."""
    return path.encode(errors="replace").decode()


def _level(t_start: dict[str, float]) -> str:
    asked, effective = (f"{t_start[name]:.3g}" for name in ("requested", "effective"))
    return effective if asked == effective else f"{effective} ({asked} was asked for)"
