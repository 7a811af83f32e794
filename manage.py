#!/usr/bin/env python
"""Run Reprise's management commands."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "resumeapp.settings")
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:  # it names the variable and what it may be; a traceback would only hide that
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
