"""How latents came about, as it stands in a file's header, so that a file explains itself without the database."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self
from uuid import UUID

VERSION = 1
MAX_BATCH_SIZE = 16
MAX_STEPS = 200
MAX_SEED = 2**63 - 1
# C0, C1 and DEL, without tab and newline, which a terminal would obey; and halves of surrogate pairs, which JSON can
# carry but neither UTF-8 nor PostgreSQL.
CONTROL_CHARACTERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class InvalidProvenance(ValueError):
    """The description is not one that this version understands."""


@dataclass(frozen=True, kw_only=True)
class Parentage:
    """The item that a take was resumed from, and at which level. `id` is None once nothing leads there."""

    id: UUID | None
    sample_index: int
    level: float
    digest: str


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What is known of latents besides their numbers.

    `schedule` has steps, shift, timesteps, requested and effective; `checkpoint_step` is set for checkpoints only.
    """

    model_variant: str
    frame_rate: float
    caption: str
    seeds: list[int]
    params: dict[str, Any]
    schedule: dict[str, Any]
    runtime: dict[str, Any] = field(default_factory=dict)
    checkpoint_step: int | None = None
    parent: Parentage | None = None

    def to_json(self, record_id: UUID, created_at: datetime) -> str:
        """Return the text for a file's header. Raises InvalidProvenance for what `from_json` would refuse."""
        parent = self.parent and vars(self.parent) | {"id": self.parent.id and str(self.parent.id)}
        document = {
            "version": VERSION,
            "id": str(record_id),
            "created_at": created_at.isoformat(),
            **vars(self),
            "parent": parent,
        }
        _check("it", document, _DOCUMENT)
        return json.dumps(document, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what anybody may have written. Raises InvalidProvenance."""
        document = _read(text)
        parent = document["parent"]
        if parent:
            parent = Parentage(**parent | {"id": parent["id"] and UUID(parent["id"])})
        fields = {name: document[name] for name in cls.__dataclass_fields__}
        return cls(**fields | {"parent": parent})


def read_identity(text: str) -> tuple[UUID, datetime]:
    """Return which record a header was written for, and when. Raises InvalidProvenance."""
    document = _read(text)
    return UUID(document["id"]), datetime.fromisoformat(document["created_at"])


def _read(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidProvenance("it is not JSON") from error
    _check("it", document, _DOCUMENT)
    checked: dict[str, Any] = document
    return checked


@dataclass(frozen=True)
class _Rule:
    expected: str
    holds: Callable[[Any], bool]


def _check(name: str, value: Any, rules: Mapping[str, _Rule]) -> None:
    if not isinstance(value, dict) or set(value) != set(rules):
        raise InvalidProvenance(f"{name} must have exactly {', '.join(rules)}")
    for key, rule in rules.items():
        if not rule.holds(value[key]):
            raise InvalidProvenance(f"'{key}' must be {rule.expected}")


def _text(longest: int, shortest: int = 0) -> _Rule:
    return _Rule(f"text of {shortest} to {longest} characters", lambda value: _is_text(value, shortest, longest))


def _whole(lowest: int, highest: int) -> _Rule:
    return _Rule(
        f"a whole number from {lowest} to {highest}", lambda value: type(value) is int and lowest <= value <= highest
    )


def _number(lowest: float, highest: float) -> _Rule:
    return _Rule(f"a number from {lowest:g} to {highest:g}", lambda value: _is_number(value, lowest, highest))


def _optional(rule: _Rule) -> _Rule:
    return _Rule(f"empty or {rule.expected}", lambda value: value is None or rule.holds(value))


def _list_of(rule: _Rule, longest: int) -> _Rule:
    return _Rule(
        f"a list of at most {longest}, each {rule.expected}",
        lambda value: isinstance(value, list | tuple) and len(value) <= longest and all(map(rule.holds, value)),
    )


def _is_text(value: Any, shortest: int, longest: int) -> bool:
    return isinstance(value, str) and shortest <= len(value) <= longest and not CONTROL_CHARACTERS.search(value)


def _is_number(value: Any, lowest: float, highest: float) -> bool:
    return type(value) in (int, float) and lowest <= value <= highest  # false for NaN


def _is_plain(value: Any) -> bool:
    """One value of a request or a description of a machine; what it means is checked where it is used."""
    return (
        value is None or isinstance(value, bool) or _is_text(value, 0, 10_000) or _is_number(value, -MAX_SEED, MAX_SEED)
    )


def _is_flat(value: Any) -> bool:
    if not isinstance(value, dict) or len(value) > 64 or not all(_is_text(key, 1, 40) for key in value):
        return False
    items = (item for entry in value.values() for item in (entry if isinstance(entry, list | tuple) else [entry]))
    return all(map(_is_plain, items)) and all(len(entry) <= MAX_STEPS for entry in value.values() if _is_list(entry))


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _is_schedule(value: Any) -> bool:
    if not _is_flat(value) or not set(_SCHEDULE) <= set(value):
        return False
    return all(rule.holds(value[key]) for key, rule in _SCHEDULE.items())


def _is_parent(value: Any) -> bool:
    return (
        isinstance(value, dict) and set(value) == set(_PARENT) and all(_PARENT[key].holds(value[key]) for key in value)
    )


def _is_uuid(value: Any) -> bool:
    try:
        return isinstance(value, str) and len(value) <= 36 and bool(UUID(value))
    except ValueError:
        return False


def _is_time(value: Any) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


_UUID = _Rule("a UUID", _is_uuid)
_FLAT = _Rule("up to 64 named plain values", _is_flat)
_SCHEDULE = {
    "steps": _whole(0, MAX_STEPS),  # 0: not known
    "shift": _number(0, 1000),
    "timesteps": _list_of(_number(0, 1), MAX_STEPS),
    "requested": _number(0, 1),
    "effective": _number(0, 1),
}
_PARENT = {
    "id": _optional(_UUID),
    "sample_index": _whole(0, MAX_BATCH_SIZE - 1),
    "level": _number(0, 1),
    "digest": _Rule("a SHA-256", lambda value: _is_text(value, 64, 64) and not set(value) - set("0123456789abcdef")),
}
_DOCUMENT = {
    "version": _Rule(f"{VERSION}", lambda value: type(value) is int and value == VERSION),
    "id": _UUID,
    "created_at": _Rule("a time with its zone", _is_time),
    "model_variant": _Rule(
        "a name of 1 to 100 characters", lambda value: _is_text(value, 1, 100) and value.isprintable()
    ),
    "frame_rate": _number(0.1, 1000),
    "caption": _text(2000),
    "seeds": _list_of(_whole(0, MAX_SEED + MAX_BATCH_SIZE), MAX_BATCH_SIZE),
    "params": _FLAT,
    "schedule": _Rule(f"plain values with {', '.join(_SCHEDULE)}", _is_schedule),
    "runtime": _FLAT,
    "checkpoint_step": _optional(_whole(1, MAX_STEPS)),
    "parent": _optional(_Rule(f"an object with {', '.join(_PARENT)}", _is_parent)),
}
