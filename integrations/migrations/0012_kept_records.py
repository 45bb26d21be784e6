from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("integrations", "0011_uid_of_locations")]

    operations = [
        migrations.AddField(
            model_name="storedrecord", name="kept_at", field=models.DateTimeField(null=True)
        ),
    ]
