from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("catalog", "0018_index_audiences")]

    operations = [
        migrations.AddField(
            "revision",
            "run",
            models.BigIntegerField(null=True, help_text="Number of the sync run that brought it."),
        ),
    ]
