"""Tests of the chassis, through a tiny service of their own."""
