"""Writing with the help beside the form, and the queue, as a person does with a browser."""

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.conftest import MAKES_A_TAKE_MS

Open = Callable[..., Page]


def test_words_and_tags_are_put_where_they_belong(open_studio: Open) -> None:
    page = open_studio()
    page.goto("/?caption=calm")
    page.locator("#words summary").click()
    page.locator("#words").get_by_role("button", name="house", exact=True).click()
    expect(page.get_by_label("Describe the music")).to_have_value("calm, house")
    expect(page.locator("#words[open]")).to_have_count(1)
    lyrics = page.get_by_label("Lyrics", exact=True)
    page.get_by_role("button", name="[verse]").click()
    lyrics.press_sequentially("one line\nand another")
    expect(lyrics).to_have_value("[verse]\none line\nand another")
    expect(page.locator("#lines")).to_have_text("2 lines")


def test_earlier_prompt_and_last_seed_come_back_beside_what_was_typed(open_studio: Open, take_page: str) -> None:
    page = open_studio()
    page.goto("/?bpm=99")
    page.locator("#prompts summary").click()
    page.get_by_role("button", name="soft strings").first.click()
    expect(page.get_by_label("Describe the music")).to_have_value("soft strings")
    page.get_by_role("button", name="Use the last").click()
    expect(page.get_by_label("Seed", exact=True)).to_have_value(re.compile(r"\d+"))
    expect(page.get_by_role("button", name="Use the last")).to_be_focused()
    page.get_by_role("button", name="New each time").click()
    expect(page.get_by_label("Seed", exact=True)).to_have_value("")
    expect(page.get_by_label("Tempo")).to_have_value("99")


def test_seed_of_a_sample_is_restored_into_what_was_typed(open_studio: Open, take_page: str) -> None:
    page = open_studio()
    page.goto("/")
    page.get_by_label("Describe the music").fill("my own words")
    card = page.locator(".job.succeeded", has_text="soft strings").last
    card.get_by_text("Restore a part").click()
    card.get_by_role("link", name="Seed", exact=True).click()
    expect(page.get_by_label("Seed", exact=True)).to_have_value("7")
    expect(page.get_by_label("Describe the music")).to_have_value("my own words")
    expect(page).to_have_url(re.compile(r"caption=my\+own\+words"))
    assert "token" not in page.url


def test_draft_is_kept_and_offered(open_studio: Open) -> None:
    page = open_studio()
    page.goto("/")
    with page.expect_response("**/draft/save"):
        page.get_by_label("Describe the music").fill("half a thought")
    page.goto("/")
    expect(page.locator("#draft")).to_contain_text("half a thought")
    page.get_by_role("link", name="Go on").click()
    expect(page.get_by_label("Describe the music")).to_have_value("half a thought")
    page.goto("/")
    page.get_by_role("button", name="Discard").click()
    expect(page.locator("#draft")).to_have_count(0)


def test_queue_is_ordered_cancelled_cleared_and_undone(open_studio: Open) -> None:
    page = open_studio()
    for caption in ("long one", "song b", "song c", "song d"):
        length = 100 if caption == "long one" else 4
        page.goto(f"/?caption={caption}&duration={length}&inference_steps={min(200, length * 2)}")
        page.get_by_role("button", name="Generate").click()
        page.locator(".job", has_text=caption).first.wait_for()
    page.goto("/queue/")
    waiting = page.locator("ol.jobs li a")
    page.get_by_role("button", name="To the front: song d").click()
    expect(waiting).to_have_text(["song d", "song b", "song c"])
    page.get_by_role("button", name="To the back: song d").click()
    expect(waiting).to_have_text(["song b", "song c", "song d"])
    page.get_by_role("button", name="Cancel all waiting").click()
    expect(waiting).to_have_count(0)
    expect(page.get_by_role("heading", name="Running")).to_be_visible()
    page.get_by_role("button", name="Cancel: long one").click()
    expect(page.get_by_role("heading", name="Running")).to_have_count(0, timeout=MAKES_A_TAKE_MS)
    page.get_by_role("button", name="Clear these").click()
    expect(page.get_by_text("Nothing waits")).to_be_visible()
    page.locator("#toasts").get_by_role("button", name="Undo").last.click()
    expect(page.get_by_role("button", name="Retry: song d")).to_be_visible()
    page.get_by_role("button", name="Clear these").click()
