"""Make the rows of latents again from their files."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.template.defaultfilters import pluralize
from django.utils import timezone

from latents.errors import StorageFailed
from latents.models import LatentRecord
from latents.rebuild import rebuild
from resumeapp.accounts import UnknownUser, find_user


class Command(BaseCommand):
    help = "After the database was lost: make a row for every file of latents that has none. Stop the workers before."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--user", help="whose they will be (default in local mode: the local user)")

    def handle(self, *, user: str | None, verbosity: int, **options: Any) -> None:
        def report(record: LatentRecord) -> None:
            if verbosity >= 2:
                self.stdout.write(f"Rebuilt {record.pk} from {record.file}")

        try:
            rebuilt = rebuild(find_user(user), timezone.now(), on_record=report)
        except (UnknownUser, StorageFailed) as error:
            raise CommandError(str(error)) from error
        for name, reason in rebuilt.refused:
            self.stderr.write(f"Left alone: {name}: {reason}")
        if verbosity >= 1:
            self.stdout.write(
                f"Rebuilt {rebuilt.records} record{pluralize(rebuilt.records)}; {rebuilt.known} had a row already"
            )
        if rebuilt.refused:
            count = len(rebuilt.refused)
            raise CommandError(f"{count} file{pluralize(count)} could not be given a row")
