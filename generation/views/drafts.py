"""What somebody has written and not yet sent: kept while they write, and offered when they come back."""

from __future__ import annotations

from typing import Final

from django.contrib.auth.models import User
from django.http import HttpResponse, JsonResponse
from django.urls import reverse
from django.views.decorators.http import require_POST
from django.views.decorators.vary import vary_on_headers

from generation.models import Draft, GenerationJob
from generation.views import form_state
from generation.views.answers import StudioRequest, read_fields, states_refusals
from latents.provenance import CONTROL_CHARACTERS
from resumeapp.answers import see_other
from resumeapp.middleware import wants_json

LONGEST_VALUE: Final = 10_000
WRITTEN: Final = ("caption", "lyrics")


def offered(user: User) -> Draft | None:
    """Return the user's draft, unless it is what they have sent last."""
    draft = Draft.objects.filter(owner=user).first()
    if draft is None:
        return None
    sent = GenerationJob.objects.visible_to(user).order_by("-created_at", "-id").first()
    is_sent = sent and all(sent.params.get(name, "") == draft.state.get(name, "") for name in WRITTEN)
    return None if is_sent else draft


@require_POST
@vary_on_headers("Accept", "HX-Request")
@states_refusals
def save(request: StudioRequest) -> HttpResponse:
    """Keep the form as it stands, right or wrong, but for what it would resume; an empty one is no draft."""
    state = form_state.from_params(read_fields(request))
    state = {name: CONTROL_CHARACTERS.sub("", value)[:LONGEST_VALUE] for name, value in state.items()}
    if any(state.get(name) for name in WRITTEN):
        Draft.objects.update_or_create(owner=request.user, defaults={"state": state})
    else:
        Draft.objects.filter(owner=request.user).delete()
    return _done(request)


@require_POST
@vary_on_headers("Accept", "HX-Request")
def discard(request: StudioRequest) -> HttpResponse:
    Draft.objects.filter(owner=request.user).delete()
    return _done(request)


def _done(request: StudioRequest) -> HttpResponse:
    if wants_json(request):
        return JsonResponse({})
    # htmx takes the line away with an empty answer, and ignores the one to a save.
    return HttpResponse("") if request.htmx else see_other(request, reverse("generation:studio"))
