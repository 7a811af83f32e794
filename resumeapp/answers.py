"""In which form the studio answers: a page, a fragment, JSON, or a redirect where there is no JavaScript."""

from http import HTTPStatus

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django_htmx.http import reswap
from django_htmx.middleware import HtmxDetails

from resumeapp.middleware import wants_json


def refuse(request: HttpRequest, status: int, sentence: str) -> HttpResponse:
    """Say no in the form that was asked for; htmx leaves the page as it is and shows the sentence."""
    if wants_json(request):
        return JsonResponse({"error": sentence}, status=status)
    if HtmxDetails(request):
        return reswap(HttpResponse(toast(sentence, level="error"), status=status), "none")
    return render(request, "refusal.html", {"sentence": sentence, "status": HTTPStatus(status)}, status=status)


def toast(text: str, *, level: str = "success", undo: str = "", target: str = "") -> str:
    """Return a toast for htmx to add to the page; `undo` is the URL that takes back, `target` what it brings back."""
    return render_to_string("_toast.html#added", {"text": text, "level": level, "undo": undo, "target": target})


def see_other(request: HttpRequest, url: str, *, say: str = "", undo: str = "") -> HttpResponse:
    """Send a browser without JavaScript on to a page that says what was done."""
    if say:
        messages.success(request, say, extra_tags=undo)
    return HttpResponseRedirect(url, status=HTTPStatus.SEE_OTHER)
