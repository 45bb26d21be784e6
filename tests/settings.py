"""The portal's settings as the tests have them: keys and a home of their own, quick password hashes."""

import os
import tempfile

if "PORTICO_HOME" not in os.environ:
    os.environ["PORTICO_HOME"] = tempfile.mkdtemp(prefix="portico-test-")
os.environ.setdefault("PORTICO_SECRET_KEY", "only-for-tests-" + "x" * 50)
os.environ.setdefault("PORTICO_ENCRYPTION_KEYS", "dGVzdHMgb25seSwgMzIgYnl0ZXMgaW4gYmFzZTY0ISE=")

from portal.settings import *  # noqa: F403
from portal.settings import STATIC_ROOT

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # WhiteNoise warns where it is missing
