"""Run every benchmark of this folder, or those named: `python -m tests.benchmarks engine store`.

A benchmark is a module with a `main()`. It prints its figures, and may return False if one of them broke its limit.
"""

import sys
from importlib import import_module
from pkgutil import iter_modules

import tests.benchmarks


def main(names: list[str]) -> int:
    known = [module.name for module in iter_modules(tests.benchmarks.__path__)]
    is_kept = True
    for name in names or known:
        run = getattr(import_module(f"tests.benchmarks.{name}"), "main", None)
        if name != "__main__" and run:
            print(f"\n{name}", flush=True)
            is_kept = run() is not False and is_kept
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
