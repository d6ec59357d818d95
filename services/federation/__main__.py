"""`python -m services.federation serve | migrate | migration "what" | openapi`."""

from __future__ import annotations

from chassis.service import main
from services.federation.app import DEFINITION

if __name__ == "__main__":
    raise SystemExit(main(DEFINITION))
