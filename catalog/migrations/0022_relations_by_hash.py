from django.db import migrations, models

import catalog.models.entities


class Migration(migrations.Migration):
    """That a relation is stored once is told by a hash of its texts: the same, in a third of the space."""

    atomic = False
    dependencies = [("catalog", "0021_no_double_indexes")]

    operations = [
        migrations.RunSQL(
            [
                "DROP INDEX CONCURRENTLY IF EXISTS relation_unique",  # what an earlier start left half made
                """
                CREATE UNIQUE INDEX CONCURRENTLY relation_unique ON catalog_relation
                    (source_id, (hashtextextended(type || ' ' || target_ref, 0)))
                """,
            ],
            "DROP INDEX CONCURRENTLY IF EXISTS relation_unique",
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
