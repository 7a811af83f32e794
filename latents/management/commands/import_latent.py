"""Take in latents that were exported."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from latents.errors import LatentError
from latents.portable import import_file
from resumeapp.accounts import LOCAL_USERNAME, is_local_mode, local_user


class Command(BaseCommand):
    help = "Store the latents of a file that export_latent or the download wrote, and print their new id."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE", type=Path)
        parser.add_argument("--user", default=LOCAL_USERNAME, help="whose they will be (default: %(default)s)")

    def handle(self, *, file: Path, user: str, **options: Any) -> None:
        try:
            with file.open("rb") as source:
                record = import_file(source, _find_user(user))
        except LatentError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{file} cannot be read: {error.strerror}") from error
        self.stdout.write(str(record.pk))


def _find_user(username: str) -> User:
    if is_local_mode() and username == LOCAL_USERNAME:
        return local_user()
    try:
        return User.objects.get(username=username, is_active=True)
    except User.DoesNotExist:
        raise CommandError(f"No active user '{username}'") from None
