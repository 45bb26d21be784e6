import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("catalog", "0029_passages")]

    operations = [
        migrations.CreateModel(
            name="ReadDefinition",
            fields=[
                (
                    "entity",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="catalog.entity",
                    ),
                ),
                ("digest", models.BinaryField(max_length=17)),
            ],
        ),
    ]
