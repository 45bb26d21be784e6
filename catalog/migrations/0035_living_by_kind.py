from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("catalog", "0034_docs_read")]

    operations = [
        AddIndexConcurrently(
            "entity",
            models.Index(
                fields=["kind", "name", "uid"],
                name="entity_living_kind_name",
                condition=models.Q(deleted_at__isnull=True),
            ),
        ),
        RemoveIndexConcurrently("entity", "entity_kind_name"),
    ]
