"""What does not stand in the README does not exist, and what stands there does."""

import re
from pathlib import Path

from django.core.management import get_commands

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_every_command_of_ours_is_in_the_readme() -> None:
    ours = {name for name, app in get_commands().items() if app in ("resumeapp", "generation", "latents")}
    assert ours == {name for name in ours if re.search(rf"`{name}\b", README)}


def test_every_command_in_the_readme_exists() -> None:
    named = set(re.findall(r"manage\.py ([a-z_]+)", README))
    assert named <= set(get_commands())


def test_every_make_target_is_in_the_readme_and_no_other() -> None:
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    assert set(phony[1].split()) == set(re.findall(r"\bmake (\w+)", README))
