"""Thousands of requests that no page sends: all are answered, none with a fault, and none leaves what it should not.

`make test` takes an even share of them, `make fuzz` all.
"""

from __future__ import annotations

from itertools import product
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.fuzz import hostile
from tests.fuzz.conftest import World
from tests.fuzz.surface import all_names, all_pages, form_fields

METHODS = ["GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"]
PEOPLE = ["root", "alice", "bob", "nobody"]
FORM, JSON = "application/x-www-form-urlencoded", "application/json"
HTMX = {"HX-Request": "true"}
LONGEST_QUERY = 60_000
RANDOM_REQUESTS = 3_000

PAGES = all_pages()
OWN_PAGES = [page for page in PAGES if not page.is_admin]
NAMES = all_names()


def share(every: int) -> pytest.MarkDecorator:
    """Run a test with every n-th of its cases, and where time allows with all of them."""
    everything = pytest.param(1, id="all", marks=pytest.mark.long)
    return pytest.mark.parametrize("every", [pytest.param(every, id="some"), everything])


METHOD_CASES = list(product(PAGES, METHODS, PEOPLE))
HEADER_CASES = list(product(PAGES, hostile.HEADERS))
BODY_CASES = list(product(OWN_PAGES, hostile.BODIES, hostile.CONTENT_TYPES))[::3]
FIELD_CASES = list(product(form_fields(), range(len(hostile.VALUES)), range(4)))


def test_all_cases_together_are_more_than_ten_thousand() -> None:
    cases = len(METHOD_CASES) + len(HEADER_CASES) + len(BODY_CASES) + len(FIELD_CASES)
    assert cases + RANDOM_REQUESTS > 10_000


@share(every=7)
def test_every_page_answers_every_method_for_everybody(world: World, every: int) -> None:
    for number, (page, method, who) in enumerate(METHOD_CASES[::every]):
        world.ask(method, world.url(page, number), who=who)


@share(every=11)
def test_every_page_bears_every_header(world: World, every: int) -> None:
    for page, headers in HEADER_CASES[::every]:
        world.ask("GET", world.url(page), who="root", headers=headers)


@share(every=29)
def test_every_page_bears_every_body(world: World, every: int) -> None:
    for page, body, content_type in BODY_CASES[::every]:
        world.ask("POST", world.url(page), body, content_type=content_type)


@share(every=29)
def test_every_field_bears_every_value(world: World, every: int) -> None:
    for name, value_index, way in FIELD_CASES[::every]:
        value = hostile.VALUES[value_index]
        form = urlencode({"caption": "x", "preset_name": "x", name: hostile.as_text(value)})
        if way == 0:
            world.ask("POST", "/generation/generate", hostile.as_json({"caption": "x", name: value}), content_type=JSON)
        elif way == 1:
            world.ask("POST", "/generation/generate", form.encode(), content_type=FORM, headers=HTMX)
        elif way == 2:
            world.ask("GET", "/" if value_index % 8 == 0 else "/generation/plan", query=form[:LONGEST_QUERY])
        else:
            world.ask("POST", "/presets/save", hostile.as_json({"preset_name": "x", name: value}), content_type=JSON)


SEARCHES = ["/latents/", "/admin/latents/latentrecord/", "/admin/generation/generationjob/", "/admin/auth/user/"]


@share(every=5)
def test_every_search_bears_every_word(world: World, every: int) -> None:
    for path, words in list(product(SEARCHES, (*hostile.SCRIPTS, *hostile.TEXTS, *hostile.QUERIES)))[::every]:
        query = urlencode({"q": hostile.as_text(words)})[:LONGEST_QUERY]
        world.ask("GET", path, query=query, who="root")


@share(every=7)
def test_every_list_bears_what_no_database_compares(world: World, every: int) -> None:
    lists = [page.template for page in PAGES if page.template.endswith("/") and not page.parameters]
    for path, name, value in list(product(lists, hostile.LOOKUPS, hostile.INCOMPARABLE))[::every]:
        world.ask("GET", path, query=urlencode({name: hostile.as_text(value)})[:LONGEST_QUERY], who="root")


@pytest.mark.parametrize(
    "examples", [pytest.param(200, id="some"), pytest.param(RANDOM_REQUESTS, id="all", marks=pytest.mark.long)]
)
def test_random_requests(world: World, examples: int) -> None:
    @hypothesis_settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(st.data())
    def send(data: st.DataObject) -> None:
        page = data.draw(st.sampled_from(PAGES))
        fields = data.draw(st.dictionaries(st.sampled_from(NAMES), hostile.values, max_size=6))
        form = urlencode({name: hostile.as_text(value) for name, value in fields.items()})
        body, content_type = data.draw(
            st.sampled_from([(form.encode(), FORM), (hostile.as_json(fields), JSON), (b"", "")])
        )
        world.ask(
            data.draw(st.sampled_from(METHODS)),
            world.url(page, data.draw(st.integers(0, 100))),
            body,
            content_type=content_type,
            query=data.draw(st.sampled_from(["", form[:LONGEST_QUERY]])),
            headers=data.draw(st.sampled_from(hostile.HEADERS)),
            who=data.draw(st.sampled_from(PEOPLE)),
        )

    send()
