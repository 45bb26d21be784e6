from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import migrations, models
from django.db.models import CASCADE, SET_NULL
from django.db.models.functions import Upper


def _drop(index):
    """Of this schema alone: a restore builds its tables beside those in use."""
    return f"DO $$ BEGIN EXECUTE format('DROP INDEX IF EXISTS %I.{index}', current_schema()); END $$"


def _without_index(model, name, to, index, **options):
    """A foreign key whose index is the beginning of another; the field is not touched."""
    options = {"on_delete": CASCADE, "db_index": False, **options}
    return migrations.RunSQL(
        _drop(f"catalog_{model}_{name}_id_{index}"),
        f"CREATE INDEX IF NOT EXISTS catalog_{model}_{name}_id_{index} ON catalog_{model} ({name}_id)",
        state_operations=[migrations.AlterField(model, name, models.ForeignKey(f"catalog.{to}", **options))],
    )


def _same(name, *expressions, **options):
    """State only: `RunSQL` sets the option of the index that is there."""
    index = GinIndex(*expressions, name=name, gin_pending_list_limit=512, **options)
    return [migrations.RemoveIndex("entity", name), migrations.AddIndex("entity", index)]


class Migration(migrations.Migration):
    """No index that is the beginning of another, none of refs for LIKE alone, and short lists of what waits to be
    sorted into the indexes of tokens and texts."""

    dependencies = [("catalog", "0020_added_fields")]

    operations = [
        _without_index("claim", "source", "source", "f8d01b4c", related_name="claims"),
        _without_index("entitykey", "claim", "claim", "ed04b7b7", related_name="keys"),
        _without_index("entitykey", "entity", "entity", "0efe104d", related_name="keys"),
        _without_index("relation", "source", "entity", "6a8a52a6", related_name="relations_out"),
        _without_index(
            "relation", "target", "entity", "ae1a3f1f", related_name="relations_in", on_delete=SET_NULL, null=True
        ),
        _without_index("tie", "source", "entity", "766650f3", related_name="ties_out"),
        _without_index("tie", "target", "entity", "c2a5b407", related_name="ties_in"),
        _without_index("transition", "activity", "activity", "f07b42a7", related_name="transitions"),
        migrations.RunSQL(
            _drop("catalog_entity_ref_d4d57767_like"),
            "CREATE INDEX IF NOT EXISTS catalog_entity_ref_d4d57767_like ON catalog_entity (ref text_pattern_ops)",
        ),
        migrations.RunSQL(
            """
            ALTER INDEX entity_tokens SET (gin_pending_list_limit = 512);
            ALTER INDEX entity_text SET (gin_pending_list_limit = 512);
            """,
            """
            ALTER INDEX entity_tokens RESET (gin_pending_list_limit);
            ALTER INDEX entity_text RESET (gin_pending_list_limit);
            """,
            state_operations=[
                *_same("entity_tokens", fields=["tokens"]),
                *_same(
                    "entity_text",
                    *(OpClass(Upper(name), "gin_trgm_ops") for name in ("name", "title", "description")),
                ),
            ],
        ),
    ]
