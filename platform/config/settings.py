"""Django's settings, made from `config.env`; nothing else reads the process's environment."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import environ
from csp.constants import NONCE, NONE, SELF
from redis.backoff import NoBackoff
from redis.retry import Retry

from config import env as slipway_env
from config import ide
from kernel import observe

ENVIRONMENT = slipway_env.read()
BASE_DIR = slipway_env.ROOT

SECRET_KEY = ENVIRONMENT.secret_key
DEBUG = ENVIRONMENT.debug
SECURE = ENVIRONMENT.portal_url.startswith("https://")
# The gateway is the only one that reaches web; it has already decided which host is the portal.
ALLOWED_HOSTS = [ENVIRONMENT.domain, "127.0.0.1", "[::1]", "localhost", "web", "testserver", *ENVIRONMENT.web_hosts]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "axes",
    "django_prometheus",
    "rest_framework",
    "drf_spectacular",
    "config",
    "accounts",
    "workspaces",
]
MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "kernel.observe.RequestContextMiddleware",
    "kernel.http.BusyDatabaseMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "axes.middleware.AxesMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
    "kernel.http.OneThreadMiddleware",
]
ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASES = {"default": environ.Env.db_url_config(ENVIRONMENT.database_url)}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {
        # A transaction that means to write takes the write lock at once: upgrading later fails without waiting.
        "transaction_mode": "IMMEDIATE",
        "timeout": 10,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;",
    }
else:
    # A folder with a Unix socket is written with %2F, as in libpq's own URIs.
    DATABASES["default"]["HOST"] = unquote(DATABASES["default"].get("HOST", ""))
    DATABASES["default"]["OPTIONS"] = {
        **DATABASES["default"].get("OPTIONS", {}),
        # Requests run on many threads; a pool keeps the number of connections bounded.
        "pool": {"min_size": 1, "max_size": 16, "timeout": 10},
        "options": "-c lock_timeout=10s -c statement_timeout=30s",
    }
DATABASES["default"]["CONN_MAX_AGE"] = 0
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = ENVIRONMENT.redis_url
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        # What is kept can be lost: better to do without than to wait.
        "OPTIONS": {"socket_timeout": 0.5, "socket_connect_timeout": 0.5, "retry": Retry(NoBackoff(), 0)},
    }
}

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.ScryptPasswordHasher"]
LOGIN_URL = "/sign-in"
LOGIN_REDIRECT_URL = "/"
# Guessing is slowed by name and address together, so that nobody can lock a colleague out from elsewhere.
AXES_FAILURE_LIMIT = 8
AXES_COOLOFF_TIME = 0.25
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_HTTP_RESPONSE_CODE = 429
AXES_LOCKOUT_TEMPLATE = "accounts/locked_out.html"
AXES_VERBOSE = False
SILENCED_SYSTEM_CHECKS = [
    # TLS ends in front of the gateway; these follow from the portal's address below.
    "security.W004",
    "security.W008",
    # Whether to be on the browsers' preload list is for the domain's owner to decide.
    "security.W021",
] + ([] if SECURE else ["security.W012", "security.W016"])

SESSION_COOKIE_NAME = "__Host-slipway_session" if SECURE else "slipway_session"
CSRF_COOKIE_NAME = "__Host-slipway_csrf" if SECURE else "slipway_csrf"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_AGE = 14 * 24 * 3600
CSRF_TRUSTED_ORIGINS = [ENVIRONMENT.portal_url]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_HSTS_SECONDS = 31_536_000 if SECURE else 0
# Below the portal there are only workspaces.
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF, NONCE],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        # Chromium applies this to where a form's answer leads: from the sign-in form to a workspace's own host.
        "form-action": [SELF, ENVIRONMENT.portal_url.replace("://", "://*.", 1)],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    },
    # Django's admin brings inline styles of its own.
    "EXCLUDE_URL_PREFIXES": ["/admin/"],
}

DATA_UPLOAD_MAX_MEMORY_SIZE = 64 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 100
FILE_UPLOAD_HANDLERS: list[str] = []

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = ENVIRONMENT.home / "static"
# Files are found where they lie: no collecting step before a start.
WHITENOISE_USE_FINDERS = True

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.authentication.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["kernel.parsers.BoundedJSON"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    # A host may take provider_timeout for each: at the defaults one person keeps half of a process's turns busy.
    "DEFAULT_THROTTLE_RATES": {
        "lookups": f"{ENVIRONMENT.lookups_per_minute}/min",
        "suggestions": f"{ENVIRONMENT.lookups_per_minute}/min",
    },
    "EXCEPTION_HANDLER": "kernel.http.problem_handler",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
    # What a client wants is said by Accept alone.
    "URL_FORMAT_OVERRIDE": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Slipway",
    "DESCRIPTION": "Cloud development environments: the workspace API.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "ENUM_NAME_OVERRIDES": {
        "WorkspaceState": "workspaces.states.State",
        "Intent": "workspaces.states.Desired",
        "TeamRole": "accounts.models.TeamRole",
        "PlatformRole": "accounts.models.PlatformRole",
    },
}
LOGGING_CONFIG = None
observe.configure(ENVIRONMENT.log_format)
PROMETHEUS_EXPORT_MIGRATIONS = False

# Where workspaces may try out what they build, likewise; nowhere without options.
DEV_CLUSTER: dict[str, Any] = {
    "factory": "workspaces.runtime.k8s.devcluster.build",
    "options": ENVIRONMENT.dev_cluster_options,
}
# Where workspaces run: a factory by dotted path, so that services need not know the adapters, and its options.
RUNTIME: dict[str, Any] = {
    "local": {
        "factory": "workspaces.runtime.local.build",
        "options": {
            "home": str(ENVIRONMENT.home),
            "run_dir": str(ENVIRONMENT.run),
            "platform_socket_dir": str(ENVIRONMENT.run / "agents"),
            "node": str(ide.NODE),
            "ide_entry": str(ide.entry(ENVIRONMENT.home)),
            "sandbox": ENVIRONMENT.sandbox,
        },
    },
    "k8s": {"factory": "workspaces.runtime.k8s.build", "options": ENVIRONMENT.kubernetes_options},
    "fake": {
        "factory": "workspaces.runtime.fake.build",
        "options": {"folder": str(ENVIRONMENT.home / "fake")},
    },
}[ENVIRONMENT.runtime]
