import django.utils.timezone
from django.db import migrations, models
from django.db.models import F, Q
from django.db.models.functions import Now


def take_turns_as_they_came(apps, schema_editor):
    apps.get_model("generation", "GenerationJob").objects.update(turn_at=F("created_at"))


class Migration(migrations.Migration):
    dependencies = [
        ("generation", "0002_job_finished"),
    ]

    operations = [
        migrations.AddField(
            model_name="generationjob",
            name="turn_at",
            field=models.DateTimeField(
                db_default=Now(),
                default=django.utils.timezone.now,
                help_text="waiting jobs are taken in this order; their owner may move them",
            ),
        ),
        migrations.RunPython(take_turns_as_they_came, migrations.RunPython.noop),
        migrations.RemoveIndex(
            model_name="generationjob",
            name="job_queued",
        ),
        migrations.AddIndex(
            model_name="generationjob",
            index=models.Index(fields=["turn_at", "id"], name="job_in_line", condition=Q(status="queued")),
        ),
    ]
