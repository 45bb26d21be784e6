from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("catalog", "0013_sorted_by_title")]

    operations = [
        migrations.AddField("alias", "decided_by", models.TextField(blank=True, default="", db_default="")),
        migrations.AddField("alias", "decided_at", models.DateTimeField(null=True)),
        migrations.AddField("alias", "reason", models.TextField(blank=True, default="", db_default="")),
    ]
