from django.contrib.postgres.indexes import GinIndex, OpClass
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations
from django.db.models.functions import Upper


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("catalog", "0032_bulk_changes")]

    operations = [
        AddIndexConcurrently(
            "activity",
            GinIndex(OpClass(Upper("title"), "gin_trgm_ops"), name="activity_title", gin_pending_list_limit=512),
        ),
    ]
