"""Values of environment variables: what is read, what is refused and how."""

from datetime import timedelta

import pytest
from django.core.exceptions import ImproperlyConfigured

from resumeapp import env


def test_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPRISE_X", "  ")
    assert env.text("REPRISE_X", "fallback") == "fallback"
    assert env.duration("REPRISE_X", timedelta(days=1)) == timedelta(days=1)
