"""Properties of email parsing: one normal form, and nothing that mail software could misread."""

from __future__ import annotations

import contextlib
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from services.identity.errors import InvalidEmail
from services.identity.users.email import Email, EmailHasher

addresses = st.builds(
    "{}@{}.{}".format,
    st.from_regex(r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]{1,20}(\.[a-zA-Z0-9]{1,10}){0,2}", fullmatch=True),
    st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True),
    st.sampled_from(["com", "example", "co.uk", "museum"]),
)


@given(addresses)
def test_plain_addresses_are_accepted_as_they_are(address: str) -> None:
    email = Email.parse(address)

    assert email.address == address
    assert email.normalized == address.casefold()
    assert f"{email.local}@{email.domain}" == email.normalized


@given(addresses)
def test_spellings_have_one_normal_form(address: str) -> None:
    spellings = [address.upper(), f"  {address} ", unicodedata.normalize("NFD", address).swapcase()]

    assert {Email.parse(spelling).normalized for spelling in spellings} == {Email.parse(address).normalized}


@given(st.text(max_size=60) | st.builds("{}@{}".format, st.text(max_size=30), st.text(max_size=30)))
def test_whatever_is_accepted_is_one_address_on_one_line_and_stays_itself(typed: str) -> None:
    with contextlib.suppress(InvalidEmail):
        email = Email.parse(typed)
        for text in (email.address, email.normalized):
            assert text.count("@") == 1
            assert not set(text) & set(' \t\r\n\0,;<>()[]":\\')
            assert len(text.encode()) <= 254
        assert email.domain.isascii()
        again = Email.parse(email.address)
        assert (again.address, again.normalized) == (email.address, email.normalized)
        assert Email.parse(email.normalized).normalized == email.normalized


def test_hashes_are_keyed_and_of_the_normal_form() -> None:
    one, other = EmailHasher(b"1" * 32), EmailHasher(b"2" * 32)

    assert one.hash(Email.parse("Ada@Example.com")) == one.hash(Email.parse("ada@example.com"))
    assert one.hash(Email.parse("ada@example.com")) != other.hash(Email.parse("ada@example.com"))
