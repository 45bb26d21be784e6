from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("integrations", "0006_quick_runs")]

    operations = [migrations.RemoveField(model_name="cataloglocation", name="fingerprint")]
