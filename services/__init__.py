"""The services, each its own process. This file keeps `services/token` from shadowing the standard library's `token`."""
