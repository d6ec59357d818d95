"""What a browser may know of a client before anybody logs in."""
