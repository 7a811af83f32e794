"""The studio's own URLs; those that only change a latent are in latents.urls."""

from django.urls import path

from generation.views import compare, drafts, jobs, library, plan, presets, queue, samples, studio, workers, writing

app_name = "generation"
urlpatterns = [
    path("", studio.studio, name="studio"),
    path("generation/generate", studio.generate, name="generate"),
    path("generation/plan", plan.plan, name="plan"),
    path("generation/jobs/<uuid:job_id>/", jobs.job, name="job"),
    path("generation/jobs/<uuid:job_id>/cancel", jobs.cancel, name="cancel_job"),
    path("generation/jobs/<uuid:job_id>/retry", jobs.retry, name="retry_job"),
    path("generation/jobs/<uuid:job_id>/another", jobs.another, name="another_take"),
    path("generation/jobs/<uuid:job_id>/retry-decode", jobs.retry_decode, name="retry_decode_job"),
    path("generation/jobs/<uuid:job_id>/delete", jobs.delete, name="delete_job"),
    path("generation/jobs/<uuid:job_id>/undelete", jobs.undelete, name="undelete_job"),
    path("generation/samples/<uuid:sample_id>/audio", samples.audio, name="audio"),
    path("generation/samples/<uuid:sample_id>/delete", samples.delete, name="delete_sample"),
    path("generation/samples/<uuid:sample_id>/undelete", samples.undelete, name="undelete_sample"),
    path("queue/", queue.queue, name="queue"),
    path("queue/cancel-waiting", queue.cancel_waiting, name="cancel_waiting"),
    path("queue/clear", queue.clear, name="clear_queue"),
    path("queue/<uuid:job_id>/unclear", queue.unclear, name="unclear_queue"),
    *(
        path(f"queue/<uuid:job_id>/{action}", queue.act, {"action": action}, name=f"queue_{action}")
        for action in queue.ACTIONS
    ),
    path("compare/", compare.compare, name="compare"),
    path("latents/", library.library, name="library"),
    path("latents/<uuid:latent_id>/", library.record, name="record"),
    path("draft/save", drafts.save, name="save_draft"),
    path("draft/discard", drafts.discard, name="discard_draft"),
    path("prompts/", writing.prompts, name="prompts"),
    path("presets/", presets.presets, name="presets"),
    path("presets/save", presets.save, name="save_preset"),
    path("presets/<int:preset_id>/delete", presets.delete, name="delete_preset"),
    path("workers/", workers.workers, name="workers"),
]
