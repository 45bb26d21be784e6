"""Django's settings, read from the environment; every default runs on a laptop.

What people change while the portal runs is a row, not a setting. `PORTICO_*` names are public.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from portal import environment as env

BASE_DIR = Path(__file__).resolve().parent.parent
PORTICO_HOME = env.path("PORTICO_HOME", default=BASE_DIR / "var")

DEBUG = env.boolean("PORTICO_DEBUG", default=False)
PORTICO_URL = env.url("PORTICO_URL", default="")
SECRET_KEY = env.secret("PORTICO_SECRET_KEY", file=PORTICO_HOME / "secret-key")
# Encrypts connections' credentials at rest; several, newest first, while a key is being rotated.
PORTICO_ENCRYPTION_KEYS = env.secret("PORTICO_ENCRYPTION_KEYS", file=PORTICO_HOME / "encryption-keys").split()

ALLOWED_HOSTS = env.hosts("PORTICO_ALLOWED_HOSTS", url=PORTICO_URL)
CSRF_TRUSTED_ORIGINS = env.origins(url=PORTICO_URL)
SECURE = PORTICO_URL.startswith("https://")

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "django_htmx",
    "access",
    "catalog",
    "integrations",
    "portal",
    "django.contrib.admin",  # last: the portal's style of its pages comes before its own
]

MIDDLEWARE = [
    "portal.middleware.ProxyMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "portal.middleware.SecurityHeadersMiddleware",
    "portal.middleware.RefuseHostMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "access.middleware.RequestContextMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "portal.middleware.ZoneMiddleware",
    "portal.middleware.RefuseNulMiddleware",
    "portal.middleware.RefuseUnknownParametersMiddleware",
    "portal.views.errors.DomainErrorMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

ROOT_URLCONF = "portal.urls"
WSGI_APPLICATION = "portal.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "portal.shell.context",
            ],
        },
    }
]

DATABASES = {"default": env.database("DATABASE_URL", home=PORTICO_HOME)}
DATABASE_POOL = env.integer("PORTICO_DATABASE_POOL", default=4, maximum=100)  # of a web process; 0: none
# Server-sent events that a process of the web server sends at once; each holds one of its threads.
EVENT_STREAMS = env.integer("PORTICO_EVENT_STREAMS", default=2, maximum=100)
REDIS_URL = env.redis("REDIS_URL", home=PORTICO_HOME)
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "portico",
    }
}

AUTH_USER_MODEL = "access.User"
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LOGIN_URL = "portal:sign-in"
LOGIN_REDIRECT_URL = "portal:home"

# Browsers keep cookies by host, whatever the port: two portals on one host must not overwrite each other's.
_PORTAL = hashlib.sha256(b"cookies of " + SECRET_KEY.encode()).hexdigest()[:8]
SESSION_COOKIE_NAME = f"portico_session_{_PORTAL}"
CSRF_COOKIE_NAME = f"portico_csrf_{_PORTAL}"
SESSION_COOKIE_AGE = 14 * 24 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_SSL_REDIRECT = False  # the proxy that speaks TLS redirects; health checks arrive as plain HTTP
SECURE_HSTS_SECONDS = 31_536_000 if SECURE else 0
SILENCED_SYSTEM_CHECKS = [
    "security.W005",  # what its subdomains speak is not the portal's to promise,
    "security.W021",  # nor for how long browsers hold them to it
    "security.W008",  # SECURE_SSL_REDIRECT, above
]
# Of others `portal.middleware.ProxyMiddleware` removes the headers before anybody reads them.
TRUSTED_PROXIES = env.proxies("PORTICO_TRUST_PROXY")
if TRUSTED_PROXIES:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 2_000

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English")]
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True

STATIC_URL = "static/"
STATIC_ROOT = PORTICO_HOME / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "portal.staticfiles.Storage"},
}

# Mail to people; without a server none goes, and where it could be asked for it is said why not.
EMAIL_HOST, EMAIL_PORT, EMAIL_HOST_USER, EMAIL_HOST_PASSWORD, EMAIL_USE_TLS, EMAIL_USE_SSL = env.smtp(
    "PORTICO_SMTP"
)
DEFAULT_FROM_EMAIL = env.mail_address("PORTICO_MAIL_FROM", is_needed=bool(EMAIL_HOST))
EMAIL_TIMEOUT = 20

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "access.api.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["base.api.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["base.api.JSONParser"],
    "EXCEPTION_HANDLER": "base.api.exception_handler",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Portico",
    "DESCRIPTION": "One software catalog and one timeline over the tools that you already run.",
    "VERSION": "v1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "COMPONENT_NO_READ_ONLY_REQUIRED": True,  # `fields` may take a part of them
    "ENUM_NAME_OVERRIDES": {
        "ChangeOutcomeEnum": ["set", "override", "replace", "same", "held", "forbidden", "unfit"],
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "base.openapi.describe_problems",
        "base.openapi.describe_bodies",
    ],
}

# Hosts and networks, loopback included, that outbound calls may reach besides public ones.
PORTICO_OUTBOUND_ALLOW = env.words("PORTICO_OUTBOUND_ALLOW")
# Folders below which a connector or an import may read local files; the checkout's and the sample company's always.
PORTICO_FILES_ALLOW = [BASE_DIR, PORTICO_HOME / "sample", *env.paths("PORTICO_FILES_ALLOW", default=[])]
# Whether the data are backed up before they are migrated.
PORTICO_BACKUP_BEFORE_MIGRATING = env.boolean("PORTICO_BACKUP_BEFORE_MIGRATING", default=True)
# Packs to load besides packs/core; a later one's definitions replace an earlier one's of the same name.
PORTICO_PACKS = env.paths("PORTICO_PACKS", default=[])

CELERY_BROKER_URL = env.celery_broker(REDIS_URL)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 3600, "queue_order_strategy": "priority"}
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False  # LOGGING below masks secrets; Celery's own set-up would not
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_ROUTES = {
    "integrations.execute_run": {"queue": "sync"},
    "integrations.process_delivery": {"queue": "webhooks"},
    "integrations.execute_operation": {"queue": "operations"},
}
CELERY_BEAT_SCHEDULE = {
    "tick": {"task": "integrations.tick", "schedule": 5.0, "options": {"expires": 10}},
    "render": {"task": "catalog.render_dirty", "schedule": 5.0, "options": {"expires": 5}},
    "bulk": {"task": "catalog.change_many", "schedule": 30.0, "options": {"expires": 20}},
    "kinds": {"task": "catalog.check_kind_changes", "schedule": 10.0, "options": {"expires": 5}},
    "docs": {"task": "integrations.read_docs", "schedule": 20.0, "options": {"expires": 20}},
    "definitions": {"task": "catalog.read_definitions", "schedule": 10.0, "options": {"expires": 10}},
    "windows": {
        "task": "catalog.mark_what_time_changed",
        "schedule": 600.0,
        "options": {"expires": 300},
    },
    "tell": {"task": "portal.tell", "schedule": 10.0, "options": {"expires": 10}},
    "sample": {"task": "portal.sample", "schedule": 30.0, "options": {"expires": 20}},
    "mail": {"task": "portal.send_mail", "schedule": 10.0, "options": {"expires": 20}},
    "forget": {"task": "portal.forget", "schedule": 3600.0, "options": {"expires": 600}},
    "housekeeping": {"task": "integrations.housekeeping", "schedule": 3600.0, "options": {"expires": 600}},
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"secrets": {"()": "base.logs.MaskSecrets"}},
    "formatters": {"line": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["secrets"]}},
    "root": {
        "handlers": ["stderr"],
        "level": env.choice("PORTICO_LOG_LEVEL", ["DEBUG", "INFO", "WARNING"], default="INFO"),
    },
    "loggers": {
        "django.request": {"level": "ERROR"},
        "celery": {"level": "WARNING"},  # else a line or two for each task, several a second
        "httpx2": {"level": "WARNING"},
        "httpcore2": {"level": "WARNING"},
    },
}
