"""The gateway: the one door. It decides who calls, and forwards by contract; it holds nothing durable."""
