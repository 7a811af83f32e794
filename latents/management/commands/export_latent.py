"""Write one record's latents and provenance to a file."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.template.defaultfilters import filesizeformat
from django.utils import timezone

from latents import store
from latents.errors import LatentError, LatentNotFound
from latents.models import LatentRecord
from latents.portable import export_file


class Command(BaseCommand):
    help = "Write latents with their provenance to one file, which import_latent reads."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("latent", metavar="ID")
        parser.add_argument("file", metavar="FILE", type=Path)

    def handle(self, *, latent: str, file: Path, verbosity: int, **options: Any) -> None:
        try:
            record = _find(latent)
            store.verify(record)
            _write(record, file)
        except LatentError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{file} cannot be written: {error.strerror or error}") from error
        if verbosity >= 1:
            self.stdout.write(f"Wrote {file} ({filesizeformat(record.size_bytes)})")


def _find(latent_id: str) -> LatentRecord:
    try:
        return LatentRecord.objects.live(timezone.now()).get(pk=latent_id)
    except (LatentRecord.DoesNotExist, ValidationError):
        raise LatentNotFound(latent_id) from None


def _write(record: LatentRecord, path: Path) -> None:
    """Write the whole file, or none."""
    file = path.open("xb")
    try:
        with file:
            export_file(record, file)
    except BaseException:
        path.unlink()
        raise
