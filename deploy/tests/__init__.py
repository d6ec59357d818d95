"""Tests of what is deployed: the manifests, Compose, the secrets and an image."""
