"""Login, password, and personal tokens made and revoked in the browser."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from resumeapp.models import PersonalToken

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada", password="Analytical-1843")


@pytest.fixture
def ada_client(server_mode: None, ada: User, client: Client) -> Client:
    client.force_login(ada)
    return client


def token_in(page: bytes) -> str:
    found = re.search(r'id="new-token">(reprise_[\w-]+)<', page.decode())
    assert found
    return found[1]


def test_login_leads_back_to_where_one_wanted_to_go(server_mode: None, ada: User, client: Client) -> None:
    assert b'name="password"' in client.get("/account/login/?next=/account/").content
    form = {"username": "ada", "password": "Analytical-1843", "next": "/account/"}
    response = client.post("/account/login/", form)
    assert response["Location"] == "/account/"
    assert b"ada" in client.get("/account/").content


def test_login_does_not_lead_to_another_host(server_mode: None, ada: User, client: Client) -> None:
    form = {"username": "ada", "password": "Analytical-1843", "next": "https://evil.example/"}
    assert client.post("/account/login/", form)["Location"] == "/"


def test_wrong_password_is_refused(server_mode: None, ada: User, client: Client) -> None:
    response = client.post("/account/login/", {"username": "ada", "password": "wrong"})
    assert response.status_code == 200
    assert "sessionid" not in client.cookies
    assert client.get("/account/").status_code == 302


def test_logout_ends_the_session(ada_client: Client) -> None:
    assert ada_client.post("/account/logout/")["Location"] == "/account/login/"
    assert ada_client.get("/account/").status_code == 302


def test_password_can_be_changed(ada_client: Client, ada: User) -> None:
    new = "Notes-on-the-Engine"
    form = {"old_password": "Analytical-1843", "new_password1": new, "new_password2": new}
    response = ada_client.post("/account/password/", form, follow=True)
    assert b"Password changed" in response.content
    ada.refresh_from_db()
    assert ada.check_password(new)


def test_local_mode_offers_neither_password_nor_logout(client: Client) -> None:
    page = client.get("/account/").content
    assert b"local mode" in page
    assert b"/account/password/" not in page
    assert b"/account/logout/" not in page


def test_new_token_is_shown_once_and_stored_hashed(ada_client: Client) -> None:
    response = ada_client.post("/account/tokens/", {"name": "backup"})
    secret = token_in(response.content)
    assert "no-store" in response["Cache-Control"]
    token = PersonalToken.objects.get()
    assert (token.name, token.last_used_at) == ("backup", None)
    assert secret not in str(vars(token))
    assert b"reprise_" not in ada_client.get("/account/tokens/").content
    assert Client().get("/account/", headers={"Authorization": f"Bearer {secret}"}).status_code == 200


def test_token_needs_a_name(ada_client: Client) -> None:
    response = ada_client.post("/account/tokens/", {"name": ""})
    assert response.status_code == 422
    assert b"This field is required" in response.content
    assert not PersonalToken.objects.exists()


def test_token_can_be_revoked(ada_client: Client, ada: User) -> None:
    token, secret = PersonalToken.objects.issue(ada, "old laptop")
    response = ada_client.post(f"/account/tokens/{token.pk}/revoke/", follow=True)
    assert "Token “old laptop” is revoked" in response.content.decode()
    assert Client().get("/account/", headers={"Authorization": f"Bearer {secret}"}).status_code == 401


def test_other_peoples_tokens_are_neither_listed_nor_revocable(ada_client: Client) -> None:
    grace = User.objects.create_user("grace")
    token, _ = PersonalToken.objects.issue(grace, "compiler")
    assert b"compiler" not in ada_client.get("/account/tokens/").content
    assert ada_client.post(f"/account/tokens/{token.pk}/revoke/").status_code == 404
    assert PersonalToken.objects.filter(pk=token.pk).exists()


def test_token_cannot_make_or_revoke_tokens(server_mode: None, ada: User) -> None:
    token, secret = PersonalToken.objects.issue(ada, "leaked")
    script = Client(headers={"Authorization": f"Bearer {secret}"})
    assert script.get("/account/tokens/").status_code == 403
    assert script.post("/account/tokens/", {"name": "another"}).status_code == 403
    assert script.post(f"/account/tokens/{token.pk}/revoke/").status_code == 403
    assert PersonalToken.objects.count() == 1


def test_use_is_noted_to_the_minute_and_not_more_often(ada: User) -> None:
    token, secret = PersonalToken.objects.issue(ada, "poller")
    PersonalToken.objects.authenticate(secret)
    token.refresh_from_db()
    first = token.last_used_at
    assert first is not None
    PersonalToken.objects.authenticate(secret)
    token.refresh_from_db()
    assert token.last_used_at == first
    PersonalToken.objects.update(last_used_at=timezone.now() - timedelta(minutes=2))
    PersonalToken.objects.authenticate(secret)
    token.refresh_from_db()
    assert token.last_used_at > first


def test_command_prints_a_token_that_works(
    server_mode: None, ada: User, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("api_token", "ada", name="nightly")
    secret = capsys.readouterr().out.strip()
    assert client.get("/account/", headers={"Authorization": f"Bearer {secret}"}).status_code == 200
    assert PersonalToken.objects.get().name == "nightly"


def test_command_refuses_unknown_and_inactive_users(server_mode: None, ada: User) -> None:
    User.objects.create_user("gone", is_active=False)
    for username in ("nobody", "gone", "local"):
        with pytest.raises(CommandError, match=f"No active user '{username}'"):
            call_command("api_token", username)
    assert not PersonalToken.objects.exists()


def test_command_knows_the_local_user_before_the_first_visit() -> None:
    call_command("api_token", "local", stdout=None)
    assert PersonalToken.objects.get().user.username == "local"


def test_admin_revokes_tokens_and_neither_makes_nor_changes_them(admin_client: Client, ada: User) -> None:
    token, _ = PersonalToken.objects.issue(ada, "lost phone")
    assert b"lost phone" in admin_client.get("/admin/resumeapp/personaltoken/").content
    assert token.digest not in admin_client.get(f"/admin/resumeapp/personaltoken/{token.pk}/change/").content.decode()
    assert admin_client.get("/admin/resumeapp/personaltoken/add/").status_code == 403
    admin_client.post(f"/admin/resumeapp/personaltoken/{token.pk}/delete/", {"post": "yes"})
    assert not PersonalToken.objects.exists()
