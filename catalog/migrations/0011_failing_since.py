"""Since when an entity fails; whoever had runs is looked at again."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


def mark_with_runs(apps, schema_editor):
    marks, entities = apps.get_model("catalog", "DirtyEntity"), apps.get_model("catalog", "Entity")
    marks.objects.bulk_create(
        [marks(entity_id=pk) for pk in entities.objects.exclude(last_run="").values_list("pk", flat=True)],
        batch_size=5_000,
    )


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("catalog", "0010_addresses")]

    operations = [
        migrations.AddField(
            model_name="entity",
            name="failing_since",
            field=models.DateTimeField(
                help_text="When the first run failed of those that still do.", null=True
            ),
        ),
        migrations.AlterField(
            model_name="entity",
            name="last_run",
            field=models.TextField(
                blank=True,
                help_text="Of the default branch: failed while any pipeline fails, else its newest run's status.",
            ),
        ),
        migrations.AlterField(
            model_name="entity",
            name="signals",
            field=models.JSONField(
                default=dict, help_text="For pages: what speaks of what is tied to it, what fails."
            ),
        ),
        AddIndexConcurrently(
            model_name="entity",
            index=models.Index(
                condition=models.Q(("failing_since__isnull", False)),
                fields=["failing_since"],
                name="entity_failing",
            ),
        ),
        migrations.RunPython(mark_with_runs, migrations.RunPython.noop),
    ]
