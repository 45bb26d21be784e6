from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("integrations", "0012_kept_records")]

    operations = [
        AddIndexConcurrently(
            model_name="storedrecord",
            index=models.Index(
                condition=models.Q(kept_at__isnull=False), fields=["connection"], name="record_kept"
            ),
        ),
    ]
