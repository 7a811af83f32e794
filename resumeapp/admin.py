"""What all of the admin's lists share; and personal tokens: who has which, and a way to revoke another person's."""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.views.main import SEARCH_VAR, ChangeList, ChangeListSearchForm
from django.http import HttpRequest

from resumeapp.models import PersonalToken

MAX_SEARCH_LENGTH = 200


class SearchForm(ChangeListSearchForm):
    """The admin's own, but for what is longer than a database takes in one pattern or one condition."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields = {SEARCH_VAR: forms.CharField(required=False, strip=False, max_length=MAX_SEARCH_LENGTH)}


ChangeList.search_form_class = SearchForm  # here, since Django's own lists of users and groups need it too


@admin.register(PersonalToken)
class PersonalTokenAdmin(admin.ModelAdmin[PersonalToken]):
    list_display = ("name", "user", "created_at", "last_used_at")
    list_select_related = ("user",)
    search_fields = ("name", "user__username")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # the secret is for its owner's eyes only

    def has_change_permission(self, request: HttpRequest, obj: PersonalToken | None = None) -> bool:
        return False
