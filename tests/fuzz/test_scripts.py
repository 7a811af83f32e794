"""Scripts in everything that can be stored come out as text on every page that shows it."""

from __future__ import annotations

from html import escape
from typing import Any

from django.contrib.auth.models import User

from generation.models import Preset, Worker
from resumeapp.models import PersonalToken
from tests.fuzz import hostile
from tests.fuzz.conftest import World, existing_ids, import_take, queue, unescaped
from tests.fuzz.surface import all_pages
from tests.generation.views.conftest import claim, make_sample

TAG = hostile.SCRIPTS[0]
EVERYTHING = " ".join(hostile.SCRIPTS)


def test_pages_are_searched_for_what_scripts_become() -> None:
    assert unescaped(f"<p>{TAG}</p>")
    assert unescaped(f'<input value="{hostile.SCRIPTS[3]}">')
    assert unescaped(f'<a href="{hostile.SCRIPTS[5]}">')
    assert not unescaped(f'<p title="{escape(EVERYTHING)}">{escape(EVERYTHING)}</p>')


def store_scripts_everywhere(owner: User) -> None:
    words: dict[str, Any] = {"caption": EVERYTHING, "lyrics": EVERYTHING}
    params = {**words, TAG[:40]: EVERYTHING, "duration": 1.0}
    record = import_take(owner, caption=EVERYTHING, model_variant=TAG, params=params, runtime={"device": EVERYTHING})
    queue(owner, **words)
    claim(queue(owner, **words)).report(phase="denoise", step=1, eta_seconds=1.0)
    claim(queue(owner, **words)).fail(EVERYTHING)
    finished = claim(queue(owner, **words))
    finished.remember_latents(record, None)
    finished.finish([make_sample(finished, record, 0)], {"denoise": 1.0})
    record.note_damage(TAG)
    Preset.keep(owner, TAG, words)
    PersonalToken.objects.issue(owner, TAG)
    Worker.objects.create(host=TAG, pid=1, variant=TAG, device=TAG, state=Worker.State.BUSY)


def test_stored_scripts_are_text_on_every_page(world: World) -> None:
    root = world.people["root"]
    root.username = TAG
    root.save()
    store_scripts_everywhere(root)
    world.ids = existing_ids(root)
    shown = set()
    for page in all_pages():
        for number in range(max([len(world.ids[name]) for name in page.parameters], default=1)):
            for headers in ({}, {"HX-Request": "true"}):
                answer = world.ask("GET", world.url(page, number), who="root", headers=headers)
                if not answer.streaming and escape(TAG).encode() in answer.content:
                    shown.add(page.template)
    assert {"/", "/latents/", "/presets/", "/workers/", "/account/tokens/", "/generation/jobs/{job_id}/"} <= shown
    assert {"/latents/{latent_id}/", "/admin/latents/latentrecord/{object_id}/change/"} <= shown
