"""Make a personal token for a user's scripts."""

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from resumeapp.accounts import LOCAL_USERNAME, is_local_mode, local_user
from resumeapp.models import PersonalToken


class Command(BaseCommand):
    help = "Print a new personal token of USER, to be sent as “Authorization: Bearer …”. It is shown only this once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", help="a username; in local mode: local")
        parser.add_argument("--name", default="command line", help="what will use it (default: %(default)s)")

    def handle(self, *, user: str, name: str, **options: Any) -> None:
        _, secret = PersonalToken.objects.issue(_find_user(user), name)
        self.stdout.write(secret)


def _find_user(username: str) -> User:
    if is_local_mode() and username == LOCAL_USERNAME:
        return local_user()
    try:
        return User.objects.get(username=username, is_active=True)
    except User.DoesNotExist:
        raise CommandError(f"No active user '{username}'") from None
