"""`has:metadata.links` finds objects too: every entity's tokens are made again."""

from django.db import migrations


def mark_all(apps, schema_editor):
    marks, entities = apps.get_model("catalog", "DirtyEntity"), apps.get_model("catalog", "Entity")
    marks.objects.bulk_create(
        [marks(entity_id=pk, is_to_merge=True) for pk in entities.objects.values_list("pk", flat=True)],
        batch_size=5_000,
    )


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0008_revision_reason"),
    ]

    operations = [
        migrations.RunPython(mark_all, migrations.RunPython.noop),
    ]
