"""The one error of the local system: something the person at the keyboard can put right."""


class LocalError(Exception):
    """A start, stop or lookup failed; the message is one line that says what to do. Shown without a stack."""
