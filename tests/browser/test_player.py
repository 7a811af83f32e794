"""The player as people use it: one sound at a time, by mouse, keyboard and thumb, undisturbed by what the page does."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import DESKTOP, MAKES_A_TAKE_MS, PHONE

Open = Callable[..., Page]
TAKE_S = 12.0


@pytest.fixture(scope="session")
def two_samples(studio: str, browser: Browser) -> str:
    """Make one job of two takes of twelve seconds; gives the path of its page."""
    context = browser.new_context(base_url=studio)
    page = context.new_page()
    page.goto("/?caption=calm+piano&duration=12&inference_steps=4&seed=3&batch_size=2")
    page.get_by_role("button", name="Generate").click()
    made = page.locator(".job.succeeded", has_text="calm piano")
    made.wait_for(timeout=MAKES_A_TAKE_MS)
    path = made.locator("h3 a").get_attribute("href")
    context.close()
    assert path
    return path


def wait_until(page: Page, condition: str) -> None:
    """Wait until a JavaScript expression holds; Playwright's own way to wait would need eval, which pages may not."""
    for _ in range(300):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"never true: {condition}")


def at_s(page: Page) -> float:
    seconds: float = page.locator("#player audio").evaluate("audio => audio.currentTime")
    return seconds


def is_playing(page: Page) -> bool:
    """Return whether the player plays; nothing else of the page may."""
    playing: list[str] = page.locator("audio").evaluate_all(
        "all => all.filter(audio => !audio.paused).map(audio => audio.parentElement.id)"
    )
    assert playing in ([], ["player"])
    return bool(playing)


def play(page: Page, name: str) -> Locator:
    """Press play on a sample and wait until it is heard; gives its deck."""
    deck = page.locator(".deck", has=page.get_by_role("button", name=f"Play {name}"))
    deck_id = deck.locator(".play").get_attribute("id")
    deck.locator(".play").click()
    wait_until(page, "document.querySelector('#player audio').currentTime > 0.2")
    return page.locator(".deck", has=page.locator(f"#{deck_id}"))


def notice_pauses(page: Page) -> None:
    """Have the page remember in `wasPaused` whether the player ever stopped from here on."""
    page.locator("#player audio").evaluate("audio => audio.addEventListener('pause', () => { wasPaused = true })")
    page.evaluate("window.wasPaused = false")


def wait_until_at(page: Page, seconds: float) -> None:
    wait_until(page, f"Math.abs(document.querySelector('#player audio').currentTime - {seconds}) < 0.7")


def test_one_sound_plays_and_the_other_keeps_its_place(open_studio: Open, two_samples: str) -> None:
    page = open_studio()
    page.goto(two_samples)
    first = play(page, "Sample 1")
    first.get_by_label("Position in Sample 1").fill("6")
    second = play(page, "Sample 2")
    assert is_playing(page)
    expect(page.locator(".deck.playing")).to_have_count(1)
    expect(second).to_have_class(re.compile("playing"))
    expect(first.get_by_label("Position in Sample 1")).to_have_attribute("aria-valuetext", "0:06 of 0:12")
    first.get_by_role("button", name="Play Sample 1").click()
    wait_until_at(page, 6)
    expect(second.get_by_role("button", name="Play Sample 2")).to_be_visible()


def test_what_plays_goes_on_while_its_card_is_replaced(open_studio: Open, two_samples: str) -> None:
    page = open_studio()
    page.goto(two_samples)
    deck = play(page, "Sample 1")
    deck.get_by_label("Position in Sample 1").fill("4")
    wait_until_at(page, 4)
    deck.locator(".play").focus()
    notice_pauses(page)
    page.evaluate("document.querySelector('.job').isOld = true")
    # As a card does that asks for itself.
    page.evaluate("htmx.ajax('GET', location.pathname, {target: '.job', swap: 'outerHTML'})")
    wait_until(page, "!document.querySelector('.job').isOld")

    assert is_playing(page)
    assert 4 <= at_s(page) < 8
    assert not page.evaluate("window.wasPaused")
    new = page.get_by_role("button", name="Pause Sample 1")
    expect(new).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Play Sample 1")).to_be_focused()
    assert not is_playing(page)
    shown = float(page.get_by_label("Position in Sample 1").input_value())
    assert shown == pytest.approx(at_s(page), abs=0.1)


def test_what_plays_goes_on_while_a_new_take_is_made(open_studio: Open, two_samples: str) -> None:
    page = open_studio()
    page.goto("/?caption=made+meanwhile&duration=4&inference_steps=4&seed=5")
    page.locator(".deck .play").first.click()
    notice_pauses(page)
    page.evaluate("document.querySelector('#player audio').loop = true")  # however long it takes
    page.get_by_role("button", name="Generate").click()
    page.locator(".job.succeeded", has_text="made meanwhile").wait_for(timeout=MAKES_A_TAKE_MS)
    assert is_playing(page)
    assert not page.evaluate("window.wasPaused")


