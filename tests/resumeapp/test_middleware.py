"""What every request passes: the local door, who is asking, login, and the content security policy."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path

from resumeapp import urls
from resumeapp.models import PersonalToken

pytestmark = pytest.mark.django_db

CSP = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "media-src": "'self'",
    "connect-src": "'self'",
    "font-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}


def who(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.user.get_username())


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("on purpose")


urlpatterns = [*urls.urlpatterns, path("who", who), path("broken", broken)]


@pytest.fixture(autouse=True)
def test_urls(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada", password="ada's password")


@pytest.fixture
def secret(ada: User) -> str:
    return PersonalToken.objects.issue(ada, "script")[1]


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


# Content security policy


@pytest.mark.parametrize(("url", "status"), [("/account/", 200), ("/nowhere", 404), ("/broken", 500)])
def test_every_answer_has_the_strict_policy(url: str, status: int) -> None:
    response = Client(raise_request_exception=False).get(url)
    assert response.status_code == status
    policy = dict(part.strip().split(" ", 1) for part in response["Content-Security-Policy"].split(";"))
    assert policy == CSP
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["X-Frame-Options"] == "DENY"


# The local door


def test_every_answer_forbids_frames_sniffing_and_foreign_referrers(client: Client) -> None:
    headers = client.get("/healthz").headers
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"


def test_local_mode_makes_everybody_on_this_computer_the_local_superuser(client: Client) -> None:
    assert client.get("/who").content == b"local"
    local = User.objects.get(username="local")
    assert local.is_superuser
    assert not local.has_usable_password()
    assert client.get("/admin/").status_code == 200


@pytest.mark.parametrize(
    "header", ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Anything"]
)
@pytest.mark.parametrize("url", ["/who", "/static/x.css", "/healthz"])
def test_local_mode_refuses_what_came_through_a_proxy(header: str, url: str, client: Client) -> None:
    response = client.get(url, headers={header: "for=127.0.0.1"})
    assert response.status_code == 403
    assert b"REPRISE_MODE=server" in response.content


@pytest.mark.parametrize("address", ["192.168.1.7", "10.0.0.1", "203.0.113.9", "2001:db8::1", "", "unix:"])
def test_local_mode_refuses_other_computers(address: str, client: Client) -> None:
    assert client.get("/who", REMOTE_ADDR=address).status_code == 403


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1"])
def test_local_mode_serves_every_loopback_address(address: str, client: Client) -> None:
    assert client.get("/who", REMOTE_ADDR=address).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8123", 200),
        ("localhost", 200),
        ("[::1]:8123", 200),
        ("studio.example", 400),  # a foreign name that was made to resolve to this computer
        ("localhost.studio.example", 400),
        ("127.0.0.2", 400),
        ("0.0.0.0", 400),
    ],
)
def test_local_mode_answers_to_its_three_names_only(host: str, status: int, client: Client) -> None:
    assert client.get("/who", headers={"Host": host}).status_code == status


def test_server_mode_may_stand_behind_a_proxy(server_mode: None, client: Client, ada: User) -> None:
    client.force_login(ada)
    response = client.get("/who", headers={"X-Forwarded-For": "203.0.113.9"}, REMOTE_ADDR="192.168.1.7")
    assert response.content == b"ada"


# Login


def test_server_mode_sends_a_visitor_to_the_login_page(server_mode: None, client: Client) -> None:
    response = client.get("/who?x=1")
    assert response.status_code == 302
    assert response["Location"] == "/account/login/?next=/who%3Fx%3D1"


def test_server_mode_sends_an_htmx_request_to_the_login_page_and_back_to_the_whole_page(
    server_mode: None, client: Client
) -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": "http://testserver/latents/?page=2"}
    response = client.get("/who", headers=headers)
    assert response.status_code == 200
    assert response["HX-Redirect"] == "/account/login/?next=/latents/%3Fpage%3D2"


@pytest.mark.parametrize(
    "request_headers",
    [
        {"Accept": "application/json"},
        {"Accept": "application/json, text/html;q=0.5"},
        {"Content-Type": "application/json"},
    ],
)
def test_server_mode_tells_a_program_to_identify_itself(
    request_headers: dict[str, str], server_mode: None, client: Client
) -> None:
    response = client.get("/who", headers=request_headers)
    assert response.status_code == 401
    assert response["WWW-Authenticate"].startswith("Bearer")
    assert response.json() == {"error": "Log in, or send a personal token as Authorization: Bearer"}


def test_program_that_forgot_its_token_hears_of_that_and_not_of_forgery(server_mode: None) -> None:
    response = Client(enforce_csrf_checks=True).post("/who", {}, content_type="application/json")
    assert response.status_code == 401


def test_nobody_becomes_the_local_user_in_server_mode(server_mode: None, client: Client) -> None:
    client.get("/who")
    assert not User.objects.filter(username="local").exists()


# Personal tokens


def test_token_stands_for_its_user_in_server_mode(server_mode: None, client: Client, secret: str) -> None:
    assert client.get("/who", headers=bearer(secret)).content == b"ada"


def test_token_stands_for_its_user_in_local_mode_too(client: Client, secret: str) -> None:
    assert client.get("/who", headers=bearer(secret)).content == b"ada"


@pytest.mark.parametrize("wrong", ["", "reprise_unknown", "\ud800".encode("utf-8", "replace").decode(), "a b c"])
def test_wrong_token_is_refused_and_never_falls_back_to_the_session(
    wrong: str, server_mode: None, client: Client, ada: User
) -> None:
    client.force_login(ada)
    response = client.get("/who", headers=bearer(wrong))
    assert response.status_code == 401
    assert response.json() == {"error": "Unknown or revoked token"}


def test_wrong_token_does_not_become_the_local_user(client: Client) -> None:
    assert client.get("/who", headers=bearer("reprise_unknown")).status_code == 401


def test_revoked_token_is_refused(server_mode: None, client: Client, secret: str) -> None:
    PersonalToken.objects.get().delete()
    assert client.get("/who", headers=bearer(secret)).status_code == 401


def test_token_of_a_user_who_may_no_longer_come_in_is_refused(
    server_mode: None, client: Client, ada: User, secret: str
) -> None:
    ada.is_active = False
    ada.save()
    assert client.get("/who", headers=bearer(secret)).status_code == 401


def test_other_authorization_schemes_are_not_ours_to_judge(server_mode: None, client: Client, ada: User) -> None:
    client.force_login(ada)
    assert client.get("/who", headers={"Authorization": "Basic YTpi"}).content == b"ada"


# Cross-site request forgery


def test_token_needs_no_csrf_token(server_mode: None, secret: str) -> None:
    assert Client(enforce_csrf_checks=True).post("/who", headers=bearer(secret)).status_code == 200


def test_session_needs_a_csrf_token(server_mode: None, ada: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(ada)
    assert client.post("/who").status_code == 403
    assert client.post("/who", headers={"Authorization": "Basic YTpi"}).status_code == 403


def test_local_user_needs_a_csrf_token(ada: User) -> None:
    assert Client(enforce_csrf_checks=True).post("/who").status_code == 403


def test_program_without_a_csrf_token_is_told_what_to_send_instead() -> None:
    response = Client(enforce_csrf_checks=True).post("/who", {}, content_type="application/json")
    assert response.status_code == 403
    assert response.json()["error"].endswith("Programs send a personal token as Authorization: Bearer")
