"""What the studio refuses, as an answer: each reason with its status and the sentence that people read."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any, Concatenate, ParamSpec

from django.contrib.auth.models import User
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, HttpResponseBase, QueryDict
from django.views.defaults import bad_request as djangos_bad_request
from django_htmx.middleware import HtmxDetails

from generation.fields import BodyError, read_json
from generation.models import Conflict, QueueFull
from latents.errors import LatentError
from resumeapp.answers import refuse

P = ParamSpec("P")

NOT_FOUND = "Nothing is here. It may have been deleted, or belong to somebody else."
FORBIDDEN = "This is not yours to see."
TOO_LARGE = "The request is larger than the studio accepts."


class StudioRequest(HttpRequest):
    """A request that has passed the studio's middleware: somebody asks, perhaps through htmx."""

    user: User
    htmx: HtmxDetails


View = Callable[Concatenate[StudioRequest, P], HttpResponseBase]


FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")


class UnsupportedBody(Exception):
    """A body that is neither a form nor JSON."""

    def __init__(self, content_type: str | None) -> None:
        super().__init__(f"Send a form or application/json, not {content_type or 'an unnamed type'}")


def is_json(request: HttpRequest) -> bool:
    return request.content_type == "application/json"


def read_fields(request: HttpRequest) -> dict[str, Any] | QueryDict:
    """Return what a form post or a JSON body holds. Raises UnsupportedBody, BodyError."""
    if is_json(request):
        return read_json(request.body)
    if request.content_type in FORM_TYPES:
        return request.POST
    raise UnsupportedBody(request.content_type)


def states_refusals(view: View[P]) -> View[P]:
    """Answer what the studio refuses with its status and the sentence that says why."""

    @wraps(view)
    def answer(request: StudioRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        try:
            return view(request, *args, **kwargs)
        except LatentError as error:
            return refuse(request, error.status, str(error))
        except Conflict as error:
            return refuse(request, HTTPStatus.CONFLICT, str(error))
        except RequestDataTooBig:
            return refuse(request, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, TOO_LARGE)
        except UnsupportedBody as error:
            return refuse(request, HTTPStatus.UNSUPPORTED_MEDIA_TYPE, str(error))
        except BodyError as error:
            return refuse(request, HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
        except QueueFull as error:
            return refuse(request, HTTPStatus.TOO_MANY_REQUESTS, str(error))

    return answer


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Answer every 400, and what was too large already for the check of its CSRF token."""
    if isinstance(exception, RequestDataTooBig):
        return refuse(request, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, TOO_LARGE)
    return djangos_bad_request(request, exception)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer every 404 of the studio that has no sentence of its own."""
    return refuse(request, HTTPStatus.NOT_FOUND, NOT_FOUND)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer every 403 but that of a missing CSRF token."""
    return refuse(request, HTTPStatus.FORBIDDEN, str(exception) or FORBIDDEN)
