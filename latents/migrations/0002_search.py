"""Words of captions, to be searched: a GIN index on PostgreSQL, an FTS5 table kept by triggers on SQLite.

A later migration that makes SQLite rebuild the table of records (AlterField does) loses its triggers and must create
them again; the tests of latents.search fail until it does.
"""

from typing import Any

import django.db.models.deletion
from django.db import migrations, models

import latents.search

POSTGRESQL = """
CREATE INDEX latents_caption_words ON latents_latentrecord USING gin (
    to_tsvector('simple'::regconfig, translate(caption, '-./:;@_~+&=?#<>', '               '))
)
"""

# The words themselves are not kept a second time (content=''), so a deletion has to repeat them; beginnings of up to
# three letters have lists of their own.
SQLITE = [
    """
    CREATE TABLE latents_search_entry (
        id integer PRIMARY KEY AUTOINCREMENT, record_id char(32) NOT NULL UNIQUE
    )
    """,
    """
    CREATE VIRTUAL TABLE latents_search USING fts5(
        caption, owner, content='', columnsize=0, tokenize='unicode61 remove_diacritics 0', prefix='1 2 3'
    )
    """,
    """
    CREATE TRIGGER latents_search_insert AFTER INSERT ON latents_latentrecord BEGIN
        INSERT INTO latents_search_entry (record_id) VALUES (new.id);
        INSERT INTO latents_search (rowid, caption, owner)
        SELECT id, new.caption, new.owner_id FROM latents_search_entry WHERE record_id = new.id;
    END
    """,
    """
    CREATE TRIGGER latents_search_delete AFTER DELETE ON latents_latentrecord BEGIN
        INSERT INTO latents_search (latents_search, rowid, caption, owner)
        SELECT 'delete', id, old.caption, old.owner_id FROM latents_search_entry WHERE record_id = old.id;
        DELETE FROM latents_search_entry WHERE record_id = old.id;
    END
    """,
    """
    CREATE TRIGGER latents_search_update AFTER UPDATE OF caption, owner_id ON latents_latentrecord
    WHEN old.caption <> new.caption OR old.owner_id <> new.owner_id BEGIN
        INSERT INTO latents_search (latents_search, rowid, caption, owner)
        SELECT 'delete', id, old.caption, old.owner_id FROM latents_search_entry WHERE record_id = old.id;
        INSERT INTO latents_search (rowid, caption, owner)
        SELECT id, new.caption, new.owner_id FROM latents_search_entry WHERE record_id = new.id;
    END
    """,
    "INSERT INTO latents_search_entry (record_id) SELECT id FROM latents_latentrecord ORDER BY created_at, id",
    """
    INSERT INTO latents_search (rowid, caption, owner)
    SELECT entry.id, caption, owner_id
    FROM latents_search_entry entry JOIN latents_latentrecord record ON record.id = entry.record_id
    """,
]


def create(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(POSTGRESQL)
    else:
        for statement in SQLITE:
            schema_editor.execute(statement)


def remove(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP INDEX latents_caption_words")
        return
    for name in ("insert", "delete", "update"):
        schema_editor.execute(f"DROP TRIGGER latents_search_{name}")
    schema_editor.execute("DROP TABLE latents_search")
    schema_editor.execute("DROP TABLE latents_search_entry")


class Migration(migrations.Migration):
    dependencies = [("latents", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="SearchEntry",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "record",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="search_entry",
                        to="latents.latentrecord",
                    ),
                ),
            ],
            options={"db_table": "latents_search_entry", "managed": False},
        ),
        migrations.CreateModel(
            name="SearchWords",
            fields=[
                (
                    "entry",
                    models.OneToOneField(
                        db_column="rowid",
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="words",
                        serialize=False,
                        to="latents.searchentry",
                    ),
                ),
                ("words", latents.search.WordsField(db_column="latents_search")),
            ],
            options={"db_table": "latents_search", "managed": False},
        ),
        migrations.RunPython(create, remove),
    ]
