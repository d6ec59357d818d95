"""CAPTCHA: whether a person is behind a sign-up or a login, by the word of a provider."""
