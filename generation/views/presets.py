"""Named sets of parameters."""

from __future__ import annotations

from http import HTTPStatus

from django import forms
from django.http import HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe
from django.views.decorators.vary import vary_on_headers

from generation.fields import Text
from generation.forms import GenerationForm
from generation.models import NOT_IN_PRESETS, Preset
from generation.views import form_state
from generation.views.answers import StudioRequest, is_json, read_fields, states_refusals
from generation.views.form_state import studio_url
from resumeapp.answers import refuse, see_other, toast
from resumeapp.middleware import wants_json


class PresetForm(forms.Form):
    preset_name = Text(label="Name", max_length=100, error_messages={"required": "Give the preset a name."})


@require_safe
@vary_on_headers("Accept", "HX-Request")
def presets(request: StudioRequest) -> HttpResponse:
    own = Preset.objects.filter(owner=request.user)
    if wants_json(request):
        return JsonResponse({"presets": [_preset_json(preset) for preset in own]})
    return render(request, "generation/presets.html", {"presets": own})


@require_POST
@vary_on_headers("Accept", "HX-Request")
@states_refusals
def save(request: StudioRequest) -> HttpResponseBase:
    """Keep the form's parameters, as far as they are filled in, under a name; an equal name is replaced."""
    data = read_fields(request)
    name_form = PresetForm(data)
    params = {name: value for name, value in data.items() if name not in NOT_IN_PRESETS | {"preset_name"}}
    form = (GenerationForm.from_json if is_json(request) else GenerationForm)(params, user=request.user)
    form.fields["caption"].required = False
    if refused := [*form.sentences, *name_form.errors.get("preset_name", [])]:
        return refuse(request, HTTPStatus.UNPROCESSABLE_ENTITY, " ".join(refused))
    state = form_state.from_params(params)
    preset = Preset.keep(request.user, name_form.cleaned_data["preset_name"], state)
    if wants_json(request):
        return JsonResponse(_preset_json(preset))
    return _done(request, f"Preset “{preset}” saved")


@require_POST
@vary_on_headers("Accept", "HX-Request")
@states_refusals
def delete(request: StudioRequest, preset_id: int) -> HttpResponseBase:
    preset = get_object_or_404(Preset, owner=request.user, pk=preset_id)
    preset.delete()
    if wants_json(request):
        return JsonResponse({"id": preset_id})
    return _done(request, f"Preset “{preset}” deleted")


def _done(request: StudioRequest, said: str) -> HttpResponse:
    """Show the presets anew; without JavaScript go back to the form, which the post carried along."""
    if request.htmx:
        context = {"presets": Preset.objects.filter(owner=request.user), "is_open": True}
        response = render(request, "generation/_presets.html", context)
        response.write(toast(said))
        return response
    return see_other(request, studio_url(form_state.from_data(request.POST)), say=said)


def _preset_json(preset: Preset) -> dict[str, object]:
    load = f"{reverse('generation:studio')}?preset={preset.pk}"
    return {"id": preset.pk, "name": preset.name, "params": preset.params, "url": load}
