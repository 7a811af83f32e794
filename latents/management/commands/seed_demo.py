"""Fill a studio with records to try it with."""

from argparse import ArgumentParser, ArgumentTypeError
from itertools import islice
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.template.defaultfilters import pluralize
from django.utils import timezone

from latents import demo
from latents.errors import LatentError
from resumeapp.accounts import is_local_mode, local_user

MOST = 10_000_000
MOST_USERS = 10_000
REPORT_EVERY = 500


def count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= MOST):
        raise ArgumentTypeError(f"expected a number from 1 to {MOST}")
    return int(text)


class Command(BaseCommand):
    help = "Make up records over people, lineages, models and ages: small random latents, or rows without files."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--latents", type=count, default=1000, metavar="N", help="how many records (default 1000)")
        parser.add_argument(
            "--users",
            type=count,
            default=1,
            metavar="M",
            help="over how many people (default 1); in local mode the first is the local user",
        )
        parser.add_argument(
            "--rows-only", action="store_true", help="rows without files, marked as such: a million takes minutes"
        )

    def handle(self, *, latents: int, users: int, rows_only: bool, verbosity: int, **options: Any) -> None:
        if users > MOST_USERS:
            raise CommandError(f"At most {MOST_USERS} people")
        owners, now, made = _people(users), timezone.now(), 0
        try:
            if rows_only:
                sizes = (len(batch) for batch in demo.seed_rows(latents, owners, now))
            else:
                records = demo.seed(latents, owners, now)
                sizes = (len(batch) for batch in iter(lambda: list(islice(records, REPORT_EVERY)), []))
            for size in sizes:
                made += size
                if verbosity >= 2:
                    self.stdout.write(f"{made} of {latents}")
        except LatentError as error:
            raise CommandError(f"Stopped after {made} records: {error}") from error
        if verbosity >= 1:
            files = "without files" if rows_only else "with files"
            self.stdout.write(f"Made {made} record{pluralize(made)} {files} of {users} user{pluralize(users)}")


def _people(number: int) -> list[User]:
    """Return so many people; those made up here cannot log in."""
    people = [local_user()] if is_local_mode() else []
    for index in range(len(people), number):
        user, is_new = User.objects.get_or_create(username=f"demo-{index + 1}")
        if is_new:
            user.set_unusable_password()
            user.save(update_fields=["password"])
        people.append(user)
    return people
