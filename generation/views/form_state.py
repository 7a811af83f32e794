"""What the studio's form contains, as it travels through pages, URLs and presets: field names and short texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse

from generation.forms import GenerationForm
from generation.models import NOT_IN_PRESETS

FormState = dict[str, str]

# A request id belongs to one click: in a URL, everybody who opens it would send the same request.
_FIELDS = [name for name in GenerationForm.base_fields if name != "request_id"]


def from_data(data: Mapping[str, Any]) -> FormState:
    """Keep what the form knows of a query or a post, and nothing that is empty or ticked off."""
    return {name: plain(data[name]) for name in _FIELDS if data.get(name) not in (None, "", False, "false", "off")}


def plain(value: Any) -> str:
    """Write a value as a person would type it: 30, not 30.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def from_params(params: Mapping[str, Any]) -> FormState:
    """Turn stored parameters into what the form would contain, without anything to resume from."""
    return without_resume(from_data(params))


def without_resume(state: FormState) -> FormState:
    return {name: value for name, value in state.items() if name not in NOT_IN_PRESETS}


def has_resume(state: FormState) -> bool:
    return state.keys() & NOT_IN_PRESETS != set()


def studio_url(state: FormState) -> str:
    """Return the URL at which the studio shows this form."""
    query = urlencode(state)
    return f"{reverse('generation:studio')}?{query}" if query else reverse("generation:studio")
