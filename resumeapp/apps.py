from django.apps import AppConfig


class ResumeappConfig(AppConfig):
    name = "resumeapp"
    verbose_name = "Reprise"
    default_auto_field = "django.db.models.BigAutoField"
