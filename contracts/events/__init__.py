"""The event catalogue: everything that is audited, by the service that says it.

Fields hold ids and codes; never a secret, never an email address in the clear (`email_hash` is keyed per
installation).
"""

from contracts.events.admins import *
from contracts.events.audit import *
from contracts.events.federation import *
from contracts.events.gateway import *
from contracts.events.identity import *
from contracts.events.orgs import *
from contracts.events.targets import *
from contracts.events.token import *
