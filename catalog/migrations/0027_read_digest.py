from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("catalog", "0026_sources_of_former_keys")]

    operations = [
        migrations.AddField(
            "claim",
            "read_digest",
            models.BinaryField(
                max_length=16,
                null=True,
                help_text="Of the text that it was read from: the same text need not be parsed again.",
            ),
        ),
    ]
