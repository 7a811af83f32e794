"""Which part of the schedule would run: the resume panel, its indicator, and the same as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET
from django.views.decorators.vary import vary_on_headers

from generation.estimate import estimate_seconds
from generation.forms import DEFAULT_DURATION_S, MAX_BATCH, GenerationForm, PlanForm
from generation.templatetags.studio import about, level
from generation.views import form_state
from generation.views.answers import StudioRequest
from latents.models import LatentRecord
from resumeapp.middleware import wants_json


@dataclass(frozen=True)
class ResumePanel:
    """What the page shows of a resume: `form` holds the fields as they stand, valid or not."""

    form: PlanForm

    @property
    def latent_id(self) -> str:
        return str(self.form["init_latent_id"].value() or "")

    @property
    def record(self) -> LatentRecord | None:
        return self.form.source

    @property
    def error(self) -> str:
        """What is wrong with the fields that decide what runs; the others say it themselves."""
        fields = [name for name in PlanForm.base_fields if name != "checkpoint_step"]
        return " ".join(str(sentence) for name in fields for sentence in self.form.errors.get(name, []))

    @property
    def slider(self) -> str:
        """The slider's value as it was sent, 1 where nothing was."""
        value = self.form["t_start"].value()
        try:
            return f"{min(max(float(value), 0.0), 1.0):g}"
        except (TypeError, ValueError):
            return "1"

    @property
    def is_checkpoint(self) -> bool:
        return self.record is not None and self.record.kind == LatentRecord.Kind.CHECKPOINT

    @property
    def resumes(self) -> bool:
        """Whether a run would take up the latent."""
        return self.mode in ("resume", "copy", "checkpoint")

    @property
    def mode(self) -> str:
        plan = self.form.plan
        if plan is None:
            return ""
        if plan.is_full:
            return "full"
        if plan.is_copy:
            return "copy"
        return "checkpoint" if self.is_checkpoint else "resume"

    @property
    def seconds(self) -> float | None:
        """How long it would take; None while nothing is known."""
        if self.form.plan is None:
            return None
        variant = self.form.variant
        frames = self.record.frames if self.record and self.resumes else variant.frames_for(self._duration_s)
        return estimate_seconds(
            variant.name,
            model_calls=self.form.plan.model_calls,
            frames=frames,
            batch_size=round(self._sent("batch_size", highest=MAX_BATCH, default=1)),
        )

    @property
    def _duration_s(self) -> float:
        return self._sent("duration", highest=self.form.variant.max_duration_s, default=DEFAULT_DURATION_S)

    def _sent(self, name: str, *, highest: float, default: float) -> float:
        """Return a number that was sent along, which is not for this form to judge."""
        try:
            asked = float(self.form.data.get(name, ""))
        except ValueError:
            return default
        return asked if 1 <= asked <= highest else default

    @property
    def sentence(self) -> str:
        """Say what will really run."""
        plan, record = self.form.plan, self.record
        if plan is None or record is None or self.mode == "full":
            return ""
        if self.mode == "copy":
            return "runs no step: the latent as it is"
        steps = f"{plan.model_calls} of {plan.steps} steps"
        if self.mode == "checkpoint":
            steps = f"continues from step {record.checkpoint_step} of {plan.steps}"
            if plan.steps != record.schedule["steps"]:
                steps = f"continues at {level(plan.effective)}, {plan.model_calls} steps"
        else:
            steps = f"starts at {level(plan.effective)}, {steps}"
        return ", ".join(filter(None, [steps, about(self.seconds)]))

    def to_json(self) -> dict[str, Any]:
        plan = self.form.plan
        assert plan is not None
        return {
            "t_start_requested": plan.requested,
            "t_start_effective": plan.effective,
            "model_calls": plan.model_calls,
            "timesteps": plan.timesteps,
            "steps": plan.steps,
            "shift": plan.shift,
            "mode": self.mode,
            "seconds": self.seconds,
        }


def resume_panel(state: form_state.FormState, user: User) -> ResumePanel:
    form = PlanForm(state, user=user)
    form.full_clean()
    return ResumePanel(form)


@require_GET
@vary_on_headers("Accept", "HX-Request")
def plan(request: StudioRequest) -> HttpResponse:
    """Say what would run for these values; the fragment also locks or frees the duration."""
    state = form_state.from_data(request.GET)
    panel = resume_panel(state, request.user)
    if wants_json(request):
        if panel.form.plan is None:
            return JsonResponse({"error": panel.error, "errors": panel.form.errors}, status=panel.form.status)
        return JsonResponse(panel.to_json())
    context = {"panel": panel, "form": GenerationForm(initial=state.copy(), user=request.user)}
    return render(request, "generation/studio.html#plan", context, status=panel.form.status)
