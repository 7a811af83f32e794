"""Programs that measure. `make bench` runs them all, `python -m tests.benchmarks.engine` one."""
