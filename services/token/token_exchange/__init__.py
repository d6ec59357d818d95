"""Token exchange (RFC 8693): an app acts further on, for whom it was called."""
