"""Find records by words of their captions: SQLite's FTS5 or PostgreSQL's full text, behind one function.

A word is a run of letters and digits; it finds every word that begins with it, in upper or lower case. Whatever else is
typed separates words, so nothing that a person may write is an error.

PostgreSQL has an index on an expression of the caption. SQLite has a table of its own for words, in which rows are
numbered in the order they were stored, and which triggers keep (migration 0002). Matches come out of it by number,
without being collected and sorted first: among a million records a common word is found as quickly as a rare one.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import connection, models
from django.db.models import F, Func, Lookup, QuerySet

if TYPE_CHECKING:
    from latents.models import LatentRecord

MAX_WORDS = 20
FEW = 5000  # rows that are sorted in no time; of a million with more matches, the next page is not far
NUMBER = "search_number"  # the alias that a search on SQLite is ordered by
# What PostgreSQL's parser would take for part of a path, a host, an address, a number or a tag.
_JOINTS = "-./:;@_~+&=?#<>"

Records = TypeVar("Records", bound="QuerySet[Any]")


class SearchEntry(models.Model):
    """The number of a record in SQLite's table of words."""

    record = models.OneToOneField("latents.LatentRecord", models.DO_NOTHING, related_name="search_entry")

    class Meta:
        managed = False
        db_table = "latents_search_entry"

    def __str__(self) -> str:
        return f"search entry of {self.record_id}"


class WordsField(models.TextField[str, str]):
    """The column of an FTS5 table that bears the table's name: what is looked for is compared with it."""


@WordsField.register_lookup
class Match(Lookup[Any]):
    lookup_name = "match"

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        column, column_params = self.process_lhs(compiler, connection)
        text, text_params = self.process_rhs(compiler, connection)
        return f"{column} MATCH {text}", [*column_params, *text_params]


class SearchWords(models.Model):
    """SQLite's table of words."""

    entry = models.OneToOneField(
        SearchEntry, models.DO_NOTHING, primary_key=True, db_column="rowid", related_name="words"
    )
    words = WordsField(db_column="latents_search")

    class Meta:
        managed = False
        db_table = "latents_search"

    def __str__(self) -> str:
        return f"words of search entry {self.pk}"


class CaptionMatches(Func):
    """PostgreSQL's condition, in which the left side is the expression that migration 0002 has indexed."""

    template = (
        f"to_tsvector('simple'::regconfig, translate(%(expressions)s, '{_JOINTS}', '{' ' * len(_JOINTS)}'))"
        " @@ to_tsquery('simple'::regconfig, %(query)s)"
    )
    output_field = models.BooleanField()

    def __init__(self, caption: Any, query: Any) -> None:
        super().__init__(caption)
        self.query = query

    def as_sql(self, compiler: Any, connection: Any, *names: Any, **context: Any) -> tuple[str, Any]:
        sql, params = super().as_sql(compiler, connection, *names, query="%s", **context)
        return sql, [*params, self.query]


def matching(records: Records, text: str, *, owner_id: int | None = None) -> Records:
    """Select records whose caption contains every word of `text`, as a whole or as a beginning.

    Where all records are one owner's, say whose: others' matches then need not be stepped over.
    """
    words = split(text)
    if not words:
        return records.none() if text.strip() else records
    if connection.vendor == "postgresql":
        return _matching_on_postgresql(records, " & ".join(f"{word}:*" for word in words))
    query = "caption : (" + " AND ".join(f'"{word}"*' for word in words) + ")"
    if owner_id is not None:
        query += f' AND owner : "{owner_id}"'
    matches = records.filter(search_entry__words__words__match=query)
    return matches.alias(**{NUMBER: F("search_entry__words__entry_id")})


def _matching_on_postgresql(records: Records, query: str) -> Records:
    """Look first whether there are many: the planner cannot tell for beginnings of words.

    It would read all records from the newest on, which finds a common word soon and a rare one at the very end.
    """
    matches = CaptionMatches(F("caption"), query)
    few = list(records.model._default_manager.filter(matches).values_list("pk", flat=True)[: FEW + 1])
    return records.filter(matches) if len(few) > FEW else records.filter(pk__in=few)


def is_numbered(records: QuerySet[Any]) -> bool:
    """Say whether these come from a search on SQLite, which only goes quickly in the order of their numbers."""
    return NUMBER in records.query.annotations


def number_of(record: LatentRecord) -> QuerySet[SearchEntry, int]:
    return SearchEntry.objects.filter(record=record).values_list("pk", flat=True)


def split(text: str) -> list[str]:
    words = re.findall(r"[^\W_]+", unicodedata.normalize("NFC", text))
    return list(dict.fromkeys(words))[:MAX_WORDS]
