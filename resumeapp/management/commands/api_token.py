"""Make a personal token for a user's scripts."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from resumeapp.accounts import UnknownUser, find_user
from resumeapp.models import PersonalToken


class Command(BaseCommand):
    help = "Print a new personal token of USER, to be sent as “Authorization: Bearer …”. It is shown only this once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", help="a username; in local mode: local")
        parser.add_argument("--name", default="command line", help="what will use it (default: %(default)s)")

    def handle(self, *, user: str, name: str, **options: Any) -> None:
        try:
            _, secret = PersonalToken.objects.issue(find_user(user), name)
        except UnknownUser as error:
            raise CommandError(str(error)) from error
        self.stdout.write(secret)
