import django.db.models.functions.text
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("catalog", "0012_digests_of_versions")]

    operations = [
        AddIndexConcurrently(
            model_name="entity",
            index=models.Index(django.db.models.functions.text.Lower("title"), "uid", name="entity_title"),
        ),
    ]
