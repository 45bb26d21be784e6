from django.db import migrations, models


class Migration(migrations.Migration):
    """A pack's new version of a kind is checked before it is applied, as one that people propose."""

    dependencies = [("catalog", "0030_read_definitions")]

    operations = [
        migrations.AddField("kindchange", "pack", models.TextField(blank=True, default="", db_default="")),
    ]
