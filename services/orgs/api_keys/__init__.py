"""API keys of a client: secret ones for servers, publishable ones for browsers and apps."""
