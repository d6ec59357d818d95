"""The userinfo endpoint: what an app may know of the user who let it in, and where it is told how to ask."""
