#!/usr/bin/env python
"""Django's command line. `bin/manage` runs it with everything set up."""

import gc
import os
import sys

from django.core.management import execute_from_command_line

from portal.environment import BadSetting

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    # Hardly any of what a command makes is garbage in cycles; looking for it took a seventh of a start.
    gc.set_threshold(50_000, 20, 50)
    try:
        execute_from_command_line(sys.argv)
    except BadSetting as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
