"""The WSGI application, for any WSGI server in server mode and for `manage.py studio` in local mode."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "resumeapp.settings")
application = get_wsgi_application()
