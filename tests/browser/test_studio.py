"""What a person does in the studio, done by a real browser against a real worker and the bundled model."""

import gzip
import re
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Response, expect

from tests.browser.conftest import DESKTOP, MAKES_A_TAKE_MS, PHONE

Open = Callable[..., Page]


def position(page: Page) -> float:
    """Return how far the player is, in seconds."""
    seconds: float = page.locator("#player audio").evaluate("audio => audio.currentTime")
    return seconds


def lower_denoise(page: Page, to: str) -> None:
    """Move the slider down with the keyboard."""
    slider = page.get_by_label("Denoise")
    slider.focus()
    while slider.input_value() != to:
        slider.press("ArrowLeft")


def test_take_is_made_heard_restored_and_resumed(open_studio: Open) -> None:
    page = open_studio()
    page.goto("/")
    page.get_by_label("Describe the music").fill("warm lofi, mellow piano, soft drums")
    page.get_by_label("Duration in seconds").fill("8")
    page.get_by_role("button", name="Generate").click()
    cards = page.locator(".job", has_text="warm lofi")
    expect(cards).to_have_count(1)
    made = page.locator(".job.succeeded", has_text="warm lofi")
    made.wait_for(timeout=MAKES_A_TAKE_MS)

    made.get_by_role("button", name="Play Sample 1").click()
    page.wait_for_timeout(1000)
    assert position(page) > 0.3
    made.get_by_label("Position in Sample 1").fill("5")
    page.wait_for_timeout(300)
    assert position(page) >= 5

    made.get_by_role("link", name="Restore").click()
    expect(page.get_by_text("Params restored from Sample 1 (with latent)")).to_be_visible()
    expect(page.get_by_label("Denoise")).to_be_focused()
    expect(page.locator("#plan")).to_contain_text("At 1.0, generation starts from noise.")
    expect(page.locator(".indicator")).to_have_count(0)

    lower_denoise(page, to="0.5")
    expect(page.locator("#denoise")).to_have_text("0.50")
    expect(page.locator("#plan")).to_contain_text("starts at 0.50, 10 of 20 steps")
    expect(page.locator(".indicator")).to_contain_text(re.compile(r"Resuming from latent \w{8}… \(denoise: 0.50\)"))
    expect(page.get_by_label("Duration in seconds")).to_have_attribute("readonly", "")
    expect(page).to_have_url(re.compile(r"t_start=0\.5"))
    expect(made).to_have_count(1)  # what was made before stays

    page.reload()
    expect(page.get_by_label("Denoise")).to_have_value("0.5")
    expect(page.get_by_label("Describe the music")).to_have_value("warm lofi, mellow piano, soft drums")

    page.get_by_label("Describe the music").fill("warm lofi with more drums")
    page.get_by_role("button", name="Generate").click()
    expect(cards).to_have_count(2)
    expect(made).to_have_count(2, timeout=MAKES_A_TAKE_MS)
    resumed = made.first
    expect(resumed).to_contain_text("10 of 20 steps")
    expect(resumed).to_contain_text("at 0.50")

    parent = resumed.locator(".lineage a").get_attribute("href")
    resumed.locator(".badge a").click()
    expect(page.locator(".line").first.get_by_role("link").first).to_have_attribute("href", str(parent))
    expect(page.get_by_text("this one, resumed at 0.50")).to_be_visible()

    page.go_back()
    expect(page.get_by_label("Denoise")).to_have_value("0.5")
    page.locator("#resume").get_by_role("button", name="Clear").click()
    expect(page.locator("#resume")).to_have_count(0)
    expect(page.get_by_label("Describe the music")).to_have_value("warm lofi with more drums")


