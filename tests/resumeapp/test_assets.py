"""Static files are collected at the first start and when one of them changed, and not otherwise."""

from pathlib import Path

import pytest
from django.contrib.staticfiles.finders import get_finder
from pytest_django import Settings

from resumeapp.assets import collect_changed_assets


@pytest.fixture
def source(tmp_path: Path, settings: Settings) -> Path:
    """A folder with one static file, the only one of the site."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "studio.css").write_text("body { margin: 0 }" * 50)
    settings.STATICFILES_DIRS = [folder]
    settings.STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.FileSystemFinder"]
    settings.STATIC_ROOT = tmp_path / "static"
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
    }
    get_finder.cache_clear()
    return folder


def collected(source: Path) -> set[str]:
    return {path.name.split(".")[-1] for path in (source.parent / "static").iterdir()}


def test_first_start_collects_and_compresses(source: Path) -> None:
    assert collect_changed_assets()
    assert collected(source) == {"css", "br", "gz", "json"}


def test_next_start_has_nothing_to_do(source: Path) -> None:
    collect_changed_assets()
    assert not collect_changed_assets()


def test_changed_file_is_collected_and_its_old_version_goes(source: Path) -> None:
    collect_changed_assets()
    before = {path.name for path in (source.parent / "static").glob("studio.*.css")}
    (source / "studio.css").write_text("body { margin: 1px }" * 50)
    assert collect_changed_assets()
    after = {path.name for path in (source.parent / "static").glob("studio.*.css")}
    assert len(before) == len(after) == 1
    assert before != after
