"""Back-channel logout: apps are told, until they know, that a login they rely on has ended."""
