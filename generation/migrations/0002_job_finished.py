from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("generation", "0001_initial"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="generationjob",
            index=models.Index(fields=["-finished_at"], name="job_finished"),
        ),
    ]
