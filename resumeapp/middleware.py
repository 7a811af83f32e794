"""What every request passes: the local door, who is asking, and the content security policy."""

from collections.abc import Callable
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any

from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseForbidden, JsonResponse
from django.utils.functional import SimpleLazyObject
from django.views.csrf import csrf_failure
from django_htmx.http import HttpResponseClientRedirect
from django_htmx.middleware import HtmxDetails

from resumeapp.accounts import is_local_mode, local_user
from resumeapp.models import PersonalToken

GetResponse = Callable[[HttpRequest], HttpResponseBase]
View = Callable[..., HttpResponseBase]

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "media-src 'self'",
        "connect-src 'self'",
        "font-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)


def content_security_policy(get_response: GetResponse) -> GetResponse:
    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        return response

    return middleware


def local_door(get_response: GetResponse) -> GetResponse:
    """Let only this computer in while nobody has to log in.

    A proxy in front would make every visitor look local, so whatever passed through one is refused, as is a Host that
    a foreign page could have made this computer's name resolve to.
    """

    def middleware(request: HttpRequest) -> HttpResponseBase:
        if is_local_mode():
            request.get_host()  # raises DisallowedHost, answered with 400
            if _came_through_a_proxy(request) or not _came_from_loopback(request):
                return HttpResponseForbidden(
                    "Reprise runs in local mode, without login, and serves this computer only. "
                    "To serve others, set REPRISE_MODE=server.",
                    content_type="text/plain",
                )
        return get_response(request)

    return middleware


def _came_through_a_proxy(request: HttpRequest) -> bool:
    return any(name == "HTTP_FORWARDED" or name.startswith("HTTP_X_FORWARDED") for name in request.META)


def _came_from_loopback(request: HttpRequest) -> bool:
    try:
        return ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False


def identify(get_response: GetResponse) -> GetResponse:
    """Say who asks: the owner of the personal token, else in local mode the local user, else the session's user."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            token = PersonalToken.objects.authenticate(secret.strip())
            if token is None:
                return _unauthorized("Unknown or revoked token")
            request.user = token.user
            request.personal_token = token  # type: ignore[attr-defined]
            # No browser sends this header by itself, so no other site can have forged the request. Set only here.
            request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined]
        elif is_local_mode():
            request.user = SimpleLazyObject(local_user)  # type: ignore[assignment]
        return get_response(request)

    return middleware


class LoginMiddleware(LoginRequiredMiddleware):
    """Ask everybody to log in, in the manner of the request: a page, an htmx redirect, or 401 for a program."""

    def process_view(
        self, request: HttpRequest, view_func: View, view_args: tuple[Any, ...], view_kwargs: dict[str, Any]
    ) -> HttpResponseBase | None:
        # The view is asked first, so that health checks do not need the database to learn who the user is.
        if not getattr(view_func, "login_required", True) or request.user.is_authenticated:
            return None
        if wants_json(request):
            return _unauthorized("Log in, or send a personal token as Authorization: Bearer")
        if htmx := HtmxDetails(request):
            # Back to the page the person looks at, not to the fragment it asked for.
            return HttpResponseClientRedirect(redirect_to_login(htmx.current_url_abs_path or "/").url)
        return self.handle_no_permission(request, view_func)


def refuse_forgery(request: HttpRequest, reason: str = "") -> HttpResponseBase:
    """Answer a request without a valid CSRF token; a program is told what programs send instead."""
    if wants_json(request):
        error = f"{reason} Programs send a personal token as Authorization: Bearer"
        return JsonResponse({"error": error}, status=HTTPStatus.FORBIDDEN)
    return csrf_failure(request, reason)


def wants_json(request: HttpRequest) -> bool:
    """Tell whether a program asks: it sends JSON or prefers to get it."""
    preferred = request.get_preferred_type(["text/html", "application/json"])
    return "application/json" in (request.content_type, preferred)


def _unauthorized(error: str) -> HttpResponse:
    return JsonResponse(
        {"error": error}, status=HTTPStatus.UNAUTHORIZED, headers={"WWW-Authenticate": 'Bearer realm="Reprise"'}
    )
