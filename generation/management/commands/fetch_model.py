"""Download a model's weights: the only place that ever does."""

import logging
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from generation.variants import HUB_ID, UnknownVariant, Variant, get_variant

# What a diffusers pipeline is made of. No pickles: they could run anything.
FILES = ["*.json", "*.safetensors", "*.txt", "*.jinja", "*.model"]


class Command(BaseCommand):
    help = "Downloads the weights of a model of REPRISE_MODELS, after saying their size and licence."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("variant", help="name of the model")

    def handle(self, *args: Any, variant: str, **options: Any) -> None:
        model = _find(variant)
        if model.is_available:
            self.stdout.write(f"'{variant}' is here already.")
            return
        if Path(model.source).is_dir() or not HUB_ID.fullmatch(model.source):
            raise CommandError(f"'{variant}' is the folder {model.source}, which holds no complete model.")
        try:
            self._fetch(model)
        except Exception as error:  # the hub's client lets through what its HTTP library raises, which varies
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise CommandError(f"{model.source} could not be fetched: {reason}") from error
        if not _find(variant).is_available:
            raise CommandError(f"{model.source} was fetched, but is not a complete AceStepPipeline.")
        self.stdout.write(f"'{variant}' is ready.")

    def _fetch(self, model: Variant) -> None:
        # Slow to import, and of no use to any other command.
        from huggingface_hub import HfApi, snapshot_download

        for client in ("httpx", "httpx2"):  # a line per request would break up the progress bars
            logging.getLogger(client).setLevel(logging.WARNING)
        info = HfApi().model_info(model.source)
        licence = (info.card_data and info.card_data.get("license")) or "not stated"
        missing = snapshot_download(model.source, revision=info.sha, allow_patterns=FILES, dry_run=True)
        size_bytes = sum(file.file_size or 0 for file in missing if file.will_download)
        self.stdout.write(f"{model.source}: {_megabytes(size_bytes)} to download, licence: {licence}")
        self.stdout.flush()
        snapshot_download(model.source, allow_patterns=FILES)


def _find(name: str) -> Variant:
    try:
        return get_variant(name)
    except UnknownVariant as error:
        raise CommandError(str(error)) from None


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"
