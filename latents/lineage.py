"""Where a take comes from and what was made of it."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.db import connection

from latents.models import LatentRecord

# Longer lines are cut: a page has to end somewhere.
MAX_RELATIVES = 200


@dataclass(frozen=True)
class Relative:
    """A record and how many resumes away it is."""

    record: LatentRecord
    distance: int


def ancestors(record: LatentRecord, limit: int = MAX_RELATIVES) -> list[Relative]:
    """Return parent, grandparent and so on, as far as their rows are kept."""
    return _relatives(record, "relative.id = line.parent_id", limit)


def descendants(record: LatentRecord, limit: int = MAX_RELATIVES) -> list[Relative]:
    """Return everything resumed from the record or from something that was: nearest first, then oldest first."""
    return _relatives(record, "relative.parent_id = line.id", limit)


def _relatives(record: LatentRecord, relation: str, limit: int) -> list[Relative]:
    """Walk the line in one query and fetch the records in another."""
    # Nobody's line leads into somebody else's, whatever a row may say. The depth ends a circle, should there be one.
    query = f"""
        WITH RECURSIVE line(id, parent_id, owner_id, distance) AS (
            SELECT id, parent_id, owner_id, 0 FROM latents_latentrecord WHERE id = %s
            UNION ALL
            SELECT relative.id, relative.parent_id, relative.owner_id, line.distance + 1
            FROM latents_latentrecord relative JOIN line ON {relation}
            WHERE relative.owner_id = line.owner_id AND line.distance < %s
        )
        SELECT id, distance FROM line LIMIT %s
    """  # noqa: S608 - the relation is one of the two above
    with connection.cursor() as cursor:
        cursor.execute(query, [record._meta.pk.get_db_prep_value(record.pk, connection), limit, limit + 1])
        distances = {UUID(str(pk)): distance for pk, distance in reversed(cursor.fetchall()) if distance}
    records = LatentRecord.objects.in_bulk(distances)
    line = [Relative(records[pk], distance) for pk, distance in distances.items() if pk in records]
    return sorted(line, key=lambda relative: (relative.distance, relative.record.created_at))
