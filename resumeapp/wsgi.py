"""The WSGI application: for any WSGI server in server mode, for `manage.py studio` alone in local mode."""

import gc
import os

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

from resumeapp.headers import refuse_unreadable

# `manage.py studio` sets this for the server it starts, after making sure that its address is a loopback one.
STUDIO_MARK = "REPRISE_STARTED_BY_STUDIO"

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "resumeapp.settings")
if settings.REPRISE_MODE == "local" and os.environ.get(STUDIO_MARK) != "1":
    raise ImproperlyConfigured(
        "Local mode knows no login and starts only through `python manage.py studio`. "
        "For another WSGI server set REPRISE_MODE=server."
    )
application = refuse_unreadable(get_wsgi_application())

# Views, forms and models are imported now, before anybody waits for them. They stay for good, so the collector of
# garbage need not look at them again: it took up to a third of a page's time.
get_resolver().url_patterns  # noqa: B018
gc.collect()
gc.freeze()
