"""Start Reprise on this machine: the web server and one worker, until Ctrl-C."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from resumeapp import studio


class Command(BaseCommand):
    help = "Brings the database up to date, starts the web server and one worker, and runs until Ctrl-C or SIGTERM."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
        parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: %(default)s)")

    def handle(self, *args: Any, host: str, port: int, **options: Any) -> None:
        try:
            status = studio.run(host, port, self._say)
        except studio.CannotStart as refusal:
            raise CommandError(str(refusal)) from None
        sys.exit(status)

    def _say(self, sentence: str) -> None:
        self.stdout.write(sentence)
        self.stdout.flush()
