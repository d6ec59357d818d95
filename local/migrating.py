"""`python -m local.migrating SERVICE …`: migrates the databases of several services, one after the other.

What `python -m services.<service> migrate` does for one, with that service's own owner of the tables. Most of
that command's time goes into importing what all services share; here it is spent once.
"""

import importlib
import sys
from collections.abc import Iterable

from chassis.service import migrate_database
from local.service_process import module_of


def migrate_each(services: Iterable[str]) -> int:
    """Migrate until one fails; its exit code, 0 when none did."""
    for service in services:
        sys.stderr.write(f"migrating {service}\n")
        code = migrate_database(importlib.import_module(f"{module_of(service)}.app").DEFINITION)
        if code != 0:
            return code
    return 0


if __name__ == "__main__":
    raise SystemExit(migrate_each(sys.argv[1:]))
