"""Where an address is and whose network it is in, by MaxMind-format files; silent without them.

Only for services whose extra has `maxminddb`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import maxminddb
import structlog

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Place:
    """Where an address is, approximately; all empty without a database that knows it."""

    country: str | None = None
    city: str | None = None
    latitude: float | None = None
    longitude: float | None = None

    @property
    def name(self) -> str | None:
        """What people are shown: the city and the country's code, as far as known."""
        return ", ".join(filter(None, (self.city, self.country))) or None


class GeoDatabases:
    """Looks addresses up in files that are read once at start: a newer file needs a restart."""

    def __init__(self, places: Path | None, networks: Path | None) -> None:
        """Open the files that are configured.

        Raises:
            InvalidDatabaseError: a file is not in MaxMind's format.
        """
        self._places = maxminddb.open_database(places) if places else None
        self._networks = maxminddb.open_database(networks) if networks else None

    def place(self, ip: str) -> Place:
        """Return the approximate place of an address; an empty one when it is not known."""
        found = _look_up(self._places, ip)
        location = _part(found, "location")
        latitude, longitude = location.get("latitude"), location.get("longitude")
        return Place(
            country=_text(_part(found, "country").get("iso_code")),
            city=_text(_part(_part(found, "city"), "names").get("en")),
            latitude=float(latitude) if isinstance(latitude, int | float) else None,
            longitude=float(longitude) if isinstance(longitude, int | float) else None,
        )

    def asn(self, ip: str) -> int | None:
        """Return the number of the autonomous system that an address is in; None when it is not known."""
        number = _look_up(self._networks, ip).get("autonomous_system_number")
        return number if isinstance(number, int) else None


def _look_up(reader: maxminddb.Reader | None, ip: str) -> dict[str, Any]:
    if reader is None or not ip:
        return {}
    try:
        found = reader.get(ip)
    except ValueError:  # no address, or an IPv6 one and a file of IPv4 only
        return {}
    except maxminddb.InvalidDatabaseError:
        log.exception("a record of the geographic database cannot be read")
        return {}
    return found if isinstance(found, dict) else {}


def _part(found: dict[str, Any], name: str) -> dict[str, Any]:
    part = found.get(name)
    return part if isinstance(part, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
