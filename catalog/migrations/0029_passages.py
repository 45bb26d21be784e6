import django.contrib.postgres.indexes
import django.contrib.postgres.search
import django.db.models.deletion
import django.db.models.functions.text
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("catalog", "0028_words")]

    operations = [
        migrations.CreateModel(
            name="Passage",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "sort",
                    models.TextField(
                        choices=[("operation", "Operation of an API"), ("page", "Section of its docs")]
                    ),
                ),
                ("key", models.TextField()),
                ("title", models.TextField()),
                ("text", models.TextField(blank=True)),
                ("position", models.PositiveIntegerField()),
                ("vector", django.contrib.postgres.search.SearchVectorField(editable=False)),
                ("digest", models.BinaryField(max_length=16)),
                (
                    "entity",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="passages",
                        to="catalog.entity",
                    ),
                ),
            ],
            options={
                "indexes": [
                    django.contrib.postgres.indexes.GinIndex(
                        fields=["vector"], gin_pending_list_limit=512, name="passage_vector"
                    ),
                    django.contrib.postgres.indexes.GinIndex(
                        django.contrib.postgres.indexes.OpClass(
                            django.db.models.functions.text.Upper("title"), "gin_trgm_ops"
                        ),
                        gin_pending_list_limit=512,
                        name="passage_title",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("entity", "sort", "key"), name="passage_once")
                ],
            },
        ),
    ]
