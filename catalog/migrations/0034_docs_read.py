from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("catalog", "0033_activity_titles")]

    operations = [
        migrations.RenameModel(old_name="ReadDefinition", new_name="PassagesRead"),
        migrations.RenameField(model_name="passagesread", old_name="digest", new_name="operations"),
        migrations.AlterField(
            model_name="passagesread",
            name="operations",
            field=models.BinaryField(max_length=17, null=True),
        ),
        migrations.AddField(
            model_name="passagesread",
            name="pages",
            field=models.BinaryField(max_length=17, null=True),
        ),
    ]
