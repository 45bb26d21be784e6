from django.db import migrations, models

import catalog.models.entities


def _drop(_apps, schema_editor):
    """What an earlier start left half made. Of this schema alone: a restore builds its tables beside those in use."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT quote_ident(current_schema())")
        (schema,) = cursor.fetchone()
        cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {schema}.relation_unique")


class Migration(migrations.Migration):
    """That a relation is stored once is told by a hash of its texts: the same, in a third of the space."""

    atomic = False
    dependencies = [("catalog", "0021_no_double_indexes")]

    operations = [
        migrations.RunPython(_drop, _drop),
        migrations.RunSQL(
            """
            CREATE UNIQUE INDEX CONCURRENTLY relation_unique ON catalog_relation
                (source_id, (hashtextextended(type || ' ' || target_ref, 0)))
            """,
            migrations.RunSQL.noop,
            state_operations=[
                migrations.AddConstraint(
                    "relation",
                    models.UniqueConstraint(
                        models.F("source"),
                        catalog.models.entities.Hash64("type", "target_ref"),
                        name="relation_unique",
                    ),
                )
            ],
        ),
        migrations.RemoveConstraint("relation", "relation_once"),
    ]
