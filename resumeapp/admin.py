"""Personal tokens in the admin: who has which, and a way to revoke one for somebody else."""

from django.contrib import admin
from django.http import HttpRequest

from resumeapp.models import PersonalToken


@admin.register(PersonalToken)
class PersonalTokenAdmin(admin.ModelAdmin[PersonalToken]):
    list_display = ("name", "user", "created_at", "last_used_at")
    list_select_related = ("user",)
    search_fields = ("name", "user__username")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # the secret is for its owner's eyes only

    def has_change_permission(self, request: HttpRequest, obj: PersonalToken | None = None) -> bool:
        return False
