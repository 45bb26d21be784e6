from django.db import migrations, models
from django.db.models import F


def go_on(apps, schema_editor):
    """What is being removed right now goes on in the new way: set aside, and kept for a while."""
    apps.get_model("integrations", "Connection").objects.exclude(removal_at=None).update(
        moving_since=F("removal_at"), kept_until=F("removal_at")
    )


class Migration(migrations.Migration):
    dependencies = [("integrations", "0009_network_of_connections")]

    operations = [
        migrations.AddField(
            model_name="connection",
            name="kept_until",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="connection",
            name="muted_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="connection",
            name="muted_by",
            field=models.CharField(blank=True, db_default="", default="", editable=False, max_length=200),
        ),
        migrations.AddField(
            model_name="connection",
            name="moving_since",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.RenameField(model_name="connection", old_name="removal_rows", new_name="moving_rows"),
        migrations.RunPython(go_on, migrations.RunPython.noop),
    ]
