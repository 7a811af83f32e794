"""What can be asked of the studio, read from its code: a URL or a field that is added is fuzzed without being told."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from django import forms
from django.urls import URLPattern, URLResolver, get_resolver

from generation.forms import GenerationForm

ROOT = Path(__file__).resolve().parents[2]
_PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>|\(\?P<(\w+)>[^)]*\)")


@dataclass(frozen=True)
class Page:
    """One entry of the URL conf; `template` has its parameters in braces."""

    template: str
    parameters: tuple[str, ...]

    @property
    def is_admin(self) -> bool:
        return self.template.startswith("/admin/")


def all_pages() -> list[Page]:
    return [_page(path) for path in _paths(get_resolver().url_patterns, "/")]


def _paths(patterns: list[URLPattern | URLResolver], prefix: str) -> Iterator[str]:
    for pattern in patterns:
        path = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _paths(pattern.url_patterns, path)
        else:
            yield path


def _page(path: str) -> Page:
    parameters = tuple(found[1] or found[2] for found in _PARAMETER.finditer(path))
    template = _PARAMETER.sub(lambda found: f"{{{found[1] or found[2]}}}", path)
    return Page(template.replace("^", "").replace("$", ""), parameters)


def form_fields() -> list[str]:
    """Return the names of the studio's form, which all other forms of parameters share."""
    return list(GenerationForm.base_fields)


def all_names() -> list[str]:
    """Return every word that may name a field: those of all forms, and every short word written in a view."""
    names = set(form_fields())
    for module in _request_modules():
        for _, member in inspect.getmembers(import_module(module), inspect.isclass):
            if issubclass(member, forms.BaseForm):
                names |= set(getattr(member, "base_fields", {}))
        names |= set(_words(ROOT / f"{module.replace('.', '/')}.py"))
    return sorted(names)


def _request_modules() -> list[str]:
    files = [*(ROOT / "generation/views").glob("*.py"), *(ROOT / "resumeapp").glob("*.py"), ROOT / "latents/views.py"]
    files += [ROOT / "latents/forms.py", ROOT / "latents/admin.py", ROOT / "generation/admin.py"]
    settled = {"settings", "wsgi", "env", "__init__", "apps"}  # they read no request
    return sorted(".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files if file.stem not in settled)


def _words(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[a-z_]{1,24}", node.value):
            yield node.value