def test_everything_works_without_javascript(open_studio: Open, take_page: str) -> None:
    page = open_studio(java_script_enabled=False)
    page.goto("/")
    page.get_by_label("Describe the music").fill("slow ambient pads")
    page.get_by_label("Duration in seconds").fill("4")
    page.get_by_role("button", name="Generate").click()
    expect(page).to_have_url(re.compile(r"/generation/jobs/[\w-]+/$"))
    page.locator(".job.succeeded").wait_for(timeout=MAKES_A_TAKE_MS)  # the page reloads itself
    expect(page.locator("audio[controls]")).to_be_visible()

    page.get_by_role("link", name="Restore").click()
    expect(page.get_by_text("Params restored from Sample 1 (with latent)")).to_be_visible()
    lower_denoise(page, to="0.5")
    page.get_by_role("button", name="Show what will run").click()
    expect(page.locator("#plan")).to_contain_text("starts at 0.50, 10 of 20 steps")
    expect(page.locator(".indicator")).to_be_visible()
    expect(page.get_by_label("Duration in seconds")).to_have_attribute("readonly", "")
    page.locator(".indicator").get_by_role("button", name="Clear").click()
    expect(page.locator("#resume")).to_have_count(0)
    expect(page.get_by_label("Describe the music")).to_have_value("slow ambient pads")

    page.goto(take_page)
    page.get_by_role("button", name="Delete sample 1").click()
    page.locator("#toasts").get_by_role("button", name="Undo").click()
    expect(page.locator("audio[controls]")).to_be_visible()


def test_keyboard_is_enough(open_studio: Open, take_page: str) -> None:
    page = open_studio()
    page.goto("/?duration=60&inference_steps=100")  # long enough to be cancelled
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Describe the music")).to_be_focused()
    page.keyboard.type("bright techno")
    page.keyboard.press("Control+Enter")
    card = page.locator(".job").first
    expect(card).to_contain_text("bright techno")
    cancel = card.get_by_role("button", name="Cancel")
    cancel.focus()
    page.wait_for_timeout(2500)  # a poll or two: the focus stays where it was
    expect(cancel).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".job.cancelled").first).to_be_visible(timeout=MAKES_A_TAKE_MS)

    play = page.locator(".job.succeeded").first.get_by_role("button", name="Play Sample 1")
    play.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".deck.playing")).to_have_count(1)
    page.keyboard.press("Tab")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_label("Position in Sample 1").first).to_be_focused()


def test_mistakes_are_shown_where_they_are_and_deletions_can_be_undone(open_studio: Open, take_page: str) -> None:
    page = open_studio()
    page.goto("/?caption=kept&bpm=1000")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_label("Tempo")).to_be_focused()
    expect(page.get_by_text("Must be between 30 and 300.")).to_be_visible()
    expect(page.get_by_label("Describe the music")).to_have_value("kept")
    page.get_by_label("Tempo").fill("90")
    expect(page.get_by_text("Must be between 30 and 300.")).to_have_count(0)

    page.get_by_text("Resume from a latent").click()
    page.get_by_label("Latent to resume from").fill("no such latent")
    page.get_by_label("Latent to resume from").press("Enter")
    expect(page.locator("#plan")).to_contain_text("Latent 'no such latent' not found or expired")

    page.goto(take_page)
    page.get_by_role("button", name="Delete sample 1").click()
    expect(page.get_by_role("button", name="Play Sample 1")).to_have_count(0)
    page.locator("#toasts").get_by_role("button", name="Undo").click()
    expect(page.get_by_role("button", name="Play Sample 1")).to_be_visible()
    expect(page.locator(".toast")).to_have_count(0)

    page.goto("/latents/")
    page.get_by_label("Search captions").fill("nothing like this")
    expect(page.get_by_text("Nothing matches")).to_be_visible()
    expect(page).to_have_url(re.compile("q=nothing"))


def test_presets_are_kept_loaded_and_deleted(open_studio: Open) -> None:
    page = open_studio()
    page.goto("/?caption=late+night+lofi&bpm=82")
    presets = page.locator("#presets")
    presets.locator("summary").click()
    page.get_by_label("Save these parameters as").fill("Late night")
    page.get_by_label("Save these parameters as").press("Enter")
    expect(page.get_by_text("Preset “Late night” saved")).to_be_visible()
    page.goto("/")
    presets.locator("summary").click()
    presets.get_by_role("link", name="Late night").click()
    expect(page.get_by_label("Tempo")).to_have_value("82")
    presets.locator("summary").click()
    presets.get_by_role("button", name="Delete the preset Late night").click()
    expect(presets.get_by_role("link", name="Late night")).to_have_count(0)


