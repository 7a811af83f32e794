"""What a person may ask of a stored latent."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from latents.lifetimes import parse_ttl
from latents.retention import longest_ttl

DEFAULT_EXTENSION = timedelta(days=30)


def default_extension() -> timedelta:
    return longest_ttl() or DEFAULT_EXTENSION


class ExtendForm(forms.Form):
    """By how much to move an expiry; left out, by as long as latents live here."""

    ttl = forms.CharField(required=False, max_length=20)

    def clean_ttl(self) -> timedelta:
        text = self.cleaned_data["ttl"]
        if not text:
            return default_extension()
        try:
            ttl = parse_ttl(text)
        except ValueError as error:
            raise ValidationError(str(error)) from error
        if ttl is None:
            raise ValidationError("pin the latent to keep it for ever")
        return ttl


class ImportForm(forms.Form):
    file = forms.FileField(max_length=255, error_messages={"required": "Choose a file to import."})

    def refusal(self) -> str:
        """Return what is wrong, in one sentence."""
        errors: Any = self.errors.get_json_data()
        return " ".join(error["message"] for fields in errors.values() for error in fields)
