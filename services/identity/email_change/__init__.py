"""Change of the address of an account: confirmed at the new one, and taken back from the old one."""
