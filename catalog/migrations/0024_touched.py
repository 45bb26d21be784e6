import django.contrib.postgres.fields
import django.db.models.functions.datetime
from django.db import migrations, models

import catalog.models.history

# The table, the columns that name entities, and whether an update can concern others than before.
TABLES = (
    ("catalog_entity", "id"),
    ("catalog_served", "entity_id"),
    ("catalog_relation", "source_id, target_id"),
    ("catalog_tie", "source_id, target_id"),
)
MOST = 5_000


def _sql() -> str:
    parts = []
    for table, columns in TABLES:
        ids = f"unnest(ARRAY[{columns}])" if "," in columns else columns
        body = """
            CREATE FUNCTION {table}_touched_{name}() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                INSERT INTO catalog_touched (ids)
                SELECT CASE WHEN count(*) <= {most} THEN array_agg(id) END
                FROM (SELECT DISTINCT id FROM ({rows}) AS named(id) WHERE id IS NOT NULL) AS touched
                HAVING count(*) > 0;
                RETURN NULL;
            END $$;
            CREATE TRIGGER {table}_touched_{name} AFTER {event} ON {table}
            {referencing} FOR EACH STATEMENT EXECUTE FUNCTION {table}_touched_{name}();
        """
        old, new = (f"SELECT {ids} FROM {name}_rows" for name in ("old", "new"))
        for event, rows, referencing in (
            ("INSERT", new, "REFERENCING NEW TABLE AS new_rows"),
            ("UPDATE", f"{old} UNION ALL {new}", "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows"),
            ("DELETE", old, "REFERENCING OLD TABLE AS old_rows"),
        ):
            if event == "UPDATE" and "," not in columns:
                rows, referencing = new, "REFERENCING NEW TABLE AS new_rows"
            parts.append(
                body.format(
                    table=table, name=event.lower(), event=event, rows=rows, referencing=referencing, most=MOST
                )
            )
    return "".join(parts)


def _reverse() -> str:
    return "".join(
        f"DROP TRIGGER {table}_touched_{name} ON {table}; DROP FUNCTION {table}_touched_{name}();"
        for table, _columns in TABLES
        for name in ("insert", "update", "delete")
    )


class Migration(migrations.Migration):
    dependencies = [("catalog", "0023_computed_fields")]

    operations = [
        migrations.CreateModel(
            name="Touched",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("transaction", models.BigIntegerField(db_default=catalog.models.history.CurrentTransaction())),
                ("at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "ids",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(), null=True, size=None
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "touched",
                "indexes": [models.Index(fields=["transaction"], name="touched_transaction")],
            },
        ),
        migrations.RunSQL(_sql(), _reverse()),
    ]
