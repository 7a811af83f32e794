"""Take in latents that were exported."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from latents.errors import LatentError
from latents.portable import import_file
from resumeapp.accounts import UnknownUser, find_user


class Command(BaseCommand):
    help = (
        "Store the latents of a file that was exported, or is ACE-Step's .npy or ComfyUI's .latent; print their new id."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE", type=Path)
        parser.add_argument("--user", help="whose they will be (default in local mode: the local user)")

    def handle(self, *, file: Path, user: str | None, **options: Any) -> None:
        try:
            with file.open("rb") as source:
                record = import_file(source, find_user(user))
        except (LatentError, UnknownUser) as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{file} cannot be imported: {error.strerror or error}") from error
        self.stdout.write(str(record.pk))
