"""Django settings, each read once from the environment; README.md lists the variables."""

import os
import secrets
import tempfile
import warnings
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import dj_database_url
import django_stubs_ext
from django.core.exceptions import ImproperlyConfigured

from resumeapp import env

# Lets Django's generic classes be written with their types, as in ModelAdmin[LatentRecord].
django_stubs_ext.monkeypatch()

BASE_DIR = Path(__file__).resolve().parent.parent

REPRISE_MODE = env.choice("REPRISE_MODE", "local", ["local", "server"])
IS_SERVER = REPRISE_MODE == "server"

REPRISE_DATA = env.path("REPRISE_DATA", BASE_DIR / "var")
try:
    REPRISE_DATA.mkdir(parents=True, exist_ok=True)
except OSError as error:
    raise ImproperlyConfigured(f"REPRISE_DATA cannot be the folder {REPRISE_DATA}: {error.strerror}") from error


def _local_secret_key(path: Path) -> str:
    """Return the key kept in `path`, made on first use; safe when several processes start at once."""
    if not path.exists():
        descriptor, draft = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(64))
        with suppress(FileExistsError):
            os.link(draft, path)
        Path(draft).unlink()
    return path.read_text()


REPRISE_ALLOWED_HOSTS = env.words("REPRISE_ALLOWED_HOSTS")
if IS_SERVER:
    SECRET_KEY = env.required("REPRISE_SECRET_KEY", "in server mode")
    ALLOWED_HOSTS = REPRISE_ALLOWED_HOSTS
    if not ALLOWED_HOSTS:
        raise ImproperlyConfigured("REPRISE_ALLOWED_HOSTS must be set in server mode")
else:
    SECRET_KEY = env.text("REPRISE_SECRET_KEY") or _local_secret_key(REPRISE_DATA / "secret_key")
    ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]

DEBUG = False

# Models and their machine

REPRISE_MODELS = env.mapping("REPRISE_MODELS", "sketch=bundled,acestep-v15-turbo=ACE-Step/acestep-v15-turbo-diffusers")
REPRISE_DEVICE = env.choice("REPRISE_DEVICE", "auto", ["auto", "cpu", "cuda", "mps"])
REPRISE_COMPILE = env.flag("REPRISE_COMPILE")

# Lifetimes and limits

REPRISE_LATENT_TTL = env.duration("REPRISE_LATENT_TTL", timedelta(days=30) if IS_SERVER else None)
REPRISE_AUDIO_TTL = env.duration("REPRISE_AUDIO_TTL", None)
REPRISE_MAX_QUEUED_JOBS = env.count("REPRISE_MAX_QUEUED_JOBS", 100)
REPRISE_MAX_STORED_BYTES = env.size_bytes("REPRISE_MAX_STORED_BYTES", 50 * 10**9 if IS_SERVER else None)
REPRISE_MAX_UPLOAD_BYTES = env.size_bytes("REPRISE_MAX_UPLOAD_BYTES", 500 * 10**6)

# Applications

INSTALLED_APPS = [
    "resumeapp",
    "generation",
    "latents",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.forms",  # so that templates/django/forms/ can replace Django's own field template
    "django_htmx",
    "django_q",
    "template_partials",
]
ROOT_URLCONF = "resumeapp.urls"
WSGI_APPLICATION = "resumeapp.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
FORM_RENDERER = "django.forms.renderers.TemplatesSetting"

