from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False  # so that nobody who writes ties waits for the index

    dependencies = [
        ("catalog", "0005_redirects"),
    ]

    operations = [
        AddIndexConcurrently(model_name="tie", index=models.Index(fields=["key"], name="tie_key")),
    ]
