"""Form fields that read form posts, URLs and JSON alike, and refuse plainly what is not theirs."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn, cast
from uuid import UUID

from django import forms
from django.core.exceptions import ValidationError

from latents.lifetimes import parse_ttl
from latents.provenance import CONTROL_CHARACTERS
from latents.retention import longest_ttl

_KEY = re.compile(r"([A-G])([#b♯♭]?)[ -]?(major|minor)", re.IGNORECASE)


class BodyError(ValueError):
    """A request body that is not one JSON object; the message says what was found."""


def read_json(body: bytes) -> dict[str, Any]:
    """Return the object that a JSON body holds, each name once."""
    try:
        value = json.loads(body, object_pairs_hook=_each_name_once, parse_constant=_refuse_constant)
    except BodyError:
        raise
    except (
        ValueError,
        RecursionError,
    ) as error:  # not JSON, not UTF-8, a number of thousands of digits, nested too deep
        raise BodyError("The body is not JSON that can be read") from error
    if not isinstance(value, dict):
        raise BodyError("The body must be a JSON object")
    return value


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise BodyError("The body names a field twice")
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise BodyError(f"{name} is not a number in JSON")


class Typed(forms.Field):
    """A field that takes text, and of JSON's other types only what it is made for."""

    json_types: tuple[type, ...] = ()

    def clean(self, value: Any) -> Any:
        # To isinstance() true is a number, and to Django an empty list is a blank.
        if value is not None and type(value) not in (str, *self.json_types):
            raise ValidationError(self.error_messages["invalid"], code="invalid")
        return super().clean(value)


class Text(Typed, forms.CharField):
    """Text as a person types it: trimmed, newlines as "\\n", no control characters."""

    default_error_messages = {
        "invalid": "Enter text.",
        "control": "Remove the control characters.",
        "max_length": "Must have at most %(limit_value)d characters, not %(show_value)d.",
    }

    def to_python(self, value: Any) -> Any:
        text = str(super().to_python(value)).replace("\r\n", "\n").replace("\r", "\n")
        if CONTROL_CHARACTERS.search(text):
            raise ValidationError(self.error_messages["control"], code="control")
        return text


class WholeNumber(Typed, forms.IntegerField):
    json_types = (int, float)

    def __init__(self, *, low: int, high: int, **options: Any) -> None:
        widget = forms.NumberInput(attrs={"inputmode": "numeric", "step": 1})
        errors = _between(low, high)
        super().__init__(min_value=low, max_value=high, required=False, widget=widget, error_messages=errors, **options)


class Number(Typed, forms.FloatField):
    """A finite number. `step` is for the arrows of the page only: every number in the range is taken."""

    json_types = (int, float)

    def __init__(self, *, low: float, high: float, step: float, slider: bool = False, **options: Any) -> None:
        widget = SliderInput() if slider else forms.NumberInput(attrs={"inputmode": "decimal"})
        widget.attrs["step"] = step
        errors = _between(low, high)
        super().__init__(min_value=low, max_value=high, required=False, widget=widget, error_messages=errors, **options)

    def prepare_value(self, value: Any) -> Any:
        """Show 30, not 30.0."""
        return int(value) if isinstance(value, float) and value.is_integer() else value

    def to_python(self, value: Any) -> Any:
        try:
            return super().to_python(value)
        except OverflowError:  # a JSON integer beyond every float
            raise ValidationError(self.error_messages["max_value"], code="max_value") from None


def _between(low: float, high: float) -> dict[str, str]:
    # :g would write a large whole number with an exponent.
    low_text, high_text = (f"{n:g}" if isinstance(n, float) else str(n) for n in (low, high))
    sentence = f"Must be between {low_text} and {high_text}."
    return {"min_value": sentence, "max_value": sentence}


class SliderInput(forms.NumberInput):
    input_type = "range"


class Tick(forms.CheckboxInput):
    """A checkbox that leaves the reading of its value to the field."""

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> Any:
        return data.get(name)


class YesNo(Typed, forms.BooleanField):
    json_types = (bool,)
    widget = Tick
    default_error_messages = {"invalid": "Must be true or false."}

    def to_python(self, value: Any) -> bool:
        word = "" if value is None else str(value).lower()
        if word not in {"true", "on", "1", "false", "off", "0", ""}:
            raise ValidationError(self.error_messages["invalid"], code="invalid")
        return word in {"true", "on", "1"}


class Choice(Typed, forms.ChoiceField):
    default_error_messages = {
        "invalid": "Enter text.",
        "invalid_choice": "Must be one of %(offered)s.",
    }

    def validate(self, value: Any) -> None:
        if value and not self.valid_value(value):
            choices = cast(Iterable[tuple[str, str]], self.choices)
            offered = ", ".join(name for name, _ in choices if name)
            message = self.error_messages["invalid_choice"]
            raise ValidationError(message, code="invalid_choice", params={"offered": offered})
        super().validate(value)


class TimeSignature(Choice):
    """Beats in a bar as the models know them: "4", where "4/4" says the same."""

    SIGNATURES = (("", "Any"), ("2", "2/4"), ("3", "3/4"), ("4", "4/4"), ("6", "6/8"))
    default_error_messages = {"invalid_choice": "Must be 2/4, 3/4, 4/4 or 6/8."}

    def __init__(self, **options: Any) -> None:
        super().__init__(choices=self.SIGNATURES, required=False, **options)

    def to_python(self, value: Any) -> str:
        text = str(super().to_python(value))
        return {label: beats for beats, label in self.SIGNATURES}.get(text, text)


class MusicalKey(Text):
    """A key such as "A minor" or "F# major", spelled as the models know it; empty for any."""

    default_error_messages = {"invalid": "Must be a key such as A minor or F# major."}

    def clean(self, value: Any) -> str:
        text = super().clean(value)
        match = _KEY.fullmatch(text)
        if text and not match:
            raise ValidationError(self.error_messages["invalid"], code="invalid")
        return f"{match[1].upper()}{match[2].lower()} {match[3].lower()}" if match else ""


class Lifetime(Text):
    """A time such as "12h" or "30d", no longer than the studio keeps latents anyway."""

    default_error_messages = {"invalid": "Must be a time such as 12h or 30d."}

    def clean(self, value: Any) -> str:
        text: str = super().clean(value)
        if text and not self._is_short_enough(text):
            raise ValidationError("Must not be longer than latents are kept here.", code="max_value")
        return text

    def _is_short_enough(self, text: str) -> bool:
        try:
            asked = parse_ttl(text)
        except ValueError:
            raise ValidationError(self.error_messages["invalid"], code="invalid") from None
        longest = longest_ttl()
        return longest is None or (asked is not None and asked <= longest)


class RequestId(Text):
    """A UUID; None where it is left out."""

    default_error_messages = {"invalid": "Must be a UUID."}

    def clean(self, value: Any) -> UUID | None:
        text = super().clean(value)
        try:
            return UUID(text) if text else None
        except ValueError:
            raise ValidationError(self.error_messages["invalid"], code="invalid") from None
