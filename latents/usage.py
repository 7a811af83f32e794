"""How much of which model is stored, without reading every row for every page."""

from __future__ import annotations

from django.core.cache import cache
from django.db import connection

from latents.models import LatentRecord, VariantTotal

TOTALS_LAST_S = 60


def variants_of(owner_id: int) -> list[str]:
    """Return the model variants among what this owner has, in order.

    DISTINCT would read an index entry per record; this steps from one variant to the next.
    """
    there = "FROM latents_latentrecord WHERE owner_id = %s AND purged_at IS NULL AND deleted_at IS NULL"
    query = f"""
        WITH RECURSIVE variant(name) AS (
            SELECT min(model_variant) {there}
            UNION ALL
            SELECT (SELECT min(model_variant) {there} AND model_variant > variant.name) FROM variant
            WHERE variant.name IS NOT NULL
        )
        SELECT name FROM variant WHERE name IS NOT NULL
    """  # noqa: S608 - nothing but the text above
    with connection.cursor() as cursor:
        cursor.execute(query, [owner_id, owner_id])
        return [name for (name,) in cursor.fetchall()]


def recent_totals() -> list[VariantTotal]:
    """Return what is stored of everybody's per variant, at most a minute old: to add it up takes one look at each."""
    totals: list[VariantTotal] | None = cache.get("latents.totals")
    if totals is None:
        totals = LatentRecord.objects.totals_by_variant()
        cache.set("latents.totals", totals, TOTALS_LAST_S)
    return totals
