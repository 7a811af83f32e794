"""Take the bytes of latents that expired or were deleted."""

from argparse import ArgumentParser, ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand
from django.template.defaultfilters import filesizeformat, pluralize
from django.utils import timezone

from latents.lifetimes import parse_ttl
from latents.models import LatentRecord
from latents.retention import prune


def age(text: str) -> timedelta:
    try:
        ttl = parse_ttl(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
    if ttl is None:
        raise ArgumentTypeError("must be a time such as 12h or 30d")
    return ttl


class Command(BaseCommand):
    help = "Delete the files of latents that expired, or were deleted more than ten minutes ago."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="say what would go, and change nothing")
        parser.add_argument(
            "--older-than", type=age, default=timedelta(0), metavar="12h", help="only what expired at least so long ago"
        )
        parser.add_argument("--variant", default="", help="only latents of this model variant")

    def handle(self, *, dry_run: bool, older_than: timedelta, variant: str, verbosity: int, **options: Any) -> None:
        verb = "Would prune" if dry_run else "Pruned"

        def report(record: LatentRecord) -> None:
            if verbosity >= 2:
                size = filesizeformat(record.size_bytes)
                self.stdout.write(f"{verb} {record.pk} ({record.model_variant}, {size}, {record.state()})")

        now = timezone.now()
        pruned = prune(now, age=older_than, variant=variant, dry_run=dry_run, on_record=report)
        if verbosity >= 1:
            self.stdout.write(
                f"{verb} {pruned.records} latent{pluralize(pruned.records)} ({filesizeformat(pruned.bytes)}) "
                f"and {pruned.rows} row{pluralize(pruned.rows)} of older ones"
            )
