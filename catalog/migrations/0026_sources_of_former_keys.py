from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("catalog", "0025_changes_of_kinds")]

    operations = [
        migrations.AddField("formerkey", "source", models.TextField(blank=True, default="", db_default="")),
    ]
