"""Make the music that is asked for: run one worker until it is told to stop."""

import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from generation.supervisor import supervise


class Command(BaseCommand):
    help = "Runs a worker and its supervisor until SIGTERM or Ctrl-C, which let the running step end first."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--variant", default="", help="serve this model variant only (default: every variant)")

    def handle(self, *args: Any, variant: str, **options: Any) -> None:
        if variant and variant not in settings.REPRISE_MODELS:
            known = ", ".join(settings.REPRISE_MODELS)
            raise CommandError(f"Unknown variant '{variant}': REPRISE_MODELS has {known}.")
        sys.exit(supervise(variant))
