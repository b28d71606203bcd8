"""Tuning: sweeps over the settings of a learner, and their best as a change for a person to accept."""
