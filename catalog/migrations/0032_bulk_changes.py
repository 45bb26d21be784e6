import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    """Changes of many things that a worker does."""

    dependencies = [
        ("catalog", "0031_packs_of_kind_changes"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            "BulkChange",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("what", models.JSONField()),
                ("entities", models.JSONField()),
                ("reason", models.TextField(blank=True)),
                ("expected", models.TextField(blank=True)),
                ("back", models.TextField(blank=True)),
                (
                    "state",
                    models.TextField(
                        choices=[
                            ("queued", "Waiting"),
                            ("done", "Done"),
                            ("failed", "Not done"),
                            ("cancelled", "Cancelled"),
                        ],
                        default="queued",
                    ),
                ),
                ("total", models.PositiveIntegerField()),
                ("changed", models.PositiveIntegerField(default=0)),
                ("error", models.TextField(blank=True)),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                ("made_at", models.DateTimeField()),
                ("begun_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name": "change of many things",
                "verbose_name_plural": "changes of many things",
                "indexes": [
                    models.Index(
                        condition=models.Q(("state", "queued")), fields=["id"], name="bulkchange_queued"
                    )
                ],
            },
        ),
    ]
