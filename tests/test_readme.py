"""What does not stand in the README does not exist, and what stands there does."""

import ast
import re
from pathlib import Path

import pytest
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


@pytest.mark.parametrize("page", ["README.md", "docs/faults.md"])
def test_every_test_that_is_named_exists(page: str) -> None:
    named = re.findall(r"`([\w/]+\.py)::([\w:]+)`", (ROOT / page).read_text())
    assert len(named) >= 10
    for file, path in named:
        body = ast.parse((ROOT / "tests" / file).read_text()).body
        for name in path.split("::"):
            found = [node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name]
            assert found, f"{page} names {file}::{path}"
            body = found[0].body
