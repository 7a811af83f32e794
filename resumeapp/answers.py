"""In which form the studio answers: a page, a fragment, JSON, or a redirect where there is no JavaScript."""

import sys
from http import HTTPStatus

from django.contrib import messages
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.cache import patch_vary_headers
from django.utils.http import url_has_allowed_host_and_scheme
from django_htmx.http import reswap
from django_htmx.middleware import HtmxDetails

from latents.errors import StorageFailed
from resumeapp.middleware import wants_json

DATABASE_AWAY = "The studio's database is busy or cannot be reached. Nothing was changed; try again in a moment."
STORAGE_AWAY = "The studio cannot reach its files at the moment. Try again later; the studio's log says what is wrong."
BROKEN = "Something broke in the studio. Your takes are safe; the studio's log says what happened."


def refuse(request: HttpRequest, status: int, sentence: str) -> HttpResponse:
    """Say no in the form that was asked for; htmx leaves the page as it is and shows the sentence."""
    response = _refusal(request, status, sentence)
    patch_vary_headers(response, ["Accept", "HX-Request"])
    return response


def _refusal(request: HttpRequest, status: int, sentence: str) -> HttpResponse:
    if wants_json(request):
        return JsonResponse({"error": sentence}, status=status)
    if HtmxDetails(request):
        return reswap(HttpResponse(toast(sentence, level="error"), status=status), "none")
    context = {"sentence": sentence, "status": HTTPStatus(status), "back": _page_before(request)}
    return render(request, "refusal.html", context, status=status)


def _page_before(request: HttpRequest) -> str:
    """Return the page of ours whose form was refused; empty where that is not known."""
    came_from = request.headers.get("Referer", "")
    is_ours = url_has_allowed_host_and_scheme(came_from, {request.get_host()}, require_https=request.is_secure())
    return came_from if request.method == "POST" and is_ours else ""


def broken(request: HttpRequest) -> HttpResponse:
    """Answer what no view has expected, which Django has logged: 503 for what passes by itself, else 500.

    The page is drawn without the request, as who is asking stands in the database.
    """
    status, sentence = _judge(sys.exc_info()[1])
    if wants_json(request) or HtmxDetails(request):
        return refuse(request, status, sentence)
    return HttpResponse(render_to_string("refusal.html", {"sentence": sentence, "status": status}), status=status)


def _judge(error: BaseException | None) -> tuple[HTTPStatus, str]:
    match error:
        case OperationalError() | InterfaceError():
            return HTTPStatus.SERVICE_UNAVAILABLE, DATABASE_AWAY
        case StorageFailed():
            return HTTPStatus.SERVICE_UNAVAILABLE, str(error)
        case OSError():
            return HTTPStatus.SERVICE_UNAVAILABLE, STORAGE_AWAY
    return HTTPStatus.INTERNAL_SERVER_ERROR, BROKEN


def toast(text: str, *, level: str = "success", undo: str = "", target: str = "") -> str:
    """Return a toast for htmx to add to the page; `undo` is the URL that takes back, `target` what it brings back."""
    return render_to_string("_toast.html#added", {"text": text, "level": level, "undo": undo, "target": target})


def see_other(request: HttpRequest, url: str, *, say: str = "", undo: str = "") -> HttpResponse:
    """Send a browser without JavaScript on to a page that says what was done."""
    if say:
        messages.success(request, say, extra_tags=undo)
    return HttpResponseRedirect(url, status=HTTPStatus.SEE_OTHER)
