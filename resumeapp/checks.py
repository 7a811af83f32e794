"""System checks: settings that are each right and together wrong."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.core import checks

MIN_SECRET_KEY_LENGTH = 50


@checks.register()
def check_server_only_settings(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    if settings.REPRISE_MODE == "local" and settings.REPRISE_ALLOWED_HOSTS:
        return [
            checks.Warning(
                "REPRISE_ALLOWED_HOSTS has no effect in local mode",
                hint="Local mode serves this computer only. Set REPRISE_MODE=server to serve others.",
                id="reprise.W001",
            )
        ]
    return []


@checks.register()
def check_secret_key(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    if settings.REPRISE_MODE == "server" and len(settings.SECRET_KEY) < MIN_SECRET_KEY_LENGTH:
        return [
            checks.Error(
                f"REPRISE_SECRET_KEY is shorter than {MIN_SECRET_KEY_LENGTH} characters",
                hint="Make one with: python -c 'import secrets; print(secrets.token_urlsafe(64))'",
                id="reprise.E002",
            )
        ]
    return []


@checks.register()
def check_scale_packages(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Name the package that a setting needs, before it fails at the first job."""
    wanted = {
        "storages": any("s3" in settings.STORAGES[alias]["BACKEND"] for alias in ("latents", "audio")),
        "redis": bool(settings.REPRISE_BROKER),
    }
    return [
        checks.Error(
            f"The settings need the Python package “{package}”, which is not installed",
            hint="Install the extra for larger setups: pip install --constraint constraints.txt '.[scale]'",
            id="reprise.E003",
        )
        for package, is_wanted in wanted.items()
        if is_wanted and find_spec(package) is None
    ]


@checks.register()
def check_upload_limit(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    upload, stored = settings.REPRISE_MAX_UPLOAD_BYTES, settings.REPRISE_MAX_STORED_BYTES
    if stored is not None and (upload is None or upload > stored):
        return [
            checks.Warning(
                "REPRISE_MAX_UPLOAD_BYTES allows files larger than REPRISE_MAX_STORED_BYTES lets anybody keep",
                hint="Lower the one or raise the other.",
                id="reprise.W004",
            )
        ]
    return []
