"""Requests for mail to an address, which are looked at after they were answered."""
