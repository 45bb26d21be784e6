from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("integrations", "0007_without_fingerprint")]

    operations = [
        migrations.AddField(
            model_name="connection",
            name="removal_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="connection",
            name="removal_by",
            field=models.CharField(blank=True, db_default="", default="", editable=False, max_length=200),
        ),
        migrations.AddField(
            model_name="connection",
            name="removal_rows",
            field=models.PositiveIntegerField(db_default=0, default=0, editable=False),
        ),
    ]
