"""The services, each its own process. This file keeps `services/token` from shadowing the module `token`."""
