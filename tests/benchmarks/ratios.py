"""Compare two pieces of work on a busy machine: interleaved pairs, and the median of their ratios."""

import time
from collections.abc import Callable
from statistics import median

PAIRS = 7


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def median_ratio(subject: Callable[[], object], floor: Callable[[], object]) -> float:
    """Return how much longer `subject` takes than `floor`: both first run once, unmeasured, and then turn about."""
    subject(), floor()
    ratios = []
    for pair in range(PAIRS):
        # Whoever goes second finds warmer caches, so the order alternates.
        if pair % 2:
            subject_s, floor_s = seconds(subject), seconds(floor)
        else:
            floor_s, subject_s = seconds(floor), seconds(subject)
        ratios.append(subject_s / floor_s)
    return median(ratios)


def report(what: str, ratio: float, limit: float) -> bool:
    """Print one figure and return whether it is within its limit."""
    is_kept = ratio <= limit
    print(f"  {what:<60} {ratio:6.3f}  (at most {limit:.3f}){'' if is_kept else '  MISSED'}", flush=True)
    return is_kept