def test_what_is_deleted_is_not_heard_any_longer(open_studio: Open, two_samples: str) -> None:
    page = open_studio()
    page.goto(two_samples)
    play(page, "Sample 2")
    page.get_by_role("button", name="Delete sample 1").click()
    page.locator("#toasts").get_by_role("button", name="Undo").click()
    expect(page.get_by_role("button", name="Play Sample 1")).to_be_visible()
    assert is_playing(page)
    page.get_by_role("button", name="Delete sample 2").click()
    expect(page.get_by_role("region", name="Player")).to_be_hidden()
    assert not is_playing(page)
    page.locator("#toasts").get_by_role("button", name="Undo").click()
    expect(page.get_by_role("button", name="Play Sample 2")).to_be_visible()


def test_sound_that_cannot_be_had_is_said_and_not_left_in_the_player(open_studio: Open, two_samples: str) -> None:
    page = open_studio()
    page.route("**/audio", lambda route: route.fulfill(status=404))
    page.goto(two_samples)
    page.get_by_role("button", name="Play Sample 1").click()
    expect(page.get_by_role("alert")).to_contain_text("Sample 1 cannot be played.")
    expect(page.get_by_role("region", name="Player")).to_be_hidden()


def test_waveform_is_a_slider_for_keyboard_and_screen_reader(open_studio: Open, two_samples: str) -> None:
    page = open_studio()
    page.goto(two_samples)
    slider = page.get_by_role("slider", name="Position in Sample 2")
    expect(slider).to_have_attribute("aria-valuetext", "0:00 of 0:12")
    slider.focus()
    for key, seconds in [("ArrowRight", 5), ("Shift+ArrowRight", 6), ("ArrowLeft", 1), ("End", 12), ("PageDown", 0)]:
        slider.press(key)
        assert at_s(page) == pytest.approx(seconds, abs=0.05), key
        expect(slider).to_have_attribute("aria-valuetext", f"0:{seconds:02} of 0:12")
    expect(slider).to_be_focused()
    assert not is_playing(page)

    box = slider.bounding_box()
    assert box
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert at_s(page) == pytest.approx(TAKE_S / 2, abs=0.1)


def test_single_keys_steer_the_player(open_studio: Open, two_samples: str) -> None:
    page = open_studio()
    page.goto(two_samples)
    page.keyboard.press("k")
    wait_until(page, "document.querySelector('#player audio').currentTime > 0.2")
    expect(page.get_by_role("button", name="Pause Sample 1")).to_be_visible()
    page.keyboard.press("ArrowRight")
    wait_until_at(page, 5.5)
    page.keyboard.press("Shift+ArrowLeft")
    wait_until_at(page, 4.5)
    page.keyboard.press("Home")
    wait_until_at(page, 0.3)
    page.keyboard.press("Space")
    assert not is_playing(page)
    page.keyboard.press("m")
    expect(page.get_by_role("button", name="Mute")).to_have_attribute("aria-pressed", "true")

    page.keyboard.press("l")
    expect(page.get_by_role("button", name="Play Sample 2")).to_be_focused()
    page.keyboard.press("l")  # there is no third
    page.keyboard.press("k")
    expect(page.get_by_role("button", name="Pause Sample 2")).to_be_focused()
    page.keyboard.press("j")
    expect(page.get_by_role("button", name="Pause Sample 1")).to_be_focused()  # the next one plays on
    page.keyboard.press("End")
    expect(page.get_by_role("button", name="Play Sample 1")).to_be_focused()
    assert at_s(page) == 0


def test_keys_are_left_alone_where_somebody_types_or_means_something_else(open_studio: Open, two_samples: str) -> None:
    page = open_studio()
    page.goto("/")
    prompt = page.get_by_label("Describe the music")
    prompt.focus()
    page.keyboard.type("jazz like milk? k")
    expect(prompt).to_have_value("jazz like milk? k")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name="Generate").focus()
    page.keyboard.press("Control+k")
    expect(page.get_by_role("region", name="Player")).to_be_hidden()
    assert not is_playing(page)


