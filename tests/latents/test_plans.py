"""Queries that must stay quick among a million records: each is read from the index that was made for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Count, Sum

from latents.models import LatentRecord

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
LAST = LatentRecord(pk=UUID(int=1), created_at=NOW, expires_at=NOW)
IS_SQLITE = connection.vendor == "sqlite"

Query = Callable[[Any, User], Any]

PLANS: list[tuple[str, str, Query]] = [
    # (what is asked, the index, the query)
    ("library", "latents_owner_newest", lambda records, user: newest(mine(records, user))),
    ("next page", "latents_owner_newest", lambda records, user: newest(mine(records, user).older_than(LAST))),
    ("variant", "latents_owner_variant", lambda records, user: newest(mine(records, user).filter(model_variant="x"))),
    (
        "checkpoints",
        "latents_owner_checkpoint",
        lambda records, user: newest(mine(records, user).filter(checkpoint_step__isnull=False)),
    ),
    ("pinned", "latents_owner_pinned", lambda records, user: newest(mine(records, user).filter(pinned=True))),
    (
        "expiring",
        "latents_owner_expiry",
        lambda records, user: records.visible_to(user).expiring(NOW, timedelta(days=3)).soonest_first()[:25],
    ),
    (
        "expiring, next page",
        "latents_owner_expiry",
        lambda records, user: (
            records.visible_to(user).expiring(NOW, timedelta(days=3)).expiring_after(LAST).soonest_first()[:25]
        ),
    ),
    ("admin list", "latents_newest", lambda records, user: newest(records)),
    ("admin, deleted", "latents_newest_deleted", lambda records, user: newest(records.deleted())),
    ("admin, damaged", "latents_newest_damaged", lambda records, user: newest(records.live(NOW).exclude(damage=""))),
    ("prune what expired", "latents_expiry", lambda records, user: records.run_out(NOW)[:200]),
    ("prune what was deleted", "latents_deleted", lambda records, user: records.removed(NOW)[:200]),
    ("take up a prune", "latents_half_removed", lambda records, user: records.half_removed()[:200]),
    ("outlived rows", "latents_purged", lambda records, user: records.filter(purged_at__lte=NOW)[:200]),
    ("files of the audit", "latents_file", lambda records, user: records.filter(file__in=["a", "b"])),
    (
        "quota",
        "latents_bytes",
        lambda records, user: records.visible_to(user).stored().values("owner").annotate(Sum("size_bytes")),
    ),
    (
        "totals",
        "latents_bytes",
        lambda records, user: records.stored().values("model_variant").annotate(Count("id"), Sum("size_bytes")),
    ),
    ("children", "parent_id", lambda records, user: records.filter(parent=LAST.pk)),
]


def mine(records: Any, user: User) -> Any:
    return records.visible_to(user).live(NOW)


def newest(records: Any) -> Any:
    return records.newest_first()[:25]


def plan_of(query: Any) -> str:
    """Return how the database would answer, were there many rows."""
    with connection.cursor() as cursor:
        if not IS_SQLITE:  # its planner reads a small table as a whole whatever indexes there are
            cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
    plan: str = query.explain()
    return plan


@pytest.mark.parametrize(("asked", "index", "query"), PLANS, ids=[plan[0] for plan in PLANS])
def test_query_uses_its_index(alice: User, asked: str, index: str, query: Query) -> None:
    assert index in plan_of(query(LatentRecord.objects, alice))


SORTED = ["library", "next page", "variant", "checkpoints", "pinned", "expiring", "expiring, next page", "admin list"]


@pytest.mark.parametrize("asked", SORTED)
def test_pages_are_read_in_order(alice: User, asked: str) -> None:
    """Nothing is collected and sorted to show the first of it."""
    query = next(query for name, _, query in PLANS if name == asked)
    plan = plan_of(query(LatentRecord.objects, alice))
    assert "TEMP B-TREE" not in plan
    assert "Sort" not in plan


@pytest.mark.parametrize(("asked", "bound"), [("next page", "created_at<"), ("expiring, next page", "expires_at>")])
@pytest.mark.skipif(not IS_SQLITE, reason="reads SQLite's words")
def test_later_pages_begin_where_the_last_one_ended(alice: User, asked: str, bound: str) -> None:
    query = next(query for name, _, query in PLANS if name == asked)
    assert bound in plan_of(query(LatentRecord.objects, alice))
