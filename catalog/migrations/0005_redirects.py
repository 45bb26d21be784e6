import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("catalog", "0004_dirty_marks"),
    ]

    operations = [
        migrations.CreateModel(
            name="Redirect",
            fields=[
                (
                    "loser",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="redirect",
                        serialize=False,
                        to="catalog.entity",
                    ),
                ),
                ("ref", models.TextField(unique=True)),
                ("decided_by", models.TextField()),
                ("decided_at", models.DateTimeField()),
                ("reason", models.TextField(blank=True)),
                (
                    "winner",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="redirected", to="catalog.entity"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="RedirectedClaim",
            fields=[
                (
                    "claim",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="redirected",
                        serialize=False,
                        to="catalog.claim",
                    ),
                ),
                (
                    "redirect",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="claims", to="catalog.redirect"
                    ),
                ),
            ],
        ),
    ]