MIDDLEWARE = [
    "resumeapp.metrics.count_refusals",
    "resumeapp.middleware.content_security_policy",
    "resumeapp.middleware.local_door",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "resumeapp.middleware.identify",
    "django_htmx.middleware.HtmxMiddleware",
    "resumeapp.middleware.LoginMiddleware",
    # After login: a program that forgot its token shall hear of that, not of forgery.
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,  # template_partials puts its loader around these
        "OPTIONS": {
            "builtins": ["template_partials.templatetags.partials"],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

# Who may come in

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "login"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# Cookies are shared by all ports of a host, so in local mode other applications would take Django's usual names.
SESSION_COOKIE_NAME = "reprise_session"
CSRF_COOKIE_NAME = "reprise_csrf"
CSRF_FAILURE_VIEW = "resumeapp.middleware.refuse_forgery"
X_FRAME_OPTIONS = "DENY"

if IS_SERVER:
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
    SECURE_SSL_REDIRECT = True
    SECURE_REDIRECT_EXEMPT = ["^healthz$", "^readyz$"]
    # The proxy that ends TLS must set this header itself, whatever the visitor sent.
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = int(timedelta(days=30).total_seconds())
    # Subdomains and browsers' preload lists are a decision about hosts that are not ours.
    SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

# Database

_SQLITE_OPTIONS = {
    # A transaction that reads and then writes must take the write lock first: SQLite may not wait for it later.
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    # FULL: an accepted job survives a power cut. WAL: readers do not wait for the writer.
    "init_command": (
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA busy_timeout=20000;"
        "PRAGMA journal_size_limit=67108864; PRAGMA cache_size=-20000; PRAGMA temp_store=MEMORY;"
    ),
}


def _database(url: str) -> dict[str, Any]:
    try:
        database: dict[str, Any] = dict(dj_database_url.parse(url, conn_max_age=60, conn_health_checks=True))
    except ValueError as error:
        raise ImproperlyConfigured(f"DATABASE_URL cannot be read: {error}") from error
    if database["ENGINE"] == "django.db.backends.sqlite3":
        # Opening a connection runs all pragmas again, so keep it.
        database |= {"CONN_MAX_AGE": None, "OPTIONS": _SQLITE_OPTIONS}
    return database


DATABASES = {"default": _database(env.text("DATABASE_URL", f"sqlite:///{REPRISE_DATA / 'db.sqlite3'}"))}

# Files

STATIC_URL = "static/"
STATIC_ROOT = REPRISE_DATA / "static"


def _storage(name: str, folder: Path) -> dict[str, Any]:
    """Describe the storage of `folder`, or of s3://bucket/prefix?endpoint=https://… if the variable names one."""
    url = urlsplit(env.text(name))
    if not url.geturl():
        return {
            "BACKEND": "latents.storage.DurableFileSystemStorage",
            # 0640: other users of the same group may read, and nobody else.
            "OPTIONS": {"location": folder, "file_permissions_mode": 0o640},
        }
    if url.scheme != "s3" or not url.hostname or set(parse_qs(url.query)) - {"endpoint", "region"}:
        raise ImproperlyConfigured(f"{name} must be s3://bucket/prefix?endpoint=…&region=…, not {url.geturl()!r}")
    query = parse_qs(url.query)
    return {
        "BACKEND": "latents.s3.RangedS3Storage",
        "OPTIONS": {
            "bucket_name": url.netloc,
            "location": url.path.strip("/"),
            "endpoint_url": query.get("endpoint", [None])[0],
            "region_name": query.get("region", [None])[0],
            "file_overwrite": False,
            "default_acl": None,
        },
    }


STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "resumeapp.static_files.ModuleStaticFilesStorage"},
    "latents": _storage("REPRISE_LATENTS", REPRISE_DATA / "latents"),
    "audio": _storage("REPRISE_AUDIO", REPRISE_DATA / "audio"),
}

# Jobs

REPRISE_BROKER = env.text("REPRISE_BROKER")
if REPRISE_BROKER and not REPRISE_BROKER.startswith(("redis://", "rediss://", "unix://")):
    raise ImproperlyConfigured(f"REPRISE_BROKER must be redis://host:port/number, not {REPRISE_BROKER!r}")

CACHES = {
    # Drawn waveforms and other pieces of pages, a few kilobytes each.
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 2000}},
    # django-q2 writes its own statistics twice a second: they stay in the process.
    "q_local": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "q_local"},
}

# A message only wakes a worker; rows hold the truth. So it may be lost, repeated or late, and none of it is kept.
Q_CLUSTER: dict[str, Any] = {
    "name": "reprise",  # also the salt of every message: equal everywhere
    "workers": 1,
    "queue_limit": 1,
    "bulk": 1,
    "timeout": None,  # its SIGALRM could strike inside a commit; the worker watches its own deadlines
    "retry": 900,
    "ack_failures": True,
    "max_attempts": 1,  # attempts are counted in the job's row
    "save_limit": -1,
    "recycle": 0,
    "guard_cycle": 0.5,
    "poll": 0.05,  # p99 of the pick-up: 62 ms, for 3.5 % of a core
    "catch_up": False,
    "scheduler": False,
    "cache": "q_local",
    "ALT_CLUSTERS": {variant: {} for variant in REPRISE_MODELS},  # one queue per variant
} | ({"redis": REPRISE_BROKER} if REPRISE_BROKER else {"orm": "default"})
# django-q2 asks for its own timeout, which is left out on purpose above.
warnings.filterwarnings("ignore", message="Retry and timeout are misconfigured")

# Language and time

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True

# What the processes say, on standard error

REPRISE_LOG = env.choice("REPRISE_LOG", "text", ["text", "json"])
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"text": {"()": "resumeapp.logs.TextFormatter"}, "json": {"()": "resumeapp.logs.JsonFormatter"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": REPRISE_LOG}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {
        # Django's own handlers would mail admins and stay silent otherwise.
        "django": {"handlers": [], "level": "INFO", "propagate": True},
        "django.server": {"handlers": [], "level": "INFO", "propagate": True},
        # Scanners ask for foreign hosts all day; the refusal is an answer, not a fault with a traceback.
        "django.security.DisallowedHost": {"level": "CRITICAL"},
        # It tells of every message; the worker itself tells of every job.
        "django-q": {"level": "WARNING"},
    },
}
