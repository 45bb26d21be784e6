import django.contrib.postgres.indexes
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations
from django.db.models.fields.json import KT


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("catalog", "0009_tokens_of_objects")]

    operations = [
        AddIndexConcurrently(
            model_name="activity",
            index=django.contrib.postgres.indexes.HashIndex(fields=["url"], name="activity_url"),
        ),
        AddIndexConcurrently(
            model_name="claim",
            index=django.contrib.postgres.indexes.HashIndex(KT("place__address"), name="claim_address"),
        ),
    ]
