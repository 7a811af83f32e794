"""How the studio's pages write numbers, times and sounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django import template
from django.forms.utils import flatatt
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.timesince import timesince

from generation import waveform
from generation.forms import GenerationForm
from generation.models import GenerationJob
from generation.views import form_state

register = template.Library()

_MINUTE = 60


@register.filter
def waveform_path(peaks: Sequence[float]) -> str:
    return waveform.path(peaks)


@register.filter
def clock(seconds: float) -> str:
    """Write a length as a tape counter does: 1:05."""
    whole = round(seconds)
    return f"{whole // _MINUTE}:{whole % _MINUTE:02}"


@register.filter
def about(seconds: float | None) -> str:
    """Write an estimate as people say it: about 20 s, about 3 min. Empty where nothing is known."""
    if seconds is None:
        return ""
    if seconds < 1:
        return "under 1 s"
    if seconds < 10:
        return f"about {round(seconds)} s"
    if seconds < 90:
        return f"about {round(seconds / 5) * 5} s"
    return f"about {round(seconds / _MINUTE)} min"


@register.filter
def level(value: Any) -> str:
    """Write a noise level with two decimals."""
    return f"{float(value):.2f}"


@register.filter
def short(identifier: UUID | str) -> str:
    """Return the first eight digits of an id, as badges show it."""
    return str(identifier)[:8]


@register.filter
def ago(moment: datetime) -> str:
    """Write how long ago something happened, in one unit."""
    if timezone.now() - moment < timedelta(minutes=1):
        return "just now"
    return f"{timesince(moment, depth=1)} ago"


@register.filter
def as_attributes(attributes: Mapping[str, Any]) -> SafeString:
    """Write the attributes of a widget at once: Django's own template for it is a quarter of the form's time."""
    return flatatt(dict(attributes))


@register.filter
def of(places: Mapping[UUID, int], job: GenerationJob) -> int | None:
    """Return a job's place in the line."""
    return places.get(job.pk)


@register.filter
def sample_name(index: int) -> str:
    return f"Sample {index + 1}"


@register.filter
def words(text: str) -> list[str]:
    return text.split()


@register.filter
def sung_lines(lyrics: str | None) -> str:
    """Say how many lines of lyrics there are, without section tags such as [verse]; empty where there are none."""
    lines = [line.strip() for line in (lyrics or "").splitlines()]
    count = sum(1 for line in lines if line and not (line.startswith("[") and line.endswith("]")))
    return f"{count} line{'' if count == 1 else 's'}" if count else ""


@register.filter
def worded_params(params: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the parameters of a request under the form's own names, but for the caption and what was left empty."""
    fields = GenerationForm.base_fields
    return [
        (str(fields[name].label), "yes" if value is True else form_state.plain(value))
        for name, value in params.items()
        if name in fields and name != "caption" and value not in (None, "", False)
    ]
