"""Personal tokens: how a person's scripts say who they are."""

import hashlib
import secrets
from datetime import timedelta

from django.contrib.auth.models import User
from django.db import models
from django.db.models import Q
from django.utils import timezone

_PREFIX = "reprise_"  # lets a person, and a scanner for leaked secrets, see what it is
_USE_IS_NOTED_EVERY = timedelta(minutes=1)


class PersonalTokenManager(models.Manager["PersonalToken"]):
    def issue(self, user: User, name: str) -> tuple["PersonalToken", str]:
        """Return a new token and its secret, which is stored nowhere and cannot be shown again."""
        secret = _PREFIX + secrets.token_urlsafe(32)
        return self.create(user=user, name=name, digest=_digest(secret)), secret

    def authenticate(self, secret: str) -> "PersonalToken | None":
        """Return the token that has this secret, if its user may still come in."""
        token = self.select_related("user").filter(digest=_digest(secret), user__is_active=True).first()
        if token is not None:
            token.note_use()
        return token


class PersonalToken(models.Model):
    """A secret that stands for its user until it is revoked, which deletes it."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="personal_tokens")
    name = models.CharField(max_length=80)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, editable=False)

    objects = PersonalTokenManager()

    class Meta:
        ordering = ("-created_at", "-pk")

    def __str__(self) -> str:
        return self.name

    def note_use(self) -> None:
        """Remember when it was last used, to the minute: polling scripts must not write at every request."""
        now = timezone.now()
        unnoted = Q(last_used_at=None) | Q(last_used_at__lt=now - _USE_IS_NOTED_EVERY)
        PersonalToken.objects.filter(unnoted, pk=self.pk).update(last_used_at=now)


def _digest(secret: str) -> str:
    # A plain hash is enough for 256 random bits: there is nothing to guess, so nothing to slow down.
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
