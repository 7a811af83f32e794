"""Report what disagrees between the rows and the files of latents."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.template.defaultfilters import pluralize
from django.utils import timezone

from latents.audit import Audit, FixRefused, audit, fix


class Command(BaseCommand):
    help = "Report records without files, files without records and damaged files; exit with 1 if there are any."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--fix", action="store_true", help="remove files without records, mark records without files as deleted"
        )
        parser.add_argument("--verify", action="store_true", help="read every file and compare its checksum")

    def handle(self, *, fix: bool, verify: bool, verbosity: int, **options: Any) -> None:
        found = audit(timezone.now(), verify=verify)
        if verbosity >= 2:
            self._list(found)
        if verbosity >= 1:
            self.stdout.write(
                f"{_count(found.records, 'record')}, {_count(found.files, 'file')}: "
                f"{len(found.missing)} without file, {_count(len(found.orphans), 'file')} without record "
                f"({found.young} more are younger than a day), "
                f"{len(found.damaged)} damaged"
            )
        if fix:
            self._fix(found, verbosity)
        if found.damaged or (not fix and not found.is_clean):
            raise CommandError("Rows and files disagree" if not found.damaged else "Some files are damaged")

    def _list(self, found: Audit) -> None:
        for record in found.missing:
            self.stdout.write(f"Without file: {record.pk} ({record.file})")
        for name in found.orphans:
            self.stdout.write(f"Without record: {name}")
        for record, damage in found.damaged:
            self.stdout.write(f"Damaged: {record.pk}: {damage}")

    def _fix(self, found: Audit, verbosity: int) -> None:
        try:
            fix(found, timezone.now())
        except FixRefused as error:
            raise CommandError(
                f"Nothing was fixed: {error}. Is this the right database and the right folder?"
            ) from error
        if verbosity >= 1:
            self.stdout.write(
                f"Removed {_count(len(found.orphans), 'file')}, "
                f"marked {_count(len(found.missing), 'record')} without file as deleted"
            )


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{pluralize(number)}"
