"""Find an image by its digest."""

import django.contrib.postgres.indexes
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("catalog", "0011_failing_since")]

    operations = [
        AddIndexConcurrently(
            model_name="activity",
            index=django.contrib.postgres.indexes.GinIndex(
                condition=models.Q(("type", "version")), fields=["keys"], name="activity_digests"
            ),
        ),
    ]
