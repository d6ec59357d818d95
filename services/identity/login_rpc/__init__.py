"""The login of the hosted page: the rules of the HTTP routes, for the OpenID provider in federation."""
