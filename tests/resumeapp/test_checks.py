"""System checks name settings that do not go together, with a way out."""

from collections.abc import Sequence
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from pytest_django import Settings

from resumeapp import checks


def ours() -> Sequence[CheckMessage]:
    return [message for message in run_checks() if message.id and message.id.startswith("reprise.")]


def test_defaults_pass_every_check() -> None:
    assert ours() == []


@pytest.mark.parametrize(
    ("identifier", "overrides"),
    [
        ("reprise.W001", {"REPRISE_ALLOWED_HOSTS": ["studio.example"]}),
        ("reprise.E002", {"REPRISE_MODE": "server", "SECRET_KEY": "short"}),
        ("reprise.W004", {"REPRISE_MAX_STORED_BYTES": 10, "REPRISE_MAX_UPLOAD_BYTES": 11}),
        ("reprise.W004", {"REPRISE_MAX_STORED_BYTES": 10, "REPRISE_MAX_UPLOAD_BYTES": None}),
    ],
)
def test_settings_that_do_not_go_together_are_named_with_a_hint(
    identifier: str, overrides: dict[str, Any], settings: Settings
) -> None:
    for name, value in overrides.items():
        setattr(settings, name, value)
    (message,) = ours()
    assert message.id == identifier
    assert message.hint


def test_package_that_a_setting_needs_is_named_when_it_is_missing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.REPRISE_BROKER = "redis://127.0.0.1/0"
    assert ours() == []
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    (message,) = ours()
    assert message.id == "reprise.E003"
    assert "redis" in message.msg
