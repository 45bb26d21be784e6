from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("catalog", "0017_audiences")]

    operations = [
        AddIndexConcurrently(
            model_name="entity",
            index=models.Index(
                condition=models.Q(("audience__isnull", False)), fields=["uid"], name="entity_audience"
            ),
        ),
    ]
