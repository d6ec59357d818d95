"""The HTTP face of dynamic client registration (RFC 7591, RFC 7592); `orgs` has the rules and the apps."""
