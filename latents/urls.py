"""URLs that change, hand out or take in one latent."""

from django.urls import path

from latents import views

app_name = "latents"
urlpatterns = [
    path("import", views.import_, name="import"),
    path("<uuid:latent_id>/pin", views.pin, name="pin"),
    path("<uuid:latent_id>/unpin", views.unpin, name="unpin"),
    path("<uuid:latent_id>/extend", views.extend, name="extend"),
    path("<uuid:latent_id>/delete", views.delete, name="delete"),
    path("<uuid:latent_id>/undelete", views.undelete, name="undelete"),
    path("<uuid:latent_id>/download", views.download, name="download"),
    path("<uuid:latent_id>/heatmap.png", views.heatmap, name="heatmap"),
]
