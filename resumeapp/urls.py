"""Every URL of the studio."""

from django.contrib import admin
from django.contrib.auth import views as auth_views
from django.urls import include, path

from resumeapp import accounts, health, metrics

admin.site.site_header = admin.site.site_title = "Reprise"
admin.site.index_title = "Administration"
admin.site.enable_nav_sidebar = False  # the lists have many columns

handler400 = "generation.views.answers.bad_request"
handler403 = "generation.views.answers.forbidden"
handler404 = "generation.views.answers.page_not_found"
handler500 = "resumeapp.answers.broken"

urlpatterns = [
    path("", include("generation.urls")),
    path("account/", accounts.account, name="account"),
    path("account/login/", auth_views.LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("account/logout/", auth_views.LogoutView.as_view(), name="logout"),
    path("account/password/", accounts.PasswordChangeView.as_view(), name="password_change"),
    path("account/tokens/", accounts.tokens, name="tokens"),
    path("account/tokens/<int:pk>/revoke/", accounts.revoke_token, name="revoke_token"),
    path("admin/", admin.site.urls),
    path("latents/", include("latents.urls")),
    path("metrics", metrics.metrics, name="metrics"),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
]
