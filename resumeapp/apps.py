from django.apps import AppConfig


class ResumeappConfig(AppConfig):
    name = "resumeapp"
    verbose_name = "Access"

    def ready(self) -> None:
        from resumeapp import checks  # noqa: F401  importing registers them
