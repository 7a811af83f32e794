"""The rules of the layout, executed: which way imports go, what the web process loads, which packages are declared."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("resumeapp", "generation", "latents")
TORCH = ("torch", "diffusers", "transformers")
DRAWERS = {"utils", "helpers", "services", "common", "misc"}


def modules() -> dict[str, Path]:
    """Return every module of ours by its dotted name."""
    files = (file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py")))
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imports(file: Path) -> Iterator[str]:
    """Give the dotted name of all that a module imports, wherever in it; "from a import b" gives a and a.b."""
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                assert not level, f"{file}: imports are written out in full"
                assert module
                yield module
                yield from (f"{module}.{alias.name}" for alias in names)


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


RULES = [
    # (who, may not import, except, because)
    ("latents", ["generation"], [], "generation knows latents, never the other way round"),
    ("generation.engine", ["django", "latents", "resumeapp"], [], "the engine is plain torch"),
    ("generation.engine", ["generation"], ["generation.engine", "generation.sketch"], "the engine knows no jobs"),
    ("generation.engine.schedule", TORCH, [], "forms and worker plan alike, in plain Python"),
    ("generation.sketch", ["django", "latents", "resumeapp"], [], "the bundled model is plain torch"),
    ("generation.audio", [*TORCH, "django"], [], "web and worker encode alike"),
    ("generation.forms", ["generation.views", "generation.tasks"], [], "forms write nothing and queue nothing"),
    ("generation.models", ["generation.views", "generation.forms"], [], "rows know no requests"),
    ("generation.takes", ["generation.tasks", "generation.worker"], [], "a take is made without a queue"),
    ("generation.tasks", ["generation.views", "generation.forms"], [], "workers know no requests"),
    ("latents.models", ["latents.views"], [], "rows know no requests"),
    ("latents.store", ["latents.views"], [], "files know no requests"),
]


@pytest.mark.parametrize(("who", "forbidden", "allowed", "because"), RULES)
def test_imports_go_one_way(who: str, forbidden: list[str], allowed: list[str], because: str) -> None:
    offences = {
        f"{name} imports {imported}"
        for name, file in modules().items()
        if is_within(name, who)
        for imported in imports(file)
        if any(is_within(imported, package) for package in forbidden)
        and not any(is_within(imported, package) for package in allowed)
    }
    assert not offences, because


def test_every_function_has_a_home_that_says_what_it_is_about() -> None:
    assert not [name for name in modules() if DRAWERS & set(name.split("."))]


def test_every_module_says_in_its_first_line_what_it_is_for() -> None:
    """Empty files and the ones that Django's conventions explain may be silent."""
    silent = [
        name
        for name, file in modules().items()
        if file.read_text().strip()
        and not ast.get_docstring(ast.parse(file.read_text()))
        and "migrations" not in name
        and not name.endswith(".apps")
    ]
    assert not silent


def test_environment_is_read_in_the_settings_only() -> None:
    readers = {name for name, file in modules().items() if "resumeapp.env" in imports(file)}
    assert readers == {"resumeapp.settings"}


def declared_packages(*extras: str) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    return {canonicalize_name(Requirement(requirement).name) for group in groups for requirement in group}


def test_every_imported_package_is_declared() -> None:
    roots = {imported.split(".")[0] for file in modules().values() for imported in imports(file)}
    installed = packages_distributions()
    used = {canonicalize_name(installed[root][0]) for root in roots - set(sys.stdlib_module_names) if root in installed}
    assert used - {"reprise"} <= declared_packages("scale")


def test_every_declared_package_is_pinned_once() -> None:
    pins = [line.partition("==") for line in (ROOT / "constraints.txt").read_text().splitlines()]
    names = [canonicalize_name(name) for name, _, _ in pins]
    assert len(names) == len(set(names))
    assert declared_packages("scale", "test") - {"reprise"} <= set(names)
    assert ("torch", "==", "2.13.0") in pins


WEB = "import resumeapp.wsgi; from django.urls import get_resolver; get_resolver().url_patterns"
WORKER_PARENT = "import django; django.setup(); import django_q.cluster, generation.tasks"


@pytest.mark.parametrize("process", [WEB, WORKER_PARENT])
def test_process_does_not_load_torch(process: str, tmp_path: Path) -> None:
    """The web process stays small, and what forks the workers may not have touched a GPU."""
    program = f"{process}; import sys; print([name for name in {(*TORCH, 'scipy')} if name in sys.modules])"
    environment = {
        "DJANGO_SETTINGS_MODULE": "resumeapp.settings",
        "REPRISE_DATA": str(tmp_path),
        "REPRISE_STARTED_BY_STUDIO": "1",
    }
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"
