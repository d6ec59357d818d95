"""Risk: how unusual or suspicious a login looks, and why."""
