"""Change one latent, hand it out as a file, take one in. The pages that show latents are generation's."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any, Concatenate, ParamSpec, cast
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.urls import reverse
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import HttpResponseClientRedirect
from django_htmx.middleware import HtmxDetails

from latents import store
from latents.errors import ImportRefused, ImportTooLarge, LatentError, LatentNotFound
from latents.forms import ExtendForm, ImportForm
from latents.models import HeatMap, LatentRecord
from latents.portable import import_file
from resumeapp.answers import refuse, see_other
from resumeapp.middleware import wants_json
from resumeapp.ranges import serve

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponseBase]

# What a form adds around the file that it uploads.
FORM_BYTES = 1 << 16


FORM_TYPES = {"application/x-www-form-urlencoded", "multipart/form-data"}


class UnsupportedBody(LatentError):
    """A body that is neither a form nor JSON."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


def states_refusals(view: View[P]) -> View[P]:
    """Answer what is refused with its status and its sentence."""

    @wraps(view)
    def answer(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        try:
            return view(request, *args, **kwargs)
        except LatentError as error:
            return refuse(request, error.status, str(error))

    return answer


@require_POST
@states_refusals
def pin(request: HttpRequest, latent_id: UUID) -> HttpResponse:
    record = _own(request, latent_id)
    record.pin()
    return _done(request, record, "Latent pinned: it stays until you delete it")


@require_POST
@states_refusals
def unpin(request: HttpRequest, latent_id: UUID) -> HttpResponse:
    record = _own(request, latent_id)
    record.unpin()
    return _done(request, record, "Latent unpinned")


@require_POST
@states_refusals
def extend(request: HttpRequest, latent_id: UUID) -> HttpResponse:
    record = _own(request, latent_id)
    form = ExtendForm(_fields(request))
    if not form.is_valid():
        return refuse(request, HTTPStatus.UNPROCESSABLE_ENTITY, str(form.errors["ttl"][0]))
    record.extend(form.cleaned_data["ttl"])
    return _done(request, record, "Latent kept longer")


@require_POST
@states_refusals
def delete(request: HttpRequest, latent_id: UUID) -> HttpResponse:
    record = _own(request, latent_id)
    record.delete_softly()
    return _done(request, record, "Latent deleted", undo=reverse("latents:undelete", args=[record.pk]))


@require_POST
@states_refusals
def undelete(request: HttpRequest, latent_id: UUID) -> HttpResponse:
    record = _own(request, latent_id)
    record.undelete()
    return _done(request, record, "Latent brought back")


@require_safe
@states_refusals
def download(request: HttpRequest, latent_id: UUID) -> HttpResponseBase:
    record = LatentRecord.objects.find(latent_id, _user(request))
    store.check(record)
    return serve(
        request,
        store.open_file(record),
        content_type="application/octet-stream",
        etag=f'"{record.sha256}"',
        download_as=f"latent-{record.pk}.safetensors",
    )


@require_POST
@states_refusals
def import_(request: HttpRequest) -> HttpResponse:
    limit = settings.REPRISE_MAX_UPLOAD_BYTES
    # Before request.FILES is touched: that would take the whole body apart.
    if limit is not None and int(request.META.get("CONTENT_LENGTH") or 0) > limit + FORM_BYTES:
        raise ImportTooLarge(f"This file is too large; at most {limit} bytes can be imported")
    form = ImportForm(request.POST, request.FILES)
    if not form.is_valid():
        raise ImportRefused(form.refusal())
    record = import_file(form.cleaned_data["file"], _user(request))
    return _done(request, record, "Latent imported")


@require_safe
@states_refusals
@cache_control(private=True, max_age=31_536_000, immutable=True)  # it is drawn once and never changes
def heatmap(request: HttpRequest, latent_id: UUID) -> HttpResponse:
    is_small = request.GET.get("size") == "thumbnail"
    pictures = HeatMap.objects.filter(record__in=LatentRecord.objects.visible_to(_user(request)), record=latent_id)
    png = pictures.values_list("thumbnail" if is_small else "picture", flat=True).first()
    if png is None:
        raise LatentNotFound(latent_id)
    return HttpResponse(bytes(png), content_type="image/png")


def _user(request: HttpRequest) -> User:
    return cast(User, request.user)  # everybody who comes this far has logged in


def _own(request: HttpRequest, latent_id: UUID) -> LatentRecord:
    """Return the user's record, live or not; its methods decide what is still possible."""
    try:
        return LatentRecord.objects.visible_to(_user(request)).get(pk=latent_id)
    except LatentRecord.DoesNotExist:
        raise LatentNotFound(latent_id) from None


def _fields(request: HttpRequest) -> dict[str, Any]:
    if request.content_type != "application/json":
        if request.body and request.content_type not in FORM_TYPES:
            raise UnsupportedBody(f"Send a form or application/json, not {request.content_type or 'an unnamed type'}")
        return request.POST.dict()
    try:
        fields = json.loads(request.body)
    except (ValueError, RecursionError):
        raise LatentError("The body is not JSON that can be read") from None
    # To the form an empty list or object is the same as nothing.
    if not isinstance(fields, dict) or set(fields) - {"ttl"} or not isinstance(fields.get("ttl"), str | None):
        raise LatentError("The body must be a JSON object with nothing but 'ttl', such as \"30d\"")
    return fields


def _done(request: HttpRequest, record: LatentRecord, say: str, undo: str = "") -> HttpResponse:
    """Answer with the record as it is now, or lead to its page."""
    url = f"/latents/{record.pk}/"  # the page is generation's
    if wants_json(request):
        return JsonResponse(
            {
                "id": record.pk,
                "url": url,
                "state": record.state(),
                "pinned": record.pinned,
                "expires_at": record.expires_at,
            }
        )
    answer = see_other(request, url, say=say, undo=undo)
    return HttpResponseClientRedirect(url) if HtmxDetails(request) else answer