def test_help_lists_the_keys_and_switches_them_off_for_good(open_studio: Open, two_samples: str) -> None:
    page = open_studio()
    page.goto(two_samples)
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(dialog).to_contain_text("Play or pause")
    expect(dialog.get_by_role("button", name="Close")).to_be_focused()
    page.keyboard.press("k")  # the dialog has the keyboard
    assert not is_playing(page)
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        found: Any = Axe().run(page)
        assert not found.violations_count, found.generate_report()
    dialog.get_by_label("Single keys").uncheck()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()

    page.reload()
    for key in ("k", "?", "l"):
        page.keyboard.press(key)
    page.wait_for_timeout(300)
    assert not is_playing(page)
    expect(dialog).to_have_count(0)
    opener = page.get_by_role("button", name="Keyboard shortcuts")
    opener.click()
    expect(dialog.get_by_label("Single keys")).not_to_be_checked()
    dialog.get_by_label("Single keys").check()
    dialog.get_by_role("button", name="Close").click()
    expect(opener).to_be_focused()
    page.keyboard.press("k")
    expect(page.get_by_role("button", name="Pause Sample 1")).to_be_visible()


def test_bar_steers_what_plays_and_leads_back_to_it(open_studio: Open, two_samples: str) -> None:
    page = open_studio()
    page.goto(two_samples)
    play(page, "Sample 1")
    bar = page.get_by_role("region", name="Player")
    expect(bar).to_contain_text("calm piano")
    expect(bar).to_contain_text(re.compile(r"Sample 1 0:0\d / 0:12"))
    bar.get_by_label("Position").fill("7")
    wait_until_at(page, 7)
    bar.get_by_role("button", name="Next take").click()
    expect(page.get_by_role("button", name="Pause Sample 2")).to_be_visible()
    bar.get_by_role("button", name="Pause").click()
    assert not is_playing(page)
    bar.get_by_role("button", name="calm piano").click()
    expect(page.get_by_role("button", name="Play Sample 2")).to_be_focused()
    bar.get_by_role("button", name="Close the player").click()
    expect(bar).to_be_hidden()
    expect(page.get_by_role("button", name="Play Sample 2")).to_be_focused()


def test_lock_screen_and_media_keys_know_what_plays(open_studio: Open, two_samples: str) -> None:
    page = open_studio()
    page.add_init_script(
        "const set = MediaSession.prototype.setActionHandler; window.pressed = {};"
        "MediaSession.prototype.setActionHandler ="
        " function (name, run) { pressed[name] = run; set.call(this, name, run); }"
    )
    page.goto(two_samples)
    play(page, "Sample 1")
    wait_until(page, "navigator.mediaSession.metadata?.title === 'calm piano'")
    assert page.evaluate("navigator.mediaSession.metadata.artist") == "Sample 1"
    page.evaluate("pressed.seekto({seekTime: 8})")
    wait_until_at(page, 8)
    page.evaluate("pressed.nexttrack({})")
    wait_until(page, "navigator.mediaSession.metadata.artist === 'Sample 2'")
    page.evaluate("pressed.pause({})")
    assert not is_playing(page)


def test_bar_sits_below_the_thumb_and_covers_nothing_on_a_phone(open_studio: Open, two_samples: str) -> None:
    page = open_studio(viewport=PHONE, has_touch=True)
    page.goto("/")
    page.locator(".deck .play").first.tap()
    bar = page.get_by_role("region", name="Player")
    expect(bar).to_be_in_viewport(ratio=1)
    top = bar.evaluate("bar => bar.getBoundingClientRect().top")
    page.evaluate("scrollTo(0, 0)")
    generate = page.get_by_role("button", name="Generate")
    assert generate.evaluate("button => button.getBoundingClientRect().bottom") <= top
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    assert page.locator("#main").evaluate("main => main.getBoundingClientRect().bottom") <= top + 1
    small = bar.locator("button, input").evaluate_all(
        "all => all.filter(e => e.checkVisibility()).map(e => e.getBoundingClientRect())"
        ".filter(box => box.height < 24 || box.width < 24).length"
    )
    assert small == 0
    bar.get_by_role("button", name="Pause").tap()
    assert not is_playing(page)


def test_bar_is_accessible_in_both_themes_at_both_widths(open_studio: Open, two_samples: str) -> None:
    page = open_studio()
    page.goto(two_samples)
    play(page, "Sample 1")
    page.keyboard.press("k")
    for size in (DESKTOP, PHONE):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
            found: Any = Axe().run(page)
            assert not found.violations_count, found.generate_report()


def test_browsers_own_player_is_there_without_javascript(open_studio: Open, two_samples: str) -> None:
    page = open_studio(java_script_enabled=False)
    page.goto(two_samples)
    expect(page.locator(".deck audio[controls]")).to_have_count(2)
    expect(page.locator(".deck audio[controls]").first).to_be_visible()
    for invisible in (".deck .play", ".deck .seek", "#player", "#keys"):
        expect(page.locator(invisible).first).to_be_hidden()
