import django.db.models.deletion
from django.db import migrations, models


def mark_all(apps, schema_editor):
    """What waited is rendered, with all else."""
    marks, entities = apps.get_model("catalog", "DirtyEntity"), apps.get_model("catalog", "Entity")
    marks.objects.bulk_create(
        [marks(entity_id=pk) for pk in entities.objects.values_list("pk", flat=True)], batch_size=5_000
    )


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0003_subject_place"),
    ]

    operations = [
        migrations.DeleteModel(name="DirtyEntity"),
        migrations.CreateModel(
            name="DirtyEntity",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("since", models.DateTimeField(auto_now_add=True)),
                (
                    "entity",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="catalog.entity",
                    ),
                ),
            ],
            options={"verbose_name_plural": "dirty entities"},
        ),
        migrations.RunPython(mark_all, migrations.RunPython.noop),
    ]
