"""The whole system on a laptop, by one command and without Docker: servers, services, gateway."""
