"""Tests of the whole: journeys, contract and faults; and the harness that all tests share."""
