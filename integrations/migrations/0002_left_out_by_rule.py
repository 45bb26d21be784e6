from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("integrations", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="storedrecord",
            name="is_ignored",
            field=models.BooleanField(db_default=False, default=False),
        ),
    ]
