"""Two takes at one playhead: switched without a gap, equally loud, looped, and heard apart where that is impossible."""

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import DESKTOP, MAKES_A_TAKE_MS, PHONE

Open = Callable[..., Page]

# Remembers every start of a source and every gain that is asked for.
WATCH = """
window.starts = []; window.gains = [];
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (when, offset) {
  starts.push({ when, offset, length: this.buffer.length, loop: this.loop && [this.loopStart, this.loopEnd] });
  start.call(this, when, offset);
};
const ramp = AudioParam.prototype.linearRampToValueAtTime;
AudioParam.prototype.linearRampToValueAtTime = function (value, end) {
  gains.push(value);
  return ramp.call(this, value, end);
};
"""

# Renders a second of noise that both sides have, from a quarter of a second on, and switches three times.
SWITCHES = """
async () => {
  const { createPlayhead } = await import("/static/reprise/playhead.js");
  const rate = 48000;
  let state = 1;
  const noise = Float32Array.from({ length: rate }, () => (state = (state * 16807) % 2147483647) / 2147483647 - 0.5);
  const context = new OfflineAudioContext(1, rate / 2, rate);
  const side = () => { const made = context.createBuffer(1, rate, rate); made.copyToChannel(noise, 0); return made; };
  const playhead = createPlayhead(context, [side(), side()]);
  playhead.choose(0, 0);
  playhead.start(0.25, null, 0);
  playhead.choose(1, 0.1); playhead.choose(0, 0.2); playhead.choose(1, 0.3);
  const heard = (await context.startRendering()).getChannelData(0);
  const fadedIn = 0.01 * rate;
  const apart = (shift) => {
    let worst = 0;
    for (let i = fadedIn; i < heard.length; i++) {
      worst = Math.max(worst, Math.abs(heard[i] - noise[i + rate / 4 + shift]));
    }
    return worst;
  };
  return [apart(0), apart(1)];
}
"""


@pytest.fixture(scope="session")
def comparison(studio: str, browser: Browser, take_page: str) -> str:
    """Resume a take; gives where the card of what came of it leads to compare both."""
    context = browser.new_context(base_url=studio)
    page = context.new_page()
    page.goto(take_page)
    page.get_by_role("link", name="Restore", exact=True).click()
    page.get_by_label("Describe the music").fill("soft strings, answered by a flute")
    slider = page.get_by_label("Denoise")
    slider.focus()
    while slider.input_value() != "0.5":
        slider.press("ArrowLeft")
    page.get_by_role("button", name="Generate").click()
    card = page.locator(".job.succeeded", has_text="answered by a flute")
    card.wait_for(timeout=MAKES_A_TAKE_MS)
    path = card.get_by_role("link", name="Compare").get_attribute("href")
    context.close()
    assert path
    return path


@pytest.fixture
def page(open_studio: Open, comparison: str) -> Page:
    page = open_studio()
    page.add_init_script(WATCH)
    page.goto(comparison)
    return page


def at_s(page: Page) -> float:
    return float(page.get_by_label("Position in both").input_value())


def pressed(page: Page) -> list[str]:
    sides: list[str] = page.locator(".side[aria-pressed=true]").all_text_contents()
    return sides


def play(page: Page) -> None:
    page.get_by_role("button", name="Play both").click()
    expect(page.get_by_role("button", name="Pause both")).to_be_visible()


def test_switching_is_exact_to_the_sample_and_without_a_click(page: Page) -> None:
    right, one_sample_off = page.evaluate(SWITCHES)
    assert right < 1e-4
    assert one_sample_off > 0.5  # it would have been noticed


def test_parent_and_child_run_from_the_same_moment_and_keys_switch(page: Page) -> None:
    play(page)
    first, second = page.evaluate("starts")
    assert first == second
    assert pressed(page) == ["A"]
    page.keyboard.press("b")
    assert pressed(page) == ["B"]
    page.keyboard.press("x")
    assert pressed(page) == ["A"]
    page.get_by_role("button", name="B", exact=True).click()
    page.keyboard.press("a")
    assert pressed(page) == ["A"]
    assert len(page.evaluate("starts")) == 2  # nothing was started anew

    page.get_by_label("Position in both").fill("2")
    assert 2 <= at_s(page) < 4
    third, fourth = page.evaluate("starts.slice(2)")
    assert third == fourth
    assert third["offset"] == pytest.approx(2, abs=0.001)
    page.keyboard.press("Space")
    stopped = at_s(page)
    page.wait_for_timeout(300)
    assert at_s(page) == stopped


def test_louder_one_is_turned_down_until_that_is_switched_off(page: Page) -> None:
    loudness = [float(text) for text in page.locator(".track").evaluate_all("all => all.map(t => t.dataset.loudness)")]
    expected = [10 ** ((min(loudness) - lufs) / 20) for lufs in loudness]
    play(page)
    page.keyboard.press("a")
    assert page.evaluate("gains.slice(-2)") == pytest.approx([expected[0], 0])
    page.keyboard.press("b")
    assert page.evaluate("gains.slice(-2)") == pytest.approx([0, expected[1]])
    page.get_by_label("Equally loud").uncheck()
    assert page.evaluate("gains.slice(-2)") == [0, 1]


def test_region_is_looped(page: Page) -> None:
    page.get_by_label("Loop from").fill("1")
    page.get_by_label("Loop to").fill("2")
    expect(page.get_by_label("Loop", exact=True)).to_be_checked()
    play(page)
    seen = []
    for _ in range(20):
        seen.append(at_s(page))
        page.wait_for_timeout(100)
    assert 1 <= min(seen) < max(seen) <= 2
    assert seen != sorted(seen)  # it came round
    assert page.evaluate("starts.map(start => start.loop)") == [[1, 2], [1, 2]]


def test_any_other_take_can_be_chosen(page: Page) -> None:
    page.get_by_label("A", exact=True).select_option(index=0)
    chosen = page.get_by_label("A", exact=True).input_value()
    page.get_by_role("button", name="Compare these").click()
    expect(page.locator(".track").first).to_have_attribute("data-url", f"/generation/samples/{chosen}/audio")


def test_what_differs_is_shown_beside_both_heat_maps(page: Page) -> None:
    table = page.get_by_role("table")
    expect(table).to_contain_text("answered by a flute")
    expect(table).not_to_contain_text("Shift")
    expect(page.get_by_alt_text("Heat map of the latents of")).to_have_count(2)


def test_two_players_take_over_where_it_cannot_be_loaded(open_studio: Open, comparison: str) -> None:
    page = open_studio()
    page.route("**/audio", lambda route: route.fulfill(status=404))
    page.goto(comparison)
    expect(page.get_by_role("button", name="Play A")).to_have_count(0)
    page.get_by_role("button", name="Play both").click()
    expect(page.get_by_text("the two play one after the other here")).to_be_visible()
    page.unroute("**/audio")
    page.get_by_role("button", name="Play B").click()
    expect(page.get_by_role("button", name="Pause B")).to_be_visible()


def test_browsers_own_players_are_there_without_javascript(open_studio: Open, comparison: str) -> None:
    page = open_studio(java_script_enabled=False)
    page.goto(comparison)
    expect(page.locator(".two-players audio[controls]").first).to_be_visible()
    expect(page.locator("#ab")).to_be_hidden()


def test_comparison_is_accessible_in_both_themes_at_both_widths(page: Page) -> None:
    for size in (DESKTOP, PHONE):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
            found: Any = Axe().run(page)
            assert not found.violations_count, found.generate_report()
