from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("access", "0004_claimed_persons"),
    ]

    operations = [
        migrations.AddField(
            model_name="user",
            name="last_visit_at",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name="user",
            name="seen_at",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
    ]
