"""Lineage: who came from whom, in two queries however long the line is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User

from latents.lineage import ancestors, descendants
from latents.models import LatentRecord

START = datetime(2026, 6, 1, tzinfo=UTC)
Line = Callable[..., LatentRecord]


@pytest.fixture
def born(alice: User) -> Line:
    """Return a function that adds a row, a minute younger than the one before."""

    def make(parent: LatentRecord | None = None, owner: User = alice) -> LatentRecord:
        number = LatentRecord.objects.count()
        return LatentRecord.objects.create(
            owner=owner,
            parent=parent,
            model_variant="sketch",
            batch_size=1,
            frames=1,
            channels=1,
            frame_rate=20,
            dtype="float32",
            file=f"{number}",
            size_bytes=1,
            created_at=START + timedelta(minutes=number),
        )

    return make


def found(relatives: list[Any]) -> list[tuple[LatentRecord, int]]:
    return [(relative.record, relative.distance) for relative in relatives]


def test_ancestors_come_nearest_first(born: Line) -> None:
    first = born()
    second = born(first)
    third = born(second)
    born(second)
    assert found(ancestors(third)) == [(second, 1), (first, 2)]
    assert ancestors(first) == []


def test_descendants_come_nearest_and_oldest_first(born: Line) -> None:
    first = born()
    second = born(first)
    grandchild = born(second)
    third = born(first)
    assert found(descendants(first)) == [(second, 1), (third, 1), (grandchild, 2)]


def test_line_ends_where_a_row_is_gone(born: Line) -> None:
    first = born()
    second = born(first)
    third = born(second)
    second.delete()
    assert ancestors(third) == []
    assert descendants(first) == []


def test_line_never_leads_to_somebody_else(born: Line, bob: User) -> None:
    first = born()
    foreign = born(first, owner=bob)
    assert descendants(first) == []
    assert ancestors(foreign) == []


def test_circle_is_no_endless_line(born: Line) -> None:
    first = born()
    second = born(first)
    LatentRecord.objects.filter(pk=first.pk).update(parent=second)
    assert {relative.record for relative in ancestors(second)} <= {first, second}
    assert {relative.record for relative in descendants(second)} <= {first, second}


def test_long_lines_take_two_queries_and_are_cut(born: Line, django_assert_num_queries: Any) -> None:
    line = [born()]
    for _ in range(30):
        line.append(born(line[-1]))
    with django_assert_num_queries(2):
        assert len(ancestors(line[-1])) == 30
    with django_assert_num_queries(2):
        assert found(ancestors(line[-1], limit=5)) == [(line[-1 - n], n) for n in range(1, 6)]
    with django_assert_num_queries(2):
        assert len(descendants(line[0], limit=5)) == 5
