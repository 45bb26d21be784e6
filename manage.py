#!/usr/bin/env python
"""Django's command line. `bin/manage` runs it with everything set up."""

import os
import sys

from django.core.management import execute_from_command_line

from base.memory import rare_collections
from portal.environment import BadSetting

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    try:
        with rare_collections():  # looking for garbage took a seventh of a start
            execute_from_command_line(sys.argv)
    except BadSetting as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
