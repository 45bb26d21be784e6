import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('integrations', '0013_index_what_is_kept'),
    ]

    operations = [
        migrations.CreateModel(
            name='LocationDocs',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('top', models.TextField()),
                ('texts', models.JSONField()),
                ('web', models.TextField(blank=True)),
                ('commit', models.TextField(blank=True)),
                ('digest', models.BinaryField(max_length=16)),
                ('changed_at', models.DateTimeField()),
                ('location', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='docs', to='integrations.cataloglocation')),
            ],
            options={
                'verbose_name_plural': 'location docs',
                'constraints': [models.UniqueConstraint(fields=('location', 'top'), name='location_docs_once')],
            },
        ),
    ]
