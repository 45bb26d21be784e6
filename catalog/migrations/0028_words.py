from django.db import migrations, models

from catalog.documents.patches import unpack_words

_AT_ONCE = 1_000


def _unpack(apps, schema_editor):
    """Put the words back into the places, where the code before this looks for them."""
    for name in ("Claim", "AsideClaim"):
        rows = apps.get_model("catalog", name).objects.exclude(words=None)
        while page := list(rows.only("id", "place", "words").order_by("id")[:_AT_ONCE]):
            for row in page:
                row.place = {**row.place, "text": unpack_words(bytes(row.words)).replace("\0", "\ufffd")}
                row.words = None
            rows.model.objects.bulk_update(page, ["place", "words"])


class Migration(migrations.Migration):
    """The words of documents are packed, as claims are written; what was written before stays as it is."""

    dependencies = [("catalog", "0027_read_digest")]

    operations = [
        *(
            migrations.AddField(
                model,
                "words",
                models.BinaryField(null=True, help_text="The very words of a document in a file, packed."),
            )
            for model in ("claim", "asideclaim")
        ),
        migrations.RunPython(migrations.RunPython.noop, _unpack),
    ]
