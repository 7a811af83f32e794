"""Help with writing: what the buttons beside the form put into it, and the prompts that somebody wrote before."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Final

from django.contrib.auth.models import User
from django.http import HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers

from generation.forms import RANDOM_SEEDS
from generation.models import GenerationJob
from generation.views import form_state
from generation.views.answers import StudioRequest
from generation.views.form_state import FormState
from resumeapp.middleware import wants_json

PROMPTS_SHOWN: Final = 30
JOBS_LOOKED_AT: Final = 300
SEED_CHOICES: Final = (("new", "Draw one"), ("last", "Use the last"), ("any", "New each time"))


def pressed(state: FormState, buttons: Mapping[str, str], user: User) -> FormState:
    """Return what the form contains once the button was pressed that was sent with it."""
    if "clear" in buttons:
        return form_state.without_resume(state)
    if prompt := buttons.get("prompt"):
        return state | {"caption": prompt}
    if word := buttons.get("add"):
        return state | {"caption": _joined(state.get("caption", ""), word, ", ")}
    if tag := buttons.get("tag"):
        return state | {"lyrics": _joined(state.get("lyrics", ""), tag, "\n")}
    if wanted := buttons.get("draw_seed"):
        return _with_seed(state, wanted, user)
    return state


def _joined(text: str, addition: str, joint: str) -> str:
    text = text.rstrip(" ,\r\n")
    return f"{text}{joint}{addition}" if text else addition


def _with_seed(state: FormState, wanted: str, user: User) -> FormState:
    without = {name: value for name, value in state.items() if name != "seed"}
    if wanted == "new":
        return without | {"seed": str(secrets.randbelow(RANDOM_SEEDS))}
    last = GenerationJob.objects.visible_to(user).order_by("-created_at", "-id").first()
    if wanted == "last" and last:
        return without | {"seed": str(last.params["seed"])}
    return without


@require_safe
@vary_on_headers("Accept", "HX-Request")
def prompts(request: StudioRequest) -> HttpResponse:
    """List what the user has asked for lately, each prompt once."""
    jobs = GenerationJob.objects.visible_to(request.user).order_by("-created_at", "-id")
    captions = jobs.values_list("params__caption", flat=True)[:JOBS_LOOKED_AT]
    found = list(dict.fromkeys(captions))[:PROMPTS_SHOWN]
    if wants_json(request):
        return JsonResponse({"prompts": found})
    return render(request, "generation/prompts.html" + ("#prompts" if request.htmx else ""), {"prompts": found})
