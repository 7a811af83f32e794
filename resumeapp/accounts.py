"""Who somebody is: the user of local mode, the account page and its personal tokens."""

from typing import cast

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import views as auth_views
from django.contrib.auth.forms import PasswordChangeForm
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from resumeapp.models import PersonalToken

LOCAL_USERNAME = "local"


def local_user() -> User:
    """Return the user to whom everything belongs in local mode, made on first use."""
    user, _ = User.objects.get_or_create(
        username=LOCAL_USERNAME, defaults={"is_staff": True, "is_superuser": True, "password": make_password(None)}
    )
    return user


def is_local_mode() -> bool:
    return bool(settings.REPRISE_MODE == "local")


class UnknownUser(LookupError):
    """Nobody of this name can own anything; the message is meant for whoever runs a command."""


def find_user(username: str | None) -> User:
    """Return the active user of this name; in local mode, the local user where none is named. Raises UnknownUser."""
    if is_local_mode() and username in (None, LOCAL_USERNAME):
        return local_user()
    if username is None:
        raise UnknownUser("Say whose it is: --user NAME")
    try:
        return User.objects.get(username=username, is_active=True)
    except (User.DoesNotExist, UnicodeError):  # a command line may hold bytes that are no text
        raise UnknownUser(f"No active user '{username}'") from None


class TokenForm(forms.Form):
    name = forms.CharField(max_length=80, help_text="What will use it, such as “backup script”.")


class PasswordChangeView(auth_views.PasswordChangeView):
    # Not the name that the admin's own page has: a template there would replace it too.
    template_name = "account/password.html"
    success_url = reverse_lazy("account")

    def form_valid(self, form: PasswordChangeForm) -> HttpResponse:
        messages.success(self.request, "Password changed")
        return super().form_valid(form)


@require_GET
def account(request: HttpRequest) -> HttpResponse:
    return render(request, "account/account.html", {"has_password": not is_local_mode()})


@never_cache
@require_http_methods(["GET", "POST"])
def tokens(request: HttpRequest) -> HttpResponse:
    """List the personal tokens and make one; its secret is in this one answer and never again."""
    user = _person(request)
    form = TokenForm(request.POST if request.method == "POST" else None)
    secret = ""
    if form.is_valid():
        _, secret = PersonalToken.objects.issue(user, form.cleaned_data["name"])
        form = TokenForm()
    context = {"form": form, "secret": secret, "tokens": PersonalToken.objects.filter(user=user)}
    return render(request, "account/tokens.html", context, status=422 if form.errors else 200)


@require_POST
def revoke_token(request: HttpRequest, pk: int) -> HttpResponse:
    token = get_object_or_404(PersonalToken, pk=pk, user=_person(request))
    token.delete()
    messages.success(request, f"Token “{token}” is revoked")
    return redirect("tokens")


def _person(request: HttpRequest) -> User:
    """Return who asks, in person: a token must not be able to make another one that outlives it."""
    if hasattr(request, "personal_token"):
        raise PermissionDenied("Personal tokens are managed in the browser")
    return cast(User, request.user)
