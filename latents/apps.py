from django.apps import AppConfig


class LatentsConfig(AppConfig):
    name = "latents"
