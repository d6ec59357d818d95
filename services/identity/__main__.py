"""The command line of identity: `python -m services.identity serve | migrate | migration | openapi`."""

from __future__ import annotations

from chassis.service import main
from services.identity.app import DEFINITION

raise SystemExit(main(DEFINITION))
