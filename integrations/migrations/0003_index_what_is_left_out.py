from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("integrations", "0002_left_out_by_rule")]

    operations = [
        AddIndexConcurrently(
            model_name="storedrecord",
            index=models.Index(
                condition=models.Q(is_ignored=True), fields=["connection"], name="record_ignored"
            ),
        ),
    ]
