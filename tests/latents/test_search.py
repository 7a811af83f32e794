"""Full-text search: words and their beginnings, whatever else was typed, and rows that change or go."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from latents import search
from latents.models import LatentRecord
from latents.search import MAX_WORDS, split

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
MakeRecord = Callable[..., LatentRecord]


def captions(text: str) -> list[str]:
    return [record.caption for record in LatentRecord.objects.search(text).newest_first()]


FOUND = [
    # (caption, what is typed, why it is found)
    ("Warm lofi, piano and drums", "PIANO warm", "in any order and case"),
    ("Warm lofi, piano and drums", "pia", "by its beginning"),
    ("Warm lofi, piano and drums", '"piano"', "quotes are not operators"),
    ("rock AND roll", "roll and ROCK", "operators are words"),
    ("rock & roll", "rock & roll", "signs separate"),
    ("lo-fi/hip-hop beats", "hip lo", "parts of what looks like a path"),
    ("lo-fi/hip-hop beats", "fi hop", "each part is a word"),
    ("see www.example.com now", "example", "parts of what looks like a host"),
    ("a <slow> waltz", "slow", "what looks like a tag"),
    ("120bpm 4/4", "4 120", "numbers"),
    ("Bossa nova, café", "café", "accents"),
    ("Bossa nova, CAFÉ", "cafe\u0301", "accents that were typed apart"),
    ("Ночной эмбиент", "НОЧН", "other scripts"),
    ("夜の音楽 piano", "夜の音", "scripts without spaces, from the beginning"),
    ("one" * 30, "one" * 30, "a long word"),
]


@pytest.mark.parametrize(("caption", "typed", "why"), FOUND, ids=[case[2] for case in FOUND])
def test_captions_are_found(make_record: MakeRecord, caption: str, typed: str, why: str) -> None:
    make_record(caption=caption)
    make_record(caption="something else entirely")
    assert captions(typed) == [caption]


@pytest.mark.parametrize("typed", ["techno", "piano techno", "iano", "pian0", "*", '"', "'; DROP TABLE", "!!!"])
def test_what_no_caption_has_is_not_found(make_record: MakeRecord, typed: str) -> None:
    make_record(caption="Warm lofi, piano and drums")
    assert captions(typed) == []


@pytest.mark.parametrize("typed", ["", "  ", "\n\t"])
def test_looking_for_nothing_finds_everything(make_record: MakeRecord, typed: str) -> None:
    make_record(), make_record()
    assert len(captions(typed)) == 2


@hypothesis_settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=60) | st.text(alphabet="\"*():^-+&|!<>\\'\x00\ud800 aNDORT", max_size=30))
def test_nothing_that_can_be_typed_is_an_error(record: LatentRecord, typed: str) -> None:
    list(LatentRecord.objects.search(typed).newest_first())


def test_only_so_many_words_are_looked_for() -> None:
    assert split(" ".join(f"word{n}" for n in range(1000))) == [f"word{n}" for n in range(MAX_WORDS)]


def test_owners_matches_are_found_without_those_of_others(make_record: MakeRecord, alice: User, bob: User) -> None:
    mine, _ = make_record(caption="calm piano 2"), make_record(caption="calm piano", owner=bob)
    assert list(LatentRecord.objects.visible_to(alice).search("piano", owner_id=alice.pk)) == [mine]
    assert not LatentRecord.objects.search(str(bob.pk), owner_id=alice.pk).exclude(pk=mine.pk).exists()


def test_search_follows_a_row_that_changes_hands_or_words(make_record: MakeRecord, bob: User) -> None:
    record = make_record(caption="calm piano")
    LatentRecord.objects.filter(pk=record.pk).update(caption="loud organ", owner=bob)
    assert not LatentRecord.objects.search("piano").exists()
    assert list(LatentRecord.objects.search("organ", owner_id=bob.pk)) == [record]


def test_row_that_goes_takes_its_words_along(make_record: MakeRecord) -> None:
    gone, kept = make_record(caption="calm piano"), make_record(caption="loud piano")
    gone.delete()
    assert list(LatentRecord.objects.search("piano")) == [kept]
    assert not LatentRecord.objects.search("calm").exists()


def test_rows_written_at_once_are_found(make_record: MakeRecord) -> None:
    copies = [make_record(), make_record()]
    LatentRecord.objects.all().delete()
    for number, record in enumerate(copies):
        record.pk, record.caption = None, f"organ {number}"
        record.pk = LatentRecord._meta.pk.get_default()
    LatentRecord.objects.bulk_create(copies)
    assert captions("organ") == ["organ 1", "organ 0"]


def test_pages_of_a_search_go_on_after_a_record(make_record: MakeRecord) -> None:
    for minute in range(5):
        make_record(caption=f"piano {minute}", created_at=NOW + timedelta(minutes=minute))
        make_record(caption="organ", created_at=NOW + timedelta(minutes=minute))
    found, last = [], None
    while True:
        rest = LatentRecord.objects.search("piano").newest_first()
        page = list((rest.older_than(last) if last else rest)[:2])
        if not page:
            break
        found += page
        last = page[-1]
    assert [record.caption for record in found] == [f"piano {minute}" for minute in (4, 3, 2, 1, 0)]


def test_common_words_are_found_as_rare_ones_are(make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "FEW", 1)
    for number in range(3):
        make_record(caption=f"piano {number}", created_at=NOW + timedelta(minutes=number))
    assert captions("piano") == ["piano 2", "piano 1", "piano 0"]
    assert captions("piano 1") == ["piano 1"]


@pytest.mark.skipif(connection.vendor != "sqlite", reason="the table of words is SQLite's")
@pytest.mark.django_db
def test_matches_come_in_order_without_being_sorted(alice: User) -> None:
    plan = LatentRecord.objects.search("piano", owner_id=alice.pk).newest_first()[:25].explain()
    assert "SCAN latents_search VIRTUAL TABLE" in plan.splitlines()[0]
    assert "TEMP B-TREE" not in plan