def test_phone_keeps_generate_in_reach_and_leads_to_what_it_made(open_studio: Open) -> None:
    page = open_studio(viewport=PHONE, has_touch=True)
    page.goto("/?caption=phone+song&duration=4&inference_steps=4")
    generate = page.get_by_role("button", name="Generate")
    expect(generate).to_be_in_viewport(ratio=1)
    generate.tap()
    card = page.locator(".job", has_text="phone song").first
    expect(card).to_be_in_viewport(ratio=1)
    card.locator(".sample").wait_for(timeout=MAKES_A_TAKE_MS)
    for menu in ("Restore a part", "Download"):
        card.get_by_text(menu, exact=True).tap()
        for link in card.locator(".menu[open] a").all():
            expect(link).to_be_in_viewport(ratio=1)


def test_mistake_is_not_hidden_behind_the_button(open_studio: Open) -> None:
    page = open_studio(viewport={"width": 1280, "height": 700})
    page.goto("/?caption=x&cfg_interval_end=7")
    page.get_by_role("button", name="Generate").click()
    mistaken = page.get_by_label("Guidance until")
    expect(mistaken).to_be_focused()
    top_of_button = page.locator(".transport").evaluate("bar => bar.getBoundingClientRect().top")
    assert mistaken.evaluate("field => field.getBoundingClientRect().bottom") < top_of_button

    page.goto("/?caption=x&init_latent_id=gone")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#plan .error")).to_be_focused()


def test_same_error_again_takes_the_place_of_the_first(open_studio: Open) -> None:
    page = open_studio()
    page.goto("/")
    page.locator("#presets summary").click()
    for _ in range(3):
        with page.expect_response("**/presets/save"):
            page.locator("#presets").get_by_role("button", name="Save").click()
    page.wait_for_timeout(300)
    expect(page.locator(".toast.error")).to_have_count(1)
    expect(page.locator(".toast.error")).to_contain_text("Give the preset a name.")


PAGES = [
    "/",
    "studio with a resume",
    "job",
    "record",
    "/queue/",
    "/prompts/",
    "/latents/",
    "/workers/",
    "/account/",
    "/account/tokens/",
    "/no",
]


@pytest.mark.parametrize("name", PAGES)
def test_page_is_accessible_in_both_themes_at_both_widths(open_studio: Open, take_page: str, name: str) -> None:
    page = open_studio()
    page.goto(take_page if name in ("job", "record", "studio with a resume") else name)
    if name == "record":
        page.locator(".badge a").first.click()
    if name == "studio with a resume":
        page.get_by_role("link", name="Restore").click()
        lower_denoise(page, to="0.5")
        expect(page.locator(".indicator")).to_be_visible()
    for size in (DESKTOP, PHONE):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
            found: Any = Axe().run(page)
            assert not found.violations_count, found.generate_report()


def test_targets_are_large_enough_for_thumbs(open_studio: Open, take_page: str) -> None:
    page = open_studio(viewport=PHONE, has_touch=True)
    page.goto("/")
    small = page.evaluate(
        """[...document.querySelectorAll("button, summary, input:not([type=hidden]), select, textarea, .button")]
           .filter(e => e.checkVisibility() && e.type !== "checkbox" && e.getBoundingClientRect().height < 43.5)
           .map(e => e.outerHTML.slice(0, 80))"""
    )
    assert small == []
    assert page.locator("#id_caption").evaluate("field => parseFloat(getComputedStyle(field).fontSize)") >= 16


def test_first_view_keeps_to_its_budget(open_studio: Open) -> None:
    page = open_studio()
    responses: list[Response] = []
    page.on("response", lambda response: responses.append(response))
    page.goto("/", wait_until="networkidle")
    sizes = {response.url: len(gzip.compress(response.body(), 9)) for response in responses}
    assert len(sizes) <= 6, sizes
    assert sum(sizes.values()) <= 45_000, sizes
